// One prompt to several models, versions or providers at once, and what sets them apart.
import { asked, NEW_ANSWER, speedOf } from "../chat/answer.js";
import { AnswerFacts } from "../chat/answer_facts.js";
import { bodyOf } from "../chat/body.js";
import { Panel } from "../chat/panel.js";
import { mistakesIn, queryOf, settingsIn } from "../chat/settings.js";
import { CopyButton, Dialog, IconButton, TextArea } from "../components/controls.js";
import { Empty, ErrorNotice, Loading } from "../components/notices.js";
import { Table } from "../components/table.js";
import { Markdown } from "../components/text.js";
import { useData } from "../lib/data.js";
import { differences } from "../lib/difference.js";
import { dollars, milliseconds, percent, perMillion, short, speed } from "../lib/format.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib/html.js";
import { BASE, go, modelPath, place, usePlace, withQuery } from "../lib/place.js";
import { markdownOf } from "./compare_export.js";

const MOST = 4;

export function Compare() {
  const models = useData("/v1/models?enabled=1");
  if (models.error && !models.data) return html`<${ErrorNotice} error=${models.error} onRetry=${models.reload} />`;
  if (!models.data) return html`<${Loading} what="models" />`;
  const rows = models.data.data.filter((model) => model.type !== "embedding");
  if (!rows.length) {
    return html`<${Empty} title="There is nothing to compare yet"><p>Set the key of a provider, or load a model under <a href="${BASE}/local">local models</a>.</p><//>`;
  }
  return html`<${Comparison} models=${rows} />`;
}

/** What can be asked: each model by itself, and at each of its providers. */
function subjectsOf(models) {
  return models.flatMap((model) => [
    { id: model.id, label: model.name, model, provider: "" },
    ...(model.providers.length > 1 ? model.providers.map((provider) => ({ id: `${model.id}@${provider}`, label: `${model.name} at ${provider}`, model, provider })) : []),
  ]);
}

