// Uptime as a row of bars, one for each hour, and in words for those who cannot see it.
import { percent } from "../lib/format.js";
import { html } from "../lib/html.js";

/** `hours`: what /status says of each hour, oldest first. */
export function UptimeBars({ hours, label }) {
  const known = hours.filter((hour) => hour.uptime !== null);
  const worst = known.length ? Math.min(...known.map((hour) => hour.uptime)) : null;
  const words = known.length ? `lowest hour ${percent(worst)}` : "nothing was asked";
  return html`<div class="uptime" role="img" aria-label=${`${label}, the last ${hours.length} hours: ${words}`}>
    ${hours.map((hour) => html`<span class=${`bar ${levelOf(hour.uptime)}`} title=${titleOf(hour)}></span>`)}
  </div>`;
}

const levelOf = (uptime) => (uptime === null ? "none" : uptime >= 99 ? "good" : uptime >= 95 ? "warn" : "bad");

function titleOf(hour) {
  const at = new Date(hour.from).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return hour.uptime === null ? `${at}: nothing asked` : `${at}: ${percent(hour.uptime)} of ${hour.attempts} attempts`;
}
