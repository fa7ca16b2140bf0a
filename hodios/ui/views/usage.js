// What was asked and what it came to: sums, single requests, and what they suggest.
import { Chart } from "../components/chart.js";
import { Select, Tabs } from "../components/controls.js";
import { Empty, ErrorNotice, Loading } from "../components/notices.js";
import { Table } from "../components/table.js";
import { query as withQuery } from "../lib/api.js";
import { useData } from "../lib/data.js";
import { dollars, milliseconds, number, short } from "../lib/format.js";
import { html, useMemo } from "../lib/html.js";
import { useQuery } from "../lib/place.js";
import { RequestLog } from "./request_log.js";

const TABS = [["sums", "Sums"], ["requests", "Requests"]];
const ADVICE = ["advice", "Recommendations"];
const BY = [["model", "Model"], ["provider", "Provider"], ["key", "Key"], ["project", "Project"], ["user", "User"], ["day", "Day"]];
const FIELDS = { model: "model", provider: "provider_name", key: "key_id", project: "project_id", user: "user", day: "date" };

export function Usage({ session }) {
  const [tab, setTab] = useQuery("tab", "sums");
  const isAdmin = session.role === "admin";
  return html`<section aria-labelledby="usage-title">
    <header class="page-head"><h1 id="usage-title">Usage</h1><p class="soft">${isAdmin ? "Of all keys." : "Of your key."}</p></header>
    <${Tabs} label="Usage" tabs=${isAdmin ? [...TABS, ADVICE] : TABS} value=${tab} onChange=${(name) => setTab(name, { push: true })}>
      ${tab === "requests" ? html`<${RequestLog} isAdmin=${isAdmin} />` : tab === "advice" && isAdmin ? html`<${Advice} />` : html`<${Sums} isAdmin=${isAdmin} />`}
    <//>
  </section>`;
}

function Sums({ isAdmin }) {
  const [days, setDays] = useQuery("days", "30");
  const [by, setBy] = useQuery("by", "model");
  const from = useMemo(() => new Date(Date.now() - Number(days) * 86_400_000).toISOString().slice(0, 10), [days]);
  const daily = useData(withQuery("/v1/activity", { by: "day", from }), { everyS: 30 });
  const sums = useData(withQuery("/v1/activity", { by, from }), { everyS: 30 });
  const kinds = isAdmin ? BY : BY.filter(([name]) => name !== "key" && name !== "project");
  return html`<div class="stack">
    <div class="filters">
      <${Select} label="Time" value=${days} onChange=${setDays} options=${[["1", "Today and yesterday"], ["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["365", "A year"]]} />
      <${Select} label="By" value=${by} onChange=${setBy} options=${kinds} />
    </div>
    ${daily.error && html`<${ErrorNotice} error=${daily.error} onRetry=${daily.reload} />`}
    ${daily.isLoading && html`<${Loading} what="sums" />`}
    ${daily.data && html`<${Totals} rows=${daily.data.data} /><${Courses} rows=${daily.data.data} from=${from} />`}
    ${sums.data && html`<${SumTable} rows=${sums.data.data} by=${by} />`}
  </div>`;
}

const total = (rows, name) => rows.reduce((sum, row) => sum + (row[name] ?? 0), 0);

function Totals({ rows }) {
  const requests = total(rows, "requests");
  const errors = total(rows, "errors");
  return html`<dl class="totals">
    <div class="card"><dt>Spend</dt><dd>${dollars(total(rows, "usage"))}</dd></div>
    <div class="card"><dt>Requests</dt><dd>${number(requests)}</dd></div>
    <div class="card"><dt>Tokens in</dt><dd>${short(total(rows, "prompt_tokens"))}</dd></div>
    <div class="card"><dt>Tokens out</dt><dd>${short(total(rows, "completion_tokens"))}</dd></div>
    <div class="card"><dt>Errors</dt><dd>${number(errors)}<span class="soft"> ${requests ? `${((errors * 100) / requests).toFixed(1)} %` : ""}</span></dd></div>
  </dl>`;
}

function Courses({ rows, from }) {
  const { times, spend, requests, tokens, latency } = useMemo(() => coursesOf(rows, from), [rows, from]);
  return html`<div class="charts">
    <${Chart} title="Spend by day" times=${times} lines=${spend} format=${dollars} />
    <${Chart} title="Requests by day" times=${times} lines=${requests} format=${short} />
    <${Chart} title="Tokens by day" times=${times} lines=${tokens} format=${short} />
    <${Chart} title="Mean latency by day" times=${times} lines=${latency} format=${milliseconds} />
  </div>`;
}

