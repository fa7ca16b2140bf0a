// How an answer came about: speed, cost, tokens, who gave it and why, and what filters said.
import { Dialog } from "../components/controls.js";
import { dollars, milliseconds, number, perMillion, speed as shownSpeed } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { flagged, Safety } from "./safety.js";

export function AnswerFacts({ node, speed }) {
  const [isOpen, setIsOpen] = useState(false);
  const { usage } = node;
  if (!usage && !node.provider && !node.filter) return null;
  const facts = [
    usage && [`${number(usage.completion_tokens)} tokens`, `${number(usage.prompt_tokens)} in the prompt${usage.prompt_tokens_details?.cached_tokens ? `, ${usage.prompt_tokens_details.cached_tokens} of them cached` : ""}`],
    speed !== null && [shownSpeed(speed), "Tokens per second after the first"],
    usage && [`${milliseconds(usage.time_to_first_token_ms)} to first`, "Time to the first token, at the server"],
    usage && usage.cost !== undefined && [dollars(usage.cost), "Cost"],
    node.provider && [node.provider === "local" ? "this machine" : node.provider, "Provider"],
    node.finish && node.finish !== "stop" && [FINISHES[node.finish] ?? node.finish, "Why it ended"],
  ].filter(Boolean);
  return html`<div class="row answer-facts">
    ${facts.map(([text, title]) => html`<span class="tag" title=${title}>${text}</span>`)}
    ${flagged(node.filter).map((name) => html`<span class="tag bad">${name}</span>`)}
    ${(node.route || node.filter) && html`<button class="quiet" type="button" onClick=${() => setIsOpen(true)}>Details</button>`}
    ${isOpen && html`<${Dialog} title="How this answer came about" onClose=${() => setIsOpen(false)} isDrawer>
      ${node.route && html`<${Route} route=${node.route} />`}
      ${node.filter && html`<${Safety} filter=${node.filter} />`}
    <//>`}
  </div>`;
}

const FINISHES = { length: "cut at max_tokens", stopped: "stopped", tool_calls: "calls tools", content_filter: "filtered", error: "broken off" };

/** A route as the API explains it: who was a candidate, who was asked, and what came of it. */
export function Route({ route }) {
  return html`<section><h3>Route</h3>
    <p>Chosen by: ${route.policy}.</p>
    <div class="table-wrap"><table>
      <thead><tr><th scope="col">Candidate</th><th scope="col" class="num">In / 1M</th><th scope="col" class="num">Out / 1M</th><th scope="col">Left out because</th></tr></thead>
      <tbody>${route.candidates.map((each) => html`<tr><th scope="row">${each.provider}</th><td class="num">${perMillion(each.pricing.prompt)}</td>
        <td class="num">${perMillion(each.pricing.completion)}</td><td>${each.excluded ?? "–"}</td></tr>`)}</tbody>
    </table></div>
    <h3>Attempts</h3>
    <ol class="attempts">${route.attempts.map((each) => html`<li>
      <strong>${each.provider}</strong> <span class=${`tag ${each.outcome === "answered" ? "good" : "warn"}`}>${each.outcome}</span>
      <span class="soft"> began at ${milliseconds(each.began_ms)}, first token at ${milliseconds(each.first_token_ms)}, ended at ${milliseconds(each.ended_ms)}; ${number(each.completion_tokens)} tokens, ${dollars(each.cost)}</span>
      ${each.error && html`<p class="field-error">${each.status ? `${each.status}: ` : ""}${each.error}</p>`}
    </li>`)}</ol>
  </section>`;
}
