// The models of this machine: what is installed, what is loaded, and what it takes.
import { TextField } from "../components/controls.js";
import { Empty, ErrorNotice, Loading } from "../components/notices.js";
import { call } from "../lib/api.js";
import { useData } from "../lib/data.js";
import { bytes, number, short, speed } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { BASE, modelPath } from "../lib/place.js";

const MODELS = "/admin/v1/local/models";
const PULLS = "/admin/v1/local/pulls";

export function Local() {
  const models = useData(MODELS, { everyS: 2 });
  const pulls = useData(PULLS, { everyS: 2 });
  const [failure, setFailure] = useState(null);
  const act = async (method, path, body) => {
    setFailure(null);
    try {
      await call(method, path, { body });
    } catch (error) {
      setFailure(error);
    }
    await Promise.all([models.reload(), pulls.reload()]);
  };
  return html`<section class="stack" aria-labelledby="local-title">
    <header class="page-head"><h1 id="local-title">Local models</h1><p class="soft">GGUF files that run on this machine's processor.</p></header>
    <${Pull} onPull=${(source) => act("POST", PULLS, { source })} />
    ${failure && html`<${ErrorNotice} error=${failure} />`}
    ${pulls.data?.data.map((pull) => html`<${Progress} key=${pull.id} pull=${pull} onCancel=${() => act("DELETE", `${PULLS}/${pull.id}`)} />`)}
    ${models.error && !models.data && html`<${ErrorNotice} error=${models.error} onRetry=${models.reload} />`}
    ${models.isLoading && html`<${Loading} what="local models" />`}
    ${models.data && !models.data.data.length && html`<${Empty} title="No model is installed"><p>Pull one from the hub, or run <code>hodios pull</code>.</p><//>`}
    ${models.data?.data.map((model) => html`<${Installed} key=${model.id} model=${model}
      onTurn=${() => act("POST", `${MODELS}/${model.id}/${model.loaded ? "unload" : "load"}`, {})} />`)}
  </section>`;
}

function Pull({ onPull }) {
  const [source, setSource] = useState("");
  const submit = (event) => {
    event.preventDefault();
    onPull(source.trim());
    setSource("");
  };
  return html`<form class="card pull" onSubmit=${submit}>
    <${TextField} label="Pull a model" value=${source} onChange=${setSource} placeholder="NousResearch/Hermes-2-Pro-Llama-3-8B" hint="An id of the catalog, a repository of the hub with GGUF files, or the address of a file." />
    <button class="primary" disabled=${!source.trim()}>Pull</button>
  </form>`;
}

function Progress({ pull, onCancel }) {
  const isOpen = pull.state === "running";
  return html`<div class="card pull-progress">
    <div class="row is-spread"><strong>${pull.source}</strong>
      <span class="row"><span class=${`tag ${pull.state === "failed" ? "bad" : pull.state === "done" ? "good" : ""}`}>${pull.state}</span>
        ${isOpen && html`<button type="button" onClick=${onCancel}>Cancel</button>`}</span></div>
    ${isOpen && html`<progress max=${pull.total_bytes ?? undefined} value=${pull.total_bytes ? pull.bytes : undefined} aria-label=${`Pulling ${pull.source}`}></progress>
      <span class="soft">${bytes(pull.bytes)} of ${bytes(pull.total_bytes)}${pull.bytes_per_s ? `, ${bytes(pull.bytes_per_s)}/s` : ""}</span>`}
    ${pull.error && html`<p class="field-error">${pull.error}</p>`}
  </div>`;
}

function Installed({ model, onTurn }) {
  const { engine } = model;
  return html`<article class="card local-model" aria-label=${model.id}>
    <header class="row is-spread">
      <div><a href=${BASE + modelPath(model.id)}><strong>${model.id}</strong></a> <span class=${`tag ${STATES[model.state] ?? ""}`}>${model.state}</span></div>
      <button type="button" onClick=${onTurn} disabled=${model.state === "loading"}>${model.loaded ? "Unload" : "Load"}</button>
    </header>
    ${model.error && html`<p class="warning">${model.error}</p>`}
    <p class="soft">${[bytes(model.size_bytes), model.quantization, model.context_length && `${number(model.context_length)} tokens of context`].filter(Boolean).join(" · ")}</p>
    ${engine && html`<div class="gauges">
      <${Gauge} label="KV cache" value=${engine.kv_blocks_used} most=${engine.kv_blocks_total} text=${`${short(engine.kv_blocks_used)} of ${short(engine.kv_blocks_total)} blocks`} />
      <${Gauge} label="Answers at work" value=${engine.running} most=${engine.max_sequences} text=${`${engine.running} of ${engine.max_sequences}`} />
      <${Gauge} label="Waiting" value=${engine.waiting} most=${engine.max_queue} text=${`${engine.waiting} of ${engine.max_queue}`} />
      <dl class="figures"><div><dt>Memory</dt><dd>${bytes(engine.memory_bytes)}</dd></div><div><dt>Now</dt><dd>${speed(engine.tokens_per_s)}</dd></div></dl>
    </div>`}
  </article>`;
}

const STATES = { ready: "good", loading: "warn", failed: "bad", restarting: "warn" };

function Gauge({ label, value, most, text }) {
  return html`<div class="gauge"><span class="soft">${label}</span>
    <meter min="0" max=${most || 1} low=${(most || 1) * 0.75} high=${(most || 1) * 0.9} optimum="0" value=${value} aria-label=${`${label}: ${text}`}></meter><span>${text}</span></div>`;
}