function Comparison({ models }) {
  const { query } = usePlace();
  const subjects = useMemo(() => subjectsOf(models), [models]);
  const settings = useMemo(() => settingsIn(query), [query]);
  const mistakes = mistakesIn(settings);
  const asks = (query.getAll("with").length ? query.getAll("with") : subjects.slice(0, 2).map((each) => each.id)).slice(0, MOST);
  const chosen = asks.map((id) => subjects.find((each) => each.id === id) ?? subjects[0]);
  const [prompt, setPrompt] = useState(query.get("prompt") ?? "");
  const [isPanelOpen, setIsPanelOpen] = useState(false);
  const { answers, isRunning, run, stop } = useAnswers();
  const choose = (ids) => {
    const next = new URLSearchParams(place().query);
    next.delete("with");
    for (const id of ids) next.append("with", id);
    go(`/compare?${next}`, { replace: true });
  };
  const set = (name, value) => go(withQuery("/compare", place().query, queryOf(name, value)), { replace: true });
  const send = () => {
    go(withQuery("/compare", place().query, { prompt }), { replace: true });
    const turns = [{ role: "user", content: prompt }];
    run(chosen.map((each) => bodyOf(each.model.id, { ...settings, stream: true, provider: each.provider }, turns)));
  };
  return html`<section aria-labelledby="compare-title">
    <header class="page-head row is-spread"><div><h1 id="compare-title">Compare</h1><p class="soft">The same prompt to two, three or four at once.</p></div>
      <div class="row">
        <${CopyButton} text=${() => window.location.href} label="Copy link" />
        ${answers.length > 0 && html`<${CopyButton} text=${() => markdownOf(prompt, chosen, answers)} label="Copy as Markdown" />`}
      </div>
    </header>
    <div class="compare-ask card">
      <${TextArea} label="Prompt" rows=${3} value=${prompt} onChange=${setPrompt} placeholder="Ask all of them the same" />
      <div class="row">
        ${isRunning ? html`<button class="danger" type="button" onClick=${stop}>Stop</button>`
          : html`<button class="primary" type="button" onClick=${send} disabled=${!prompt.trim() || Object.keys(mistakes).length > 0}>Ask all</button>`}
        <button type="button" onClick=${() => setIsPanelOpen(true)}>Settings</button>
        <button type="button" onClick=${() => choose([...asks, subjects[asks.length % subjects.length].id])} disabled=${asks.length >= MOST}>Add another</button>
      </div>
    </div>
    <div class="lanes lanes-${chosen.length}">
      ${chosen.map((each, at) => html`<${Lane} key=${at} at=${at} subject=${each} subjects=${subjects} answer=${answers[at]} canLeave=${asks.length > 2}
        onChoose=${(id) => choose(asks.map((old, other) => (other === at ? id : old)))} onLeave=${() => choose(asks.filter((_, other) => other !== at))} />`)}
    </div>
    ${answers.length > 1 && !isRunning && html`<${Outcome} chosen=${chosen} answers=${answers} />`}
    <${Catalog} chosen=${chosen} />
    ${isPanelOpen && html`<${Dialog} title="Settings for all" onClose=${() => setIsPanelOpen(false)} isDrawer>
      <${Panel} model=${{ ...chosen[0].model, providers: [] }} settings=${settings} mistakes=${mistakes} onChange=${set} /><//>`}
  </section>`;
}

/** Several answers at work; drawn together, once for each frame. */
function useAnswers() {
  const [answers, setAnswers] = useState([]);
  const [isRunning, setIsRunning] = useState(false);
  const control = useRef(null);
  useEffect(() => () => control.current?.abort(), []);
  const run = async (bodies) => {
    control.current = new AbortController();
    const latest = bodies.map((body) => ({ ...NEW_ANSWER, request: body }));
    let frame = 0;
    const draw = () => {
      frame = 0;
      setAnswers([...latest]);
    };
    setIsRunning(true);
    draw();
    const onChange = (at) => (answer) => {
      latest[at] = answer;
      frame ||= requestAnimationFrame(draw);
    };
    await Promise.all(bodies.map((body, at) => asked(body, { signal: control.current.signal, onChange: onChange(at) })));
    cancelAnimationFrame(frame);
    draw();
    setIsRunning(false);
  };
  return { answers, isRunning, run, stop: () => control.current?.abort() };
}

function Lane({ at, subject, subjects, answer, canLeave, onChoose, onLeave }) {
  return html`<article class="card lane" aria-label=${subject.label} aria-busy=${answer?.isRunning ?? false}>
    <header class="row is-spread">
      <select aria-label=${`Model ${at + 1}`} value=${subject.id} onChange=${(event) => onChoose(event.currentTarget.value)}>
        ${subjects.map((each) => html`<option value=${each.id} selected=${each.id === subject.id}>${each.label}</option>`)}
      </select>
      ${canLeave && html`<${IconButton} icon="close" label=${`Remove ${subject.label}`} onClick=${onLeave} />`}
    </header>
    <div class="lane-text" tabindex="0">
      ${answer ? html`<${Markdown} text=${answer.content} />` : html`<p class="soft">Nothing asked yet.</p>`}
      ${answer?.calls.map((call) => html`<pre>${call.function.name}(${call.function.arguments})</pre>`)}
      ${answer?.isRunning && html`<p class="loading" role="status"><span class="spinner" aria-hidden="true"></span>writing</p>`}
    </div>
    ${answer?.error && html`<div class="notice is-error" role="alert"><div><p>${answer.error.message}</p><p class="soft">${answer.error.advice}</p></div></div>`}
    ${answer && !answer.isRunning && html`<${AnswerFacts} node=${answer} speed=${speedOf(answer)} />`}
  </article>`;
}

function Outcome({ chosen, answers }) {
  const [isOpen, setIsOpen] = useState(false);
  const rows = chosen.map((each, at) => ({ label: each.label, answer: answers[at] })).filter((row) => row.answer);
  const columns = [
    { name: "label", title: "Who", value: (row) => row.label },
    { name: "first", title: "First token", isNumber: true, value: (row) => row.answer.usage?.time_to_first_token_ms, shown: (row) => milliseconds(row.answer.usage?.time_to_first_token_ms) },
    { name: "speed", title: "Speed", isNumber: true, value: (row) => speedOf(row.answer), shown: (row) => speed(speedOf(row.answer)) },
    { name: "took", title: "In all", isNumber: true, value: (row) => row.answer.usage?.latency_ms, shown: (row) => milliseconds(row.answer.usage?.latency_ms) },
    { name: "tokens", title: "Tokens", isNumber: true, value: (row) => row.answer.usage?.completion_tokens },
    { name: "cost", title: "Cost", isNumber: true, value: (row) => row.answer.usage?.cost, shown: (row) => dollars(row.answer.usage?.cost) },
  ];
  return html`<section class="stack"><h2>How they did</h2>
    <${Table} caption="How they did" rows=${rows} columns=${columns} keyOf=${(row) => row.label} />
    <details onToggle=${(event) => setIsOpen(event.currentTarget.open)}><summary>Differences from the first</summary>
      ${isOpen && rows.slice(1).map((row) => html`<h3>${row.label}</h3><${Difference} from=${rows[0].answer.content} to=${row.answer.content} />`)}
    </details>
  </section>`;
}

function Difference({ from, to }) {
  const parts = useMemo(() => differences(from, to), [from, to]);
  return html`<p class="difference">${parts.map(({ kind, text }) => (kind === "same" ? text : kind === "added" ? html`<ins>${text}</ins>` : html`<del>${text}</del>`))}</p>`;
}

/** What the catalog knows of them, and how they have been doing. */
function Catalog({ chosen }) {
  const status = useData("/status", { everyS: 30 });
  const standing = (each) => {
    const found = (status.data?.providers ?? []).filter((provider) => !each.provider || provider.name === each.provider);
    return found.flatMap((provider) => provider.models).find((model) => model.id === each.model.id);
  };
  const facts = [
    ["Price in / 1M", (each) => perMillion(each.model.pricing.prompt)],
    ["Price out / 1M", (each) => perMillion(each.model.pricing.completion)],
    ["Context", (each) => short(each.model.context_length)],
    ["Longest answer", (each) => short(each.model.max_output_tokens)],
    ["Providers", (each) => each.provider || each.model.providers.join(", ")],
    ["Quantization", (each) => each.model.quantization ?? "–"],
    ["Parameters", (each) => short(each.model.num_parameters)],
    ["Tools", (each) => (each.model.supported_parameters.includes("tools") ? "yes" : "no")],
    ["Images", (each) => (each.model.input_modalities.includes("image") ? "yes" : "no")],
    ["Licence", (each) => each.model.license ?? "–"],
    ["Latency p50", (each) => milliseconds(standing(each)?.latency.overall?.p50)],
    ["Throughput p50", (each) => speed(standing(each)?.throughput.overall?.p50)],
    ["Uptime 1 d", (each) => percent(standing(each)?.uptime["1d"])],
  ];
  return html`<section><h2>What is known of them</h2>
    <div class="table-wrap" tabindex="0" role="region" aria-label="What is known of them"><table>
      <thead><tr><th scope="col"><span class="visually-hidden">Fact</span></th>${chosen.map((each) => html`<th scope="col"><a href=${BASE + modelPath(each.model.id)}>${each.label}</a></th>`)}</tr></thead>
      <tbody>${facts.map(([name, of]) => html`<tr><th scope="row">${name}</th>${chosen.map((each) => html`<td>${of(each)}</td>`)}</tr>`)}</tbody>
    </table></div>
  </section>`;
}
