// Who serves a model: what each asks for it, how often and how fast it answers, and whom to choose for what.
import { Chart } from "../components/chart.js";
import { Select } from "../components/controls.js";
import { ErrorNotice, Loading } from "../components/notices.js";
import { Table } from "../components/table.js";
import { UptimeBars } from "../components/uptime.js";
import { useData } from "../lib/data.js";
import { milliseconds, moment, percent, perMillion, short, speed } from "../lib/format.js";
import { html, useMemo } from "../lib/html.js";
import { BASE, idPath, place, useQuery, withQuery } from "../lib/place.js";

export function ModelProviders({ model }) {
  const path = idPath(model.id);
  const endpoints = useData(`/v1/models/${path}/endpoints`, { everyS: 30 });
  const status = useData("/status", { everyS: 30 });
  const history = useData(`/v1/models/${path}/history?hours=24`, { everyS: 60 });
  const prices = useData(`/v1/models/${path}/prices`);
  if (endpoints.error && !endpoints.data) return html`<${ErrorNotice} error=${endpoints.error} onRetry=${endpoints.reload} />`;
  if (!endpoints.data) return html`<${Loading} what="providers" />`;
  const rows = endpoints.data.data.endpoints.map((endpoint) => ({
    ...endpoint,
    standing: status.data?.providers.find((each) => each.name === endpoint.provider)?.models.find((each) => each.id === model.id),
  }));
  return html`<div class="stack">
    <${Choices} rows=${rows} />
    <${Table} caption="Providers" rows=${rows} keyOf=${(row) => row.tag} columns=${COLUMNS} />
    <${Sizes} rows=${rows} />
    ${history.isLoading && html`<${Loading} what="the last day" />`}
    ${history.data && html`<${Courses} history=${history.data} />`}
    ${history.error && html`<${ErrorNotice} error=${history.error} onRetry=${history.reload} />`}
    ${prices.data && html`<${Prices} prices=${prices.data} />`}
    ${prices.error && html`<${ErrorNotice} error=${prices.error} onRetry=${prices.reload} />`}
  </div>`;
}

const priceOf = (name) => (row) => (row.pricing[name] === null ? null : Number(row.pricing[name]));
const COLUMNS = [
  { name: "provider", title: "Provider", value: (row) => row.provider_name, shown: (row) => html`<strong>${row.provider_name}</strong><br /><span class="soft">${row.reason ?? row.upstream_id ?? row.tag}</span>` },
  { name: "state", title: "State", value: (row) => row.status, shown: (row) => html`<span class=${`tag ${row.standing?.status ?? ""}`}>${row.standing?.status ?? (row.enabled ? "not ready" : "not asked")}</span>` },
  { name: "prompt", title: "In / 1M", isNumber: true, value: priceOf("prompt"), shown: (row) => perMillion(row.pricing.prompt) },
  { name: "completion", title: "Out / 1M", isNumber: true, value: priceOf("completion"), shown: (row) => perMillion(row.pricing.completion) },
  { name: "context", title: "Context", isNumber: true, value: (row) => row.context_length, shown: (row) => short(row.context_length) },
  { name: "quantization", title: "Quantization", value: (row) => row.quantization },
  { name: "latency", title: "Latency p50 / p90", isNumber: true, value: (row) => row.latency_last_30m?.p50 ?? null, shown: (row) => pair(row.latency_last_30m, milliseconds) },
  { name: "throughput", title: "Throughput p50", isNumber: true, value: (row) => row.throughput_last_30m?.p50 ?? null, shown: (row) => speed(row.throughput_last_30m?.p50) },
  { name: "uptime", title: "Uptime 1 d", value: (row) => row.uptime_last_1d, shown: (row) => html`${row.standing && html`<${UptimeBars} hours=${row.standing.hours} label=${row.provider_name} />`}<span>${percent(row.uptime_last_1d)}</span>` },
];
const pair = (spread, format) => (spread ? `${format(spread.p50)} / ${format(spread.p90)}` : "–");

/** Whom to choose for price, latency and throughput, among those who can be asked now. */
function Choices({ rows }) {
  const open = rows.filter((row) => row.enabled && row.status === 0);
  const least = (figure) => {
    const known = open.filter((row) => figure(row) !== null && figure(row) !== undefined);
    return known.length ? known.reduce((a, b) => (figure(b) < figure(a) ? b : a)) : null;
  };
  const price = (row) => (row.pricing.prompt === null ? null : Number(row.pricing.prompt) + Number(row.pricing.completion));
  const found = [
    ["Lowest price", least(price), (row) => `${perMillion(row.pricing.prompt)} in, ${perMillion(row.pricing.completion)} out`],
    ["Lowest latency", least((row) => row.latency_last_30m?.p50), (row) => `${milliseconds(row.latency_last_30m.p50)} to the first token`],
    ["Highest throughput", least((row) => (row.throughput_last_30m ? -row.throughput_last_30m.p50 : null)), (row) => speed(row.throughput_last_30m.p50)],
  ];
  return html`<ul class="choices">${found.map(([title, row, why]) => html`<li class="card">
    <span class="soft">${title}</span>
    ${row ? html`<strong>${row.provider_name}</strong><span>${why(row)}</span><a href=${demoAt(row.provider)}>Use it in the demo</a>` : html`<strong>–</strong><span class="soft">nothing is known yet</span>`}
  </li>`)}</ul>`;
}

const demoAt = (provider) => {
  const { path, query } = place();
  return BASE + withQuery(path, query, { tab: null, provider });
};
const SIZES = ["2k", "4k", "8k", "16k", "32k+"];