/** Every day has its place, those without requests too. */
function coursesOf(rows, from) {
  const known = new Map(rows.map((row) => [row.date.slice(0, 10), row]));
  const days = [];
  for (let at = Date.parse(from); at <= Date.now(); at += 86_400_000) days.push(new Date(at).toISOString().slice(0, 10));
  const line = (label, name, missing) => ({ label, values: days.map((day) => known.get(day)?.[name] ?? missing) });
  return {
    times: days.map((day) => Date.parse(day) / 1000),
    spend: [line("Spend", "usage", 0)],
    requests: [line("Requests", "requests", 0), line("Errors", "errors", 0)],
    tokens: [line("In", "prompt_tokens", 0), line("Out", "completion_tokens", 0)],
    latency: [line("Answer", "latency_ms", null), line("First token", "time_to_first_token_ms", null)],
  };
}

function SumTable({ rows, by }) {
  if (!rows.length) return html`<${Empty} title="Nothing was asked in this time"><p>Requests appear here within a few seconds.</p><//>`;
  const title = BY.find(([name]) => name === by)?.[1] ?? by;
  const field = FIELDS[by];
  const columns = [
    { name: "group", title, value: (row) => row[field], shown: (row) => row[field] ?? "–" },
    { name: "usage", title: "Spend", isNumber: true, value: (row) => row.usage, shown: (row) => dollars(row.usage) },
    { name: "requests", title: "Requests", isNumber: true, value: (row) => row.requests, shown: (row) => number(row.requests) },
    { name: "prompt", title: "Tokens in", isNumber: true, value: (row) => row.prompt_tokens, shown: (row) => short(row.prompt_tokens) },
    { name: "cached", title: "Cached", isNumber: true, value: (row) => row.cached_tokens, shown: (row) => short(row.cached_tokens) },
    { name: "completion", title: "Tokens out", isNumber: true, value: (row) => row.completion_tokens, shown: (row) => short(row.completion_tokens) },
    { name: "errors", title: "Errors", isNumber: true, value: (row) => row.errors, shown: (row) => number(row.errors) },
    { name: "filtered", title: "Filtered", isNumber: true, value: (row) => row.filtered, shown: (row) => number(row.filtered) },
    { name: "latency", title: "Latency", isNumber: true, value: (row) => row.latency_ms, shown: (row) => milliseconds(row.latency_ms) },
  ];
  return html`<${Table} caption=${`Sums by ${title}`} rows=${rows} columns=${columns} keyOf=${(row) => String(row[field])} initial=${{ name: "usage", isDown: true }} />
    <${Csv} name=${`hodios-usage-by-${by}.csv`} rows=${rows} />`;
}

/** What is shown, as a file. Text that a spreadsheet would take for a formula gets an apostrophe. */
function Csv({ name, rows }) {
  const save = () => {
    const names = Object.keys(rows[0]);
    const cell = (value) => {
      const text = value === null || value === undefined ? "" : String(value);
      const plain = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
      return /[",\n\r]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
    };
    const csv = [names.join(","), ...rows.map((row) => names.map((each) => cell(row[each])).join(","))].join("\r\n");
    const url = URL.createObjectURL(new Blob([csv], { type: "text/csv" }));
    Object.assign(document.createElement("a"), { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
  return html`<p><button type="button" onClick=${save}>Download as CSV</button></p>`;
}

function Advice() {
  const advice = useData("/admin/v1/recommendations");
  if (advice.error) return html`<${ErrorNotice} error=${advice.error} onRetry=${advice.reload} />`;
  if (!advice.data) return html`<${Loading} what="recommendations" />`;
  if (!advice.data.data.length) return html`<${Empty} title="Nothing to recommend"><p>What was asked lately could not have been had for less, or sooner, by much.</p><//>`;
  const saved = total(advice.data.data, "saving");
  return html`<div class="stack narrow">
    ${saved > 0 && html`<p>Together they would have saved <strong>${dollars(saved)}</strong>.</p>`}
    <ul class="advice">${advice.data.data.map((each) => html`<li class="card"><span>${each.message}</span>${each.saving ? html`<strong class="tag good">${dollars(each.saving)}</strong>` : null}</li>`)}</ul>
  </div>`;
}
