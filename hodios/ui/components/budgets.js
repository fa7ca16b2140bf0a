// What is left of budgets, as gauges.
import { dollars, moment } from "../lib/format.js";
import { html } from "../lib/html.js";

const PERIODS = [["total", "In all"], ["daily", "Today"], ["weekly", "This week"], ["monthly", "This month"]];

export function Budgets({ budget, usage, name }) {
  const shown = PERIODS.filter(([period]) => budget[period] !== null);
  if (!shown.length) return null;
  return html`<ul class="budgets">${shown.map(([period, title]) => {
    const [spent, limit] = [Number(usage[period].spent), Number(budget[period])];
    const share = limit > 0 ? Math.min(1, spent / limit) : 1;
    const resets = usage[period].resets_at;
    return html`<li>
      <span class="soft">${title}</span>
      <meter min="0" max="1" low="0.75" high="0.9" optimum="0" value=${share} aria-label=${`${name}, ${title}: ${Math.round(share * 100)} % spent`}></meter>
      <span>${dollars(spent)} of ${dollars(limit)}${resets ? html`<span class="soft"> · anew ${moment(resets)}</span>` : null}</span>
    </li>`;
  })}</ul>`;
}
