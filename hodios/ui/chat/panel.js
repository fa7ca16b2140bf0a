// How a model is asked to answer, with the server's own ranges and defaults beside each setting.
import { NumberField, Select, Switch, TextArea } from "../components/controls.js";
import { useData } from "../lib/data.js";
import { html } from "../lib/html.js";
import { MORE_NUMBERS, NUMBERS, SLIDERS } from "./settings.js";

const FORMATS = [["", "text"], ["json_object", "json_object"], ["json_schema", "json_schema"]];
const CHOICES = [["", "auto"], ["none", "none"], ["required", "required"]];
const ROUTINGS = [["", "automatic"], ["price", "price"], ["perf", "speed for such prompts"], ["perf_avg", "speed on average"]];
const SCHEMA = '{\n  "type": "object",\n  "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},\n  "required": ["name", "age"],\n  "additionalProperties": false\n}';
const TOOLS = '[{\n  "type": "function",\n  "function": {\n    "name": "get_weather",\n    "description": "The weather in a city now.",\n    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}\n  }\n}]';

export function Panel({ model, settings, mistakes, onChange }) {
  const facts = useData("/ui/facts");
  const known = Object.fromEntries((facts.data?.parameters ?? []).map((each) => [each.name, each]));
  const accepts = (name) => model.supported_parameters.includes(name);
  const set = (name) => (value) => onChange(name, value);
  const numberFor = (name) => {
    const [min, max, step] = SLIDERS[name] ?? [];
    return html`<${NumberField} key=${name} label=${name} hint=${known[name]?.description} value=${settings[name]} onChange=${set(name)}
      min=${min} max=${name === "max_tokens" ? Math.min(max, model.max_output_tokens ?? max) : max} step=${step} fallback=${known[name]?.default ?? undefined} />`;
  };
  const enabled = model.providers.length > 1;
  return html`<div class="panel-fields">
    <h2>Model configuration</h2>
    <${Select} label="Response format" value=${settings.format} onChange=${set("format")} options=${FORMATS} />
    ${settings.format === "json_schema" && html`<${TextArea} label="JSON schema" class="code" rows=${8} value=${settings.schema} onChange=${set("schema")} error=${mistakes.schema} spellcheck=${false} placeholder=${SCHEMA} />`}
    ${settings.format === "json_schema" && !settings.schema && html`<button type="button" onClick=${() => onChange("schema", SCHEMA)}>Take an example</button>`}
    <${TextArea} label="System prompt" rows=${3} value=${settings.system} onChange=${set("system")} placeholder="How the model should behave" />
    ${NUMBERS.filter(accepts).map(numberFor)}
    ${accepts("tools") && html`<details open=${Boolean(settings.tools)}><summary>Tools</summary>
      <${TextArea} label="Tools, as JSON" class="code" rows=${8} value=${settings.tools} onChange=${set("tools")} error=${mistakes.tools} spellcheck=${false} placeholder=${TOOLS} />
      ${!settings.tools && html`<button type="button" onClick=${() => onChange("tools", TOOLS)}>Take an example</button>`}
      <${Select} label="tool_choice" value=${settings.tool_choice} onChange=${set("tool_choice")} options=${CHOICES} />
    </details>`}
    <details open=${MORE_NUMBERS.some((name) => settings[name] !== null) || Boolean(settings.stop) || settings.logprobs || !settings.stream}>
      <summary>More</summary>
      ${accepts("seed") && numberFor("seed")}
      <${TextArea} label="stop" hint="One on each line." rows=${2} value=${settings.stop} onChange=${set("stop")} />
      ${accepts("logprobs") && html`<${Switch} label="logprobs" value=${settings.logprobs} onChange=${set("logprobs")} hint="Shows each token with its alternatives." />`}
      ${settings.logprobs && numberFor("top_logprobs")}
      <${Switch} label="Stream" value=${settings.stream} onChange=${set("stream")} />
      ${enabled && html`<${Select} label="Provider" value=${settings.provider} onChange=${set("provider")} options=${[["", "automatic"], ...model.providers.map((name) => [name, name])]} />`}
      ${enabled && html`<${Select} label="Routing" value=${settings.routing} onChange=${set("routing")} options=${ROUTINGS} />`}
    </details>
  </div>`;
}
