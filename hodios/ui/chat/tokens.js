// An answer token by token: how likely each was, and what might have stood there instead.
import { html, useState } from "../lib/html.js";

const LEVELS = [0.9, 0.5, 0.1];

export function Tokens({ tokens }) {
  const [at, setAt] = useState(null);
  const seen = at === null ? null : tokens[at];
  return html`<div class="tokens">
    <p class="token-text" role="group" aria-label="Tokens" onMouseLeave=${() => setAt(null)}>
      ${tokens.map((token, each) => html`<button type="button" class=${`token level-${levelOf(token.logprob)}`} key=${each}
        aria-label=${`${token.token}, ${shown(token.logprob)}`} onMouseEnter=${() => setAt(each)} onFocus=${() => setAt(each)}>${visible(token.token)}</button>`)}
    </p>
    <div class="alternatives" role="status">
      ${seen
        ? html`<strong class="mono">${visible(seen.token)}</strong>
          <table><tbody>${seen.top_logprobs.map((other) => html`<tr class=${other.token === seen.token ? "is-chosen" : ""}>
            <th scope="row" class="mono">${visible(other.token)}</th><td class="num">${shown(other.logprob)}</td>
            <td><meter min="0" max="1" value=${Math.exp(other.logprob)} aria-label=${shown(other.logprob)}></meter></td></tr>`)}</tbody></table>`
        : html`<span class="soft">Point at a token, or move to it with Tab, to see its alternatives.</span>`}
    </div>
  </div>`;
}

const levelOf = (logprob) => {
  const found = LEVELS.findIndex((least) => Math.exp(logprob) >= least);
  return found < 0 ? LEVELS.length : found;
};
const shown = (logprob) => `${(Math.exp(logprob) * 100).toFixed(1)} %`;
const visible = (text) => text.replaceAll("\n", "⏎\n").replaceAll("\t", "⇥");
