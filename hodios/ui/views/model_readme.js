// What a model's author says of it: the card of the catalog, and that of its series.
import { Empty } from "../components/notices.js";
import { Markdown, Outside } from "../components/text.js";
import { html } from "../lib/html.js";

export function ModelReadme({ model }) {
  const { card } = model;
  if (!card) return html`<${Empty} title="The catalog has no card of this model"><p>${model.description}</p><//>`;
  return html`<div class="readme">
    <div>
      ${card.description && html`<${Section} title="Model description" text=${card.description} />`}
      ${sectionsOf(card)}
      ${card.series && html`<section><h2>${card.series.title}</h2>
        ${card.series.description && html`<${Markdown} text=${card.series.description} />`}
        ${sectionsOf(card.series)}
      </section>`}
    </div>
    <${Facts} model=${model} card=${card} />
  </div>`;
}

const Section = ({ title, text }) => html`<section><h3>${title}</h3><${Markdown} text=${text} /></section>`;

function sectionsOf(card) {
  return [
    ...(card.sections ?? []).map((each) => html`<${Section} title=${each.title} text=${each.text} />`),
    card.intended_use && html`<${Section} title="Intended use" text=${textOf(card.intended_use)} />`,
    card.excluded_use && html`<${Section} title="Out of scope" text=${textOf(card.excluded_use)} />`,
    card.training_data && html`<${Section} title="Training data" text=${textOf(card.training_data)} />`,
  ];
}

const textOf = (value) => (Array.isArray(value) ? value.map((each) => `- ${each}`).join("\n") : value);

function Facts({ model, card }) {
  const rows = [
    ["Author", model.owned_by],
    ["Family", model.family?.name],
    ["Tool calls", model.family?.tool_format],
    ["Architecture", model.architecture.name],
    ["Context of the architecture", model.architecture.context_length],
    ["Parameters", model.num_parameters && new Intl.NumberFormat("en", { notation: "compact" }).format(model.num_parameters)],
    ["Knowledge until", model.knowledge_cutoff],
    ["Languages", card.languages?.join(", ")],
    ["Licence", model.license_url ? html`<${Outside} url=${model.license_url}>${model.license}<//>` : model.license],
    ["Weights", model.hub?.safetensors],
    ["GGUF", model.hub?.gguf?.join(", ")],
  ].filter(([, value]) => value);
  return html`<aside class="card" aria-label="Facts"><dl class="facts">
    ${rows.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}
    ${Object.entries(model.links ?? {}).map(([name, url]) => html`<div><dt>${name}</dt><dd><${Outside} url=${url}>${url.replace(/^https?:\/\//, "")}<//></dd></div>`)}
  </dl></aside>`;
}
