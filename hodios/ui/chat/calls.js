// Calls of tools, as cards: what the model wants to know, and a place for a person to answer it.
import { Code } from "../components/text.js";
import { html, useState } from "../lib/html.js";

export function Calls({ node, chat, isLast }) {
  const [results, setResults] = useState({});
  const canAnswer = isLast && !node.isRunning && !chat.isRunning;
  const isWhole = node.calls.every((call) => (results[call.id] ?? "").trim());
  const send = () => chat.result(node, node.calls.map((call) => [call.id, results[call.id]]));
  return html`<div class="calls">
    ${node.calls.map((call) => html`<section class="call" aria-label=${`Call of ${call.function.name}`}>
      <header class="row"><strong class="mono">${call.function.name}</strong><span class="soft mono">${call.id}</span></header>
      <${Code} code=${written(call.function.arguments)} language="json" title="Arguments" />
      ${canAnswer && html`<textarea aria-label=${`Result of ${call.function.name}`} rows="2" placeholder="What the tool answers"
        value=${results[call.id] ?? ""} onInput=${(event) => setResults({ ...results, [call.id]: event.currentTarget.value })}></textarea>`}
    </section>`)}
    ${canAnswer && html`<button class="primary" type="button" onClick=${send} disabled=${!isWhole}>Send ${node.calls.length === 1 ? "the result" : "all results"}</button>`}
  </div>`;
}

/** Arguments as they come are cut anywhere; whole ones are indented. */
function written(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
