// One model's page: what it is and costs, and five ways to look at it.
import { CopyButton, Tabs } from "../components/controls.js";
import { ErrorNotice, Loading } from "../components/notices.js";
import { useData } from "../lib/data.js";
import { number, perMillion } from "../lib/format.js";
import { html, useCallback, useEffect, useState } from "../lib/html.js";
import { BASE, idPath, useQuery } from "../lib/place.js";

const TABS = [["demo", "Demo"], ["api", "API"], ["providers", "Providers"], ["benchmarks", "Benchmarks"], ["readme", "README"]];
const LOADS = {
  demo: async () => (await import("../chat/demo.js")).Demo,
  api: async () => (await import("./model_api.js")).ModelApi,
  providers: async () => (await import("./model_providers.js")).ModelProviders,
  benchmarks: async () => (await import("./model_benchmarks.js")).ModelBenchmarks,
  readme: async () => (await import("./model_readme.js")).ModelReadme,
};

export function Model({ rest, session }) {
  const model = useData(`/v1/models/${idPath(rest)}`, { everyS: 60 });
  const [asked, setTab] = useQuery("tab", "demo");
  const tab = LOADS[asked] ? asked : "demo";
  if (model.error && !model.data) {
    return html`<${ErrorNotice} error=${model.error} onRetry=${model.reload} /><p><a href="${BASE}/models">All models</a></p>`;
  }
  if (!model.data) return html`<${Loading} what=${rest} />`;
  return html`<article>
    <${Head} model=${model.data} />
    <${Tabs} label="About this model" tabs=${TABS} value=${tab} onChange=${(name) => setTab(name, { push: true })}>
      <${Part} key=${tab} name=${tab} model=${model.data} session=${session} />
    <//>
  </article>`;
}

function Head({ model }) {
  const isReady = model.available === 1;
  return html`<header class="model-head">
    <div>
      <p class="soft"><a href="${BASE}/models">Models</a> / ${model.owned_by}</p>
      <h1>${model.name}</h1>
      <div class="row"><code>${model.id}</code><${CopyButton} text=${model.id} label="Copy id" /></div>
    </div>
    <dl class="figures">
      <div><dt>Context</dt><dd>${number(model.context_length)}</dd></div>
      <div><dt>/ 1M input tokens</dt><dd>${perMillion(model.pricing.prompt)}</dd></div>
      <div><dt>/ 1M output tokens</dt><dd>${perMillion(model.pricing.completion)}</dd></div>
    </dl>
    <ul class="tags">
      <li class=${`tag ${isReady ? "good" : ""}`}>${isReady ? "ready" : model.enabled ? "not ready" : "not served here"}</li>
      ${model.providers.map((name) => html`<li class="tag">${name === "local" ? "this machine" : name}</li>`)}
      ${model.license && html`<li class="tag">${model.license}</li>`}
    </ul>
  </header>`;
}

function Part({ name, model, session }) {
  const [part, setPart] = useState(null);
  const [error, setError] = useState(null);
  const load = useCallback(() => {
    setError(null);
    LOADS[name]().then((found) => setPart(() => found), setError);
  }, [name]);
  useEffect(load, [load]);
  if (error) return html`<${ErrorNotice} error=${error} onRetry=${load} />`;
  return part ? html`<${part} model=${model} session=${session} />` : html`<${Loading} what="this tab" />`;
}
