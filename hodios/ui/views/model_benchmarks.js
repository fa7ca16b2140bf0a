// The tables that were published with a model, as the catalog has them, and beside them what was measured here.
import { Empty, ErrorNotice, Notice } from "../components/notices.js";
import { useData } from "../lib/data.js";
import { counted, moment, number } from "../lib/format.js";
import { html, useMemo } from "../lib/html.js";
import { idPath } from "../lib/place.js";

export function ModelBenchmarks({ model }) {
  const evals = useData(`/v1/models/${idPath(model.id)}/evals`, { everyS: 60 });
  const tables = [...(model.card?.benchmarks ?? []), ...(model.card?.series?.benchmarks ?? [])];
  const runs = evals.data?.data ?? [];
  const own = useMemo(() => newestOf(runs), [evals.data]);
  return html`<div class="benchmarks">
    ${evals.error && html`<${ErrorNotice} error=${evals.error} onRetry=${evals.reload} />`}
    ${evals.data?.refused.map((each) => html`<${Notice} kind="warning">${each.message}<//>`)}
    ${tables.map((table) => html`<${Benchmark} table=${table} own=${own} />`)}
    ${!tables.length && !runs.length && !evals.isLoading && html`<${Empty} title="No figures were published with this model">
      <p>Nothing was measured here yet either. Results of lm-evaluation-harness appear here once they lie in <code>HODIOS_HOME/evals</code>.</p><//>`}
    ${runs.length > 0 && html`<h2>Measured here</h2>`}
    ${runs.map((run) => html`<${Benchmark} key=${run.file} table=${tableOf(run)} own=${NOTHING} />`)}
  </div>`;
}

const NOTHING = new Map();
const nameOf = (row) => `${row.task}/${row.metric}`;

/** The newest figure of each task and metric, as they are, without a filter's doing if there is such a one. */
function newestOf(runs) {
  const found = new Map();
  for (const run of runs) {
    for (const row of run.results) {
      const known = found.get(nameOf(row));
      if (!known || (known.run === run && known.row.filter && !row.filter)) found.set(nameOf(row), { run, row });
    }
  }
  return found;
}

/** A run in the shape of a published table. */
function tableOf(run) {
  const [first] = run.results;
  const isOneCount = first.num_samples !== null && run.results.every((row) => row.num_samples === first.num_samples);
  return {
    name: run.at ? moment(run.at) : run.file,
    average: null,
    results: run.results.map((row) => ({ ...row, metric: row.filter ? `${row.metric}, ${row.filter}` : row.metric })),
    note: isOneCount ? `${counted(first.num_samples, "sample")} of each task.` : run.limit !== null ? `Limited to ${number(run.limit)} of each task.` : "",
    source: run.file,
  };
}

function Benchmark({ table, own }) {
  const { results } = table;
  const hasError = results.some((row) => row.standard_error !== null);
  const hasOwn = results.some((row) => own.has(nameOf(row)));
  const others = [...new Set(results.flatMap((row) => Object.keys(row.others ?? {})))];
  const highest = Math.max(...results.map((row) => row.value));
  const whole = highest <= 1 ? 1 : 100;
  return html`<section class="card" aria-label=${table.name}>
    <h3>${table.name}${table.average !== null ? html`<span class="soft"> · average ${number(table.average)}</span>` : null}</h3>
    <div class="table-wrap" tabindex="0" role="region" aria-label=${table.name}><table>
      <thead><tr>
        <th scope="col">Task</th><th scope="col">Metric</th><th scope="col" class="num">Value</th>
        ${hasError && html`<th scope="col" class="num">± error</th>`}
        ${hasOwn && html`<th scope="col" class="num">Measured here</th>`}
        ${others.map((name) => html`<th scope="col" class="num">${name}</th>`)}
      </tr></thead>
      <tbody>${results.map((row) => html`<tr>
        <th scope="row">${row.task}${row.num_shots !== null ? html`<span class="soft"> ${row.num_shots}-shot</span>` : null}</th>
        <td>${row.metric || "–"}</td>
        <td class="num"><meter min="0" max=${whole} value=${row.value} aria-label=${`${row.task}: ${row.value}`}></meter> ${exact(row.value, hasError)}</td>
        ${hasError && html`<td class="num">${row.standard_error === null ? "–" : exact(row.standard_error, true)}</td>`}
        ${hasOwn && html`<td class="num"><${Own} found=${own.get(nameOf(row))} whole=${whole} /></td>`}
        ${others.map((name) => html`<td class="num">${row.others[name] ?? "–"}</td>`)}
      </tr>`)}</tbody>
    </table></div>
    ${(table.note || table.source) && html`<p class="hint">${[table.note, table.source && `Source: ${table.source}`].filter(Boolean).join(" ")}</p>`}
  </section>`;
}

/** Our figure on the scale of the table: the harness writes shares, some tables per cents. */
function Own({ found, whole }) {
  if (!found) return "–";
  const { row, run } = found;
  const scale = whole === 100 && row.value <= 1 ? 100 : 1;
  const written = (value) => (scale === 100 ? (value * 100).toFixed(2) : exact(value, true));
  return html`<span title=${`${run.at ? moment(run.at) : ""} ${run.file}`.trim()}>${written(row.value)}${row.standard_error === null ? null : html`<span class="soft"> ± ${written(row.standard_error)}</span>`}</span>`;
}

/** With the four places that such tables are printed with. */
const exact = (value, hasError) => (hasError && Number(value) <= 1 ? Number(value).toFixed(4) : value);
