// Tables that can be sorted by their columns.
import { html, useState } from "../lib/html.js";

/** `columns`: {name, title, value(row), shown?(row), isNumber?}. `value` sorts, `shown` is seen. */
export function Table({ caption, columns, rows, keyOf, initial = null, onRow }) {
  const [sort, setSort] = useState(initial);
  const column = sort && columns.find((each) => each.name === sort.name);
  const sorted = column ? [...rows].sort((a, b) => (sort.isDown ? -1 : 1) * compared(column.value(a), column.value(b))) : rows;
  const turn = (name) => setSort((now) => ({ name, isDown: now?.name === name ? !now.isDown : false }));
  const order = (name) => (sort?.name === name ? (sort.isDown ? "descending" : "ascending") : "none");
  return html`<div class="table-wrap" tabindex="0" role="region" aria-label=${caption}>
    <table>
      <caption class="visually-hidden">${caption}</caption>
      <thead><tr>
        ${columns.map((each) => html`<th scope="col" class=${each.isNumber ? "num" : ""} aria-sort=${each.value ? order(each.name) : undefined}>
          ${each.value ? html`<button class="sort" type="button" onClick=${() => turn(each.name)}>${each.title}${ARROWS[order(each.name)]}</button>` : each.title}
        </th>`)}
      </tr></thead>
      <tbody>
        ${sorted.map((row) => html`<tr key=${keyOf(row)} class=${onRow ? "is-link" : ""} onClick=${onRow && (() => onRow(row))}>
          ${columns.map((each) => html`<td class=${each.isNumber ? "num" : ""}>${each.shown ? each.shown(row) : each.value(row)}</td>`)}
        </tr>`)}
      </tbody>
    </table>
  </div>`;
}

const ARROWS = { none: "", ascending: " ↑", descending: " ↓" };

/** What is missing comes last. */
function compared(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return 1;
  if (b === null || b === undefined) return -1;
  return typeof a === "string" ? a.localeCompare(b) : a - b;
}