/** How prompts of different lengths fared lately. */
function Sizes({ rows }) {
  const known = rows.filter((row) => SIZES.some((size) => row.standing?.latency.by_size[size]));
  if (!known.length) return null;
  return html`<section><h2>By length of the prompt <span class="soft">in the last half hour</span></h2>
    <div class="table-wrap" tabindex="0" role="region" aria-label="By length of the prompt"><table>
      <thead><tr><th scope="col">Provider</th><th scope="col">p50 / p90</th>${SIZES.map((size) => html`<th scope="col" class="num">${size}</th>`)}</tr></thead>
      <tbody>${known.flatMap((row) => [["Latency", "latency", milliseconds], ["Throughput", "throughput", speed]].map(([title, name, format]) => html`<tr>
        <th scope="row">${row.provider_name}</th><td>${title}</td>
        ${SIZES.map((size) => html`<td class="num">${pair(row.standing[name].by_size[size], format)}</td>`)}
      </tr>`))}</tbody>
    </table></div>
  </section>`;
}

const PERCENTILES = ["p50", "p75", "p90", "p99"].map((name) => [name, name]);
const LENGTHS = [["", "Any length"], ...SIZES.map((size) => [size, size])];

/** A day by the hour, of one percentile, and of prompts of any length or one. */
function Courses({ history }) {
  const [size, setSize] = useQuery("size");
  const [percentile, setPercentile] = useQuery("percentile", "p50");
  const { times, latency, throughput } = useMemo(() => coursesOf(history, size, percentile), [history, size, percentile]);
  return html`<section aria-label="Latency and throughput over time">
    <div class="filters">
      <${Select} label="Length of the prompt" value=${size} onChange=${setSize} options=${LENGTHS} />
      <${Select} label="Percentile" value=${percentile} onChange=${setPercentile} options=${PERCENTILES} />
    </div>
    ${times.length
      ? html`<div class="charts">
          <${Chart} title=${`Time to the first token, ${percentile} of each hour`} times=${times} lines=${latency} format=${milliseconds} />
          <${Chart} title=${`Tokens per second, ${percentile} of each hour`} times=${times} lines=${throughput} format=${short} />
        </div>`
      : html`<p class="soft">${size ? "No prompt of this length was asked in a day." : "Charts of latency and throughput begin with the first requests."}</p>`}
  </section>`;
}

function coursesOf(history, size, percentile) {
  const providers = history.data;
  const starts = [...new Set(providers.flatMap((each) => each.hours.map((bucket) => bucket.from)))].sort();
  const figure = (bucket, measure) => (size ? bucket.by_size[size] : bucket)?.[measure]?.[percentile] ?? null;
  const line = (each, measure) => {
    const known = new Map(each.hours.map((bucket) => [bucket.from, figure(bucket, measure)]));
    return { label: each.provider, values: starts.map((start) => known.get(start) ?? null) };
  };
  const isKnown = providers.some((each) => each.hours.some((bucket) => figure(bucket, "latency") !== null));
  return {
    times: isKnown ? starts.map((start) => Date.parse(start) / 1000) : [],
    latency: providers.map((each) => line(each, "latency")),
    throughput: providers.map((each) => line(each, "throughput")),
  };
}

function Prices({ prices }) {
  const rows = prices.data;
  const { times, lines } = useMemo(() => priceCourses(rows), [rows]);
  if (!rows.length) return null;
  const change = (name) => (row) => html`${row.old && row.old[name] !== row.new?.[name] ? html`<del>${inDollars(row.old[name])}</del> ` : null}${row.new ? inDollars(row.new[name]) : "no longer offered"}`;
  return html`<section class="stack" aria-label="Prices"><h2>Prices as they were</h2>
    <${Chart} title="Dollars per million tokens" times=${times} lines=${lines} format=${inDollars} isStepped />
    <${Table} caption="Prices as they were" rows=${rows} keyOf=${(row) => `${row.provider} ${row.offer} ${row.at}`} columns=${[
      { name: "at", title: "Since", value: (row) => row.at, shown: (row) => moment(row.at) },
      { name: "provider", title: "Provider", value: (row) => row.provider, shown: (row) => (row.via ? `${row.provider}, via ${row.via}` : row.provider) },
      { name: "prompt", title: "In / 1M", isNumber: true, value: (row) => Number(row.new?.prompt ?? NaN), shown: change("prompt") },
      { name: "completion", title: "Out / 1M", isNumber: true, value: (row) => Number(row.new?.completion ?? NaN), shown: change("completion") },
      { name: "source", title: "From", value: (row) => SOURCES[row.source] ?? row.source },
    ]} />
  </section>`;
}

const inDollars = (value) => (Number(value) === 0 ? "$0" : perMillion(Number(value) / 1e6));

/** Of each offer, from its first price until now. Changes come newest first. */
function priceCourses(rows) {
  const now = Date.now() / 1000;
  const times = [...new Set(rows.map((row) => Date.parse(row.at) / 1000)), now].sort((a, b) => a - b);
  const nameOf = (row) => (row.via ? `${row.provider}, via ${row.via}` : row.provider);
  const line = (name, kind) => {
    const changes = rows.filter((row) => nameOf(row) === name);
    return times.map((time) => {
      const last = changes.find((row) => Date.parse(row.at) / 1000 <= time)?.new;
      return last ? Number(last[kind]) : null;
    });
  };
  const names = [...new Set(rows.map(nameOf))].sort();
  return { times, lines: names.flatMap((name) => [["in", "prompt"], ["out", "completion"]].map(([word, kind]) => ({ label: `${name} ${word}`, values: line(name, kind) }))) };
}

const SOURCES = { offline: "the catalog", live: "the provider's list", manual: "the operator" };
