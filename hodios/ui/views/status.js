// How everything is doing, and how it has been for a day.
import { ErrorNotice, Loading } from "../components/notices.js";
import { UptimeBars } from "../components/uptime.js";
import { useData } from "../lib/data.js";
import { ago, milliseconds, moment, percent, speed } from "../lib/format.js";
import { html } from "../lib/html.js";
import { BASE, modelPath } from "../lib/place.js";

const WORDS = { operational: "Everything answers as it should", degraded: "Some of it is not as it should be", down: "Nothing answers" };

export function Status() {
  const status = useData("/status", { everyS: 10 });
  if (status.error && !status.data) return html`<${ErrorNotice} error=${status.error} onRetry=${status.reload} />`;
  if (!status.data) return html`<${Loading} what="the status" />`;
  const { data } = status;
  return html`<section class="stack" aria-labelledby="status-title">
    <header class="page-head"><h1 id="status-title">Status</h1></header>
    <div class=${`banner ${data.status}`} role="status"><strong>${WORDS[data.status]}</strong><span>as of ${ago(data.updated_at)}</span></div>
    ${status.error && html`<${ErrorNotice} error=${status.error} onRetry=${status.reload} />`}
    ${data.providers.map((provider) => html`<${Provider} key=${provider.name} provider=${provider} />`)}
    ${!data.providers.length && html`<p class="soft">Nobody serves a model here yet.</p>`}
    <${HeatMap} providers=${data.providers} />
    <${Incidents} incidents=${data.incidents} />
  </section>`;
}

function Provider({ provider }) {
  const title = provider.name === "local" ? "This machine" : provider.name;
  return html`<section class="card" aria-label=${title}>
    <header class="row is-spread"><h2>${title}</h2><span class=${`tag ${provider.status}`}>${provider.status}</span></header>
    ${provider.reachable === false && html`<p class="warning">The last probe did not reach it.</p>`}
    <ul class="standings">${provider.models.map((model) => html`<${Standing} key=${model.id} model=${model} />`)}</ul>
  </section>`;
}

function Standing({ model }) {
  return html`<li>
    <div class="standing-name"><a href="${BASE}${modelPath(model.id)}?tab=providers">${model.id}</a> <span class=${`tag ${model.status}`}>${model.status}</span>
      ${[...model.reasons, ...model.warnings.map((each) => each.message)].map((reason) => html`<p class="warning">${reason}</p>`)}</div>
    <${UptimeBars} hours=${model.hours} label=${model.id} />
    <dl class="figures">
      <div><dt>Uptime 5m / 30m / 1d</dt><dd>${["5m", "30m", "1d"].map((span) => percent(model.uptime[span])).join(" / ")}</dd></div>
      <div><dt>First token p50 / p90</dt><dd>${milliseconds(model.latency.overall?.p50)} / ${milliseconds(model.latency.overall?.p90)}</dd></div>
      <div><dt>Throughput p50${trendOf(model.trend.throughput)}</dt><dd>${speed(model.throughput.overall?.p50)}</dd></div>
    </dl>
  </li>`;
}

const trendOf = (ratio) => (ratio === null || Math.abs(ratio - 1) < 0.05 ? "" : ratio > 1 ? " ↑" : " ↓");
const SIZES = ["2k", "4k", "8k", "16k", "32k+"];

/** Latency by who is asked and how long the prompt is: the darker, the slower. */
function HeatMap({ providers }) {
  const rows = providers.flatMap((provider) => provider.models.map((model) => ({ name: `${provider.name} · ${model.id}`, sizes: model.latency.by_size })));
  const known = rows.filter((row) => SIZES.some((size) => row.sizes[size]));
  if (!known.length) return null;
  const all = known.flatMap((row) => SIZES.map((size) => row.sizes[size]?.p50).filter((value) => value != null));
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const level = (value) => (value == null ? "none" : high === low ? 1 : 1 + Math.round((4 * Math.log(value / low)) / Math.log(high / low)));
  return html`<section><h2>Latency by length of the prompt <span class="soft">in the last half hour</span></h2>
    <div class="table-wrap" tabindex="0" role="region" aria-label="Latency by length of the prompt"><table class="heat">
      <thead><tr><th scope="col">Who</th>${SIZES.map((size) => html`<th scope="col" class="num">${size}</th>`)}</tr></thead>
      <tbody>${known.map((row) => html`<tr><th scope="row">${row.name}</th>${SIZES.map((size) => html`<td class=${`num heat-${level(row.sizes[size]?.p50)}`}>${milliseconds(row.sizes[size]?.p50)}</td>`)}</tr>`)}</tbody>
    </table></div>
  </section>`;
}

function Incidents({ incidents }) {
  return html`<section><h2>Incidents</h2>
    ${incidents.length
      ? html`<ol class="timeline">${incidents.map((each) => html`<li class=${each.ended_at ? "" : "is-open"}>
        <time datetime=${each.began_at}>${moment(each.began_at)}</time>
        <strong>${each.provider} · ${each.model}</strong>
        <span>${each.ended_at ? `was not asked until ${moment(each.ended_at)}` : "is not asked at the moment"}${each.ejections > 1 ? `, taken out ${each.ejections} times` : ""}</span>
        ${each.reason && html`<span class="soft">${each.reason}</span>`}
      </li>`)}</ol>`
      : html`<p class="soft">None in the time that is kept.</p>`}
  </section>`;
}
