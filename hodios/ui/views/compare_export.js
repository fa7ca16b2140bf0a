// A comparison as Markdown, for an issue or a report.
import { speedOf } from "../chat/answer.js";
import { dollars, milliseconds, speed } from "../lib/format.js";

export function markdownOf(prompt, chosen, answers) {
  const cell = (text) => String(text).replaceAll("|", "\\|").replaceAll("\n", " ");
  const rows = chosen.map((each, at) => {
    const answer = answers[at];
    const { usage } = answer;
    const figures = [milliseconds(usage?.time_to_first_token_ms), speed(speedOf(answer)), usage?.completion_tokens ?? "–", dollars(usage?.cost)];
    return `| ${[each.label, answer.provider ?? "–", ...figures].map(cell).join(" | ")} |`;
  });
  const table = ["| who | provider | first token | speed | tokens | cost |", "|---|---|---|---|---|---|", ...rows].join("\n");
  const texts = chosen.map((each, at) => `## ${each.label}\n\n${answers[at].content || answers[at].error?.message || "(nothing)"}`);
  return `# Comparison\n\n${prompt.split("\n").map((line) => `> ${line}`).join("\n")}\n\n${table}\n\n${texts.join("\n\n")}\n`;
}
