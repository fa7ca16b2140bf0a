// What is said when there is nothing to show yet, nothing at all, or something went wrong.
import { html } from "../lib/html.js";
import { Icon } from "./icons.js";

export function Loading({ what }) {
  return html`<p class="loading" role="status"><span class="spinner" aria-hidden="true"></span>Loading ${what} …</p>`;
}

export function Empty({ title, children }) {
  return html`<div class="empty"><h2>${title}</h2>${children}</div>`;
}

/** An error in the server's words, and what to do next. */
export function ErrorNotice({ error, onRetry }) {
  const advice = error.advice ?? "Load the page again.";
  return html`<div class="notice is-error" role="alert">
    <${Icon} name="warning" />
    <div>
      <p>${error.message}</p>
      <p class="soft">${advice}${error.requestId ? html` <span class="mono">(${error.requestId})</span>` : null}</p>
    </div>
    ${onRetry && html`<button onClick=${onRetry}>Try again</button>`}
  </div>`;
}

export function Notice({ kind = "info", children }) {
  return html`<div class=${`notice is-${kind}`} role="status">
    <${Icon} name=${kind === "warning" ? "warning" : "info"} /><div>${children}</div>
  </div>`;
}
