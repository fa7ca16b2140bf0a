// What guards said of a prompt and of an answer: which ran, what they found, and at what nobody has looked.
import { milliseconds } from "../lib/format.js";
import { html } from "../lib/html.js";

const SIDES = [["prompt", "What you wrote"], ["document", "What tools and documents said"], ["answer", "What the model wrote"], ["code", "Code in it"]];
const PROBLEMS = {
  guard_busy: "had too much to do",
  guard_late: "took too long",
  not_all_read: "was not shown all of it",
  guard_unavailable: "could not be asked",
};
const words = (name) => name.replaceAll("_", " ");

/** The slots in which something was found. */
export function flagged(filter) {
  return Object.entries(filter?.results ?? {}).filter(([, value]) => value.filtered || value.detected).map(([name]) => words(name));
}

export function Safety({ filter }) {
  const guards = filter.details?.guards ?? [];
  return html`<section class="safety" aria-label="Safety"><h3>Safety</h3>
    <ul class="tags">${Object.entries(filter.results).map(([name, value]) => html`<${Slot} name=${name} value=${value} isMissing=${filter.details?.not_evaluated?.includes(name)} />`)}</ul>
    ${SIDES.map(([side, title]) => html`<${Side} key=${side} title=${title} guards=${guards.filter((guard) => guard.side === side)} />`)}
    ${filter.details && !guards.length && html`<p class="soft">No guard has looked at this.</p>`}
  </section>`;
}

function Slot({ name, value, isMissing }) {
  const [kind, said] = value.filtered ? ["bad", "filtered"] : value.detected ? ["warn", "detected"] : isMissing ? ["", "not looked at"] : ["good", "clear"];
  return html`<li class=${`tag ${kind}`}>${words(name)}: ${said}</li>`;
}

function Side({ title, guards }) {
  if (!guards.length) return null;
  return html`<h4>${title}</h4>
    <div class="table-wrap"><table>
      <thead><tr><th scope="col">Guard</th><th scope="col">Category</th><th scope="col">Score</th><th scope="col" class="num">Took</th></tr></thead>
      <tbody>${guards.map((guard) => html`<${Guard} guard=${guard} />`)}</tbody>
    </table></div>`;
}

/** One row for each category, the highest score first. */
function Guard({ guard }) {
  const scores = Object.entries({ ...guard.scores, ...guard.further }).sort(([, one], [, other]) => other - one);
  const rows = scores.length ? scores : [[null, null]];
  return rows.map(([name, score], at) => html`<tr>
    ${at === 0 && html`<th scope="rowgroup" rowspan=${rows.length} title=${guard.version ? `Version ${guard.version}` : undefined}>${words(guard.name)}
      ${guard.problem && html`<p class="field-error">${PROBLEMS[guard.problem] ?? guard.problem}</p>`}</th>`}
    <td>${name === null ? "nothing" : words(name)}</td>
    <td>${score === null ? "–" : html`<meter min="0" max="1" high="0.5" optimum="0" value=${score} aria-label=${score.toFixed(2)}></meter> ${score.toFixed(2)}`}</td>
    ${at === 0 && html`<td class="num" rowspan=${rows.length}>${milliseconds(guard.ms)}</td>`}
  </tr>`);
}

/** Why nothing, or no more, is shown: the prompt was refused, or the answer was ended. */
export function Blocked({ node }) {
  const isPrompt = node.error?.code === "content_filter";
  if (!isPrompt && node.finish !== "content_filter") return null;
  const scores = Object.entries(node.error?.metadata?.blocked ?? {});
  const names = scores.length ? scores.map(([name, score]) => `${words(name)} (${score.toFixed(2)})`) : flagged(node.filter);
  const cause = names.length ? `: ${names.join(", ")}` : "";
  return html`<div class="notice is-warning blocked" role="alert"><div>
    <p>${isPrompt ? `The content filter did not let this message pass${cause}. No model was asked.` : `The content filter ended this answer${cause}.`}</p>
    <p class="soft">${isPrompt
      ? "Edit the message and send it again. What is blocked, and from which score, stands in the filter policy of your key."
      : "What comes before has passed the filter. Ask in another way, or have the filter policy of your key changed."}</p>
  </div></div>`;
}
