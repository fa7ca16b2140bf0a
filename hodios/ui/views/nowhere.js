// A path that means nothing.
import { html } from "../lib/html.js";
import { BASE } from "../lib/place.js";

export function Nowhere({ rest }) {
  return html`<div class="empty"><h1>There is no page ${rest}</h1><p><a href="${BASE}/models">All models</a></p></div>`;
}
