// The gallery: every model that is known, with who serves it, its price, and how fast and how often it answers.
import { Select, Segments, Switch, TextField } from "../components/controls.js";
import { Empty, ErrorNotice, Loading } from "../components/notices.js";
import { useData } from "../lib/data.js";
import { counted, milliseconds, percent, perMillion, short } from "../lib/format.js";
import { html, useMemo } from "../lib/html.js";
import { BASE, modelPath, useQuery } from "../lib/place.js";

const SORTS = [["name", "Name"], ["price", "Price, low first"], ["context", "Context, long first"], ["latency", "Latency, low first"], ["uptime", "Uptime, high first"]];

export function Models() {
  const models = useData("/v1/models?enabled=all", { everyS: 30 });
  const status = useData("/status", { everyS: 30 });
  return html`<section aria-labelledby="models-title">
    <header class="page-head">
      <h1 id="models-title">Models</h1>
      <p class="soft">Everything that answers here, and everything that could.</p>
    </header>
    ${models.error && html`<${ErrorNotice} error=${models.error} onRetry=${models.reload} />`}
    ${models.isLoading && html`<${Loading} what="models" />`}
    ${models.data && html`<${Gallery} entries=${models.data.data} status=${status.data} />`}
  </section>`;
}

function Gallery({ entries, status }) {
  const [words, setWords] = useQuery("q");
  const [where, setWhere] = useQuery("where", "all");
  const [family, setFamily] = useQuery("family");
  const [provider, setProvider] = useQuery("provider");
  const [context, setContext] = useQuery("context");
  const [most, setMost] = useQuery("max_price");
  const [tools, setTools] = useQuery("tools");
  const [vision, setVision] = useQuery("vision");
  const [sort, setSort] = useQuery("sort", "name");
  const facts = useMemo(() => entries.map((entry) => factsOf(entry, status)), [entries, status]);
  const wanted = { words, where, family, provider, context: Number(context) || 0, most: most === "" ? null : Number(most), tools, vision };
  const shown = facts.filter((each) => isWanted(each, wanted)).sort(ORDERS[sort] ?? ORDERS.name);
  return html`
    <form class="filters" role="search" aria-label="Models" onSubmit=${(event) => event.preventDefault()}>
      <${TextField} label="Search" type="search" value=${words} onChange=${setWords} placeholder="Name, author or family" />
      <${Select} label="Family" value=${family} onChange=${setFamily} options=${choices(facts.map((each) => each.family), "All families")} />
      <${Select} label="Provider" value=${provider} onChange=${setProvider} options=${choices(facts.flatMap((each) => each.providers), "All providers")} />
      <${Select} label="Context" value=${context} onChange=${setContext}
        options=${[["", "Any length"], ["8192", "8K or more"], ["32768", "32K or more"], ["131072", "128K or more"]]} />
      <${TextField} label="At most $/1M in" type="number" min="0" step="0.01" value=${most} onChange=${setMost} placeholder="Any price" />
      <${Select} label="Sort" value=${sort} onChange=${setSort} options=${SORTS} />
      <${Switch} label="Calls tools" value=${tools === "1"} onChange=${(on) => setTools(on ? "1" : "")} />
      <${Switch} label="Sees images" value=${vision === "1"} onChange=${(on) => setVision(on ? "1" : "")} />
      <${Segments} label="Where" value=${where} onChange=${setWhere}
        options=${[["all", "All"], ["ready", "Ready"], ["local", "This machine"], ["remote", "Providers"]]} />
    </form>
    <p class="soft" role="status">${counted(shown.length, "model")}</p>
    ${shown.length
      ? html`<ul class="gallery">${shown.map((each) => html`<${Card} key=${each.id} facts=${each} />`)}</ul>`
      : html`<${Empty} title="No model is like that"><p>Take a filter away, or <a href="${BASE}/models">show all</a>.</p><//>`}
  `;
}

function Card({ facts }) {
  const { entry } = facts;
  return html`<li class=${facts.isReady ? "card model-card" : "card model-card is-away"}>
    <a class="model-name" href=${BASE + modelPath(facts.id)}><span class="soft">${facts.author}</span>${facts.name}</a>
    <p class="model-text">${entry.description}</p>
    <ul class="tags" aria-label="Kind">
      <li class=${`tag ${facts.state}`}>${STATE_WORDS[facts.state]}</li>
      ${facts.isLocal && html`<li class="tag">this machine</li>`}
      ${facts.family && html`<li class="tag">${facts.family}</li>`}
      ${facts.hasTools && html`<li class="tag">tools</li>`}
      ${facts.hasVision && html`<li class="tag">vision</li>`}
      ${entry.quantization && html`<li class="tag">${entry.quantization}</li>`}
    </ul>
    <dl class="figures">
      <div><dt>Context</dt><dd>${short(entry.context_length)}</dd></div>
      <div><dt>In / 1M</dt><dd>${perMillion(entry.pricing.prompt)}</dd></div>
      <div><dt>Out / 1M</dt><dd>${perMillion(entry.pricing.completion)}</dd></div>
      <div><dt>Latency</dt><dd>${milliseconds(facts.latency)}</dd></div>
      <div><dt>Uptime</dt><dd>${percent(facts.uptime)}</dd></div>
      <div><dt>Providers</dt><dd>${facts.providers.length || "–"}</dd></div>
    </dl>
  </li>`;
}

const STATE_WORDS = { operational: "ready", degraded: "degraded", down: "down", absent: "not served here" };

/** What the gallery filters and sorts by: an entry of the catalog, and how it has been doing. */
function factsOf(entry, status) {
  const places = (status?.providers ?? []).flatMap((provider) => provider.models.filter((model) => model.id === entry.id));
  const uptimes = places.map((place) => place.uptime["1d"]).filter((value) => value != null);
  const latencies = places.map((place) => place.latency?.overall?.p50).filter((value) => value != null);
  const state = status?.models.find((model) => model.id === entry.id)?.status;
  return {
    entry,
    id: entry.id,
    name: entry.name,
    author: entry.owned_by,
    family: entry.architecture.instruct_type ?? "",
    providers: entry.providers,
    isReady: entry.available === 1,
    isLocal: entry.providers.includes("local"),
    hasTools: entry.supported_parameters.includes("tools"),
    hasVision: entry.input_modalities.includes("image"),
    price: entry.pricing.prompt === null ? null : Number(entry.pricing.prompt) * 1e6,
    uptime: uptimes.length ? Math.max(...uptimes) : null,
    latency: latencies.length ? Math.min(...latencies) : null,
    state: state ?? (entry.available ? "operational" : "absent"),
  };
}

function isWanted(facts, wanted) {
  const text = `${facts.id} ${facts.name} ${facts.author} ${facts.family}`.toLowerCase();
  return (
    wanted.words.toLowerCase().split(/\s+/).every((word) => text.includes(word)) &&
    (!wanted.family || facts.family === wanted.family) &&
    (!wanted.provider || facts.providers.includes(wanted.provider)) &&
    (facts.entry.context_length ?? 0) >= wanted.context &&
    (wanted.most === null || (facts.price !== null && facts.price <= wanted.most)) &&
    (!wanted.tools || facts.hasTools) &&
    (!wanted.vision || facts.hasVision) &&
    IS_WHERE[wanted.where]?.(facts) !== false
  );
}

const IS_WHERE = {
  ready: (facts) => facts.isReady,
  local: (facts) => facts.isLocal,
  remote: (facts) => facts.providers.some((name) => name !== "local"),
};

/** Ascending by a figure, those without one last. */
const by = (figure) => (a, b) => (figure(a) ?? Infinity) - (figure(b) ?? Infinity) || byName(a, b);
const byName = (a, b) => Number(b.isReady) - Number(a.isReady) || a.name.localeCompare(b.name);
const ORDERS = {
  name: byName,
  price: by((each) => each.price),
  context: by((each) => -(each.entry.context_length ?? -1)),
  latency: by((each) => each.latency),
  uptime: by((each) => (each.uptime === null ? null : -each.uptime)),
};

const choices = (names, all) => [["", all], ...[...new Set(names.filter(Boolean))].sort().map((name) => [name, name])];
