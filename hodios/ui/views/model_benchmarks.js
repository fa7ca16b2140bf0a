// The tables that were published with a model, as the catalog has them.
import { Empty } from "../components/notices.js";
import { number } from "../lib/format.js";
import { html } from "../lib/html.js";

export function ModelBenchmarks({ model }) {
  const tables = [...(model.card?.benchmarks ?? []), ...(model.card?.series?.benchmarks ?? [])];
  if (!tables.length) return html`<${Empty} title="No figures were published with this model"><p>Nothing was measured here yet either.</p><//>`;
  return html`<div class="benchmarks">
    ${tables.map((table) => html`<${Benchmark} table=${table} />`)}
  </div>`;
}

function Benchmark({ table }) {
  const { results } = table;
  const hasError = results.some((row) => row.standard_error !== null);
  const others = [...new Set(results.flatMap((row) => Object.keys(row.others ?? {})))];
  const highest = Math.max(...results.map((row) => row.value));
  const whole = highest <= 1 ? 1 : 100;
  return html`<section class="card">
    <h3>${table.name}${table.average !== null ? html`<span class="soft"> · average ${number(table.average)}</span>` : null}</h3>
    <div class="table-wrap" tabindex="0" role="region" aria-label=${table.name}><table>
      <thead><tr>
        <th scope="col">Task</th><th scope="col">Metric</th><th scope="col" class="num">Value</th>
        ${hasError && html`<th scope="col" class="num">± error</th>`}
        ${others.map((name) => html`<th scope="col" class="num">${name}</th>`)}
      </tr></thead>
      <tbody>${results.map((row) => html`<tr>
        <th scope="row">${row.task}${row.num_shots !== null ? html`<span class="soft"> ${row.num_shots}-shot</span>` : null}</th>
        <td>${row.metric || "–"}</td>
        <td class="num"><meter min="0" max=${whole} value=${row.value} aria-label=${`${row.task}: ${row.value}`}></meter> ${exact(row.value, hasError)}</td>
        ${hasError && html`<td class="num">${row.standard_error === null ? "–" : exact(row.standard_error, true)}</td>`}
        ${others.map((name) => html`<td class="num">${row.others[name] ?? "–"}</td>`)}
      </tr>`)}</tbody>
    </table></div>
    ${(table.note || table.source) && html`<p class="hint">${[table.note, table.source && `Source: ${table.source}`].filter(Boolean).join(" ")}</p>`}
  </section>`;
}

/** With the four places that such tables are printed with. */
const exact = (value, hasError) => (hasError && Number(value) <= 1 ? Number(value).toFixed(4) : value);
