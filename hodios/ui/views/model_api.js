// How programs ask this model: code that does what the panel is set to, every parameter, and what answers look like.
import { bodyOf } from "../chat/body.js";
import { messagesOf, pathOf, readTree } from "../chat/conversation.js";
import { INSTALLS, LANGUAGES, sampleOf } from "../chat/samples.js";
import { settingsIn } from "../chat/settings.js";
import { Segments, Switch } from "../components/controls.js";
import { ErrorNotice } from "../components/notices.js";
import { Code, Json } from "../components/text.js";
import { useData } from "../lib/data.js";
import { html, useMemo } from "../lib/html.js";
import { BASE, go, place, usePlace, useQuery, withQuery } from "../lib/place.js";

const HELLO = [{ role: "user", content: "Hi there!" }];

export function ModelApi({ model }) {
  const { query } = usePlace();
  const facts = useData("/ui/facts");
  const [language, setLanguage] = useQuery("lang", "curl");
  const settings = settingsIn(query);
  const turns = useMemo(() => turnsOf(model.id), [model.id]);
  const body = bodyOf(model.id, settings, turns);
  const base = facts.data?.base_url ?? `${window.location.origin}/v1`;
  const known = LANGUAGES.find(([name]) => name === language) ?? LANGUAGES[0];
  const setStream = (isOn) => {
    const now = place();
    go(withQuery(now.path, now.query, { stream: isOn ? null : "0" }), { replace: true });
  };
  return html`<div class="stack narrow">
    <dl class="facts card">
      <div><dt>Base URL</dt><dd><code>${base}</code></dd></div>
      <div><dt>Key</dt><dd>The operator makes keys under <a href="${BASE}/keys">Keys</a>, or with <code>hodios keys create</code>. Programs send them as <code>Authorization: Bearer …</code></dd></div>
      ${INSTALLS[known[0]] && html`<div><dt>Install</dt><dd><code>${INSTALLS[known[0]]}</code></dd></div>`}
    </dl>
    <div class="row is-spread">
      <${Segments} label="Language" options=${LANGUAGES.map(([name, title]) => [name, title])} value=${known[0]} onChange=${setLanguage} />
      <${Switch} label="Stream" value=${settings.stream} onChange=${setStream} />
    </div>
    <p class="soft">With the settings of the demo, and its conversation so far.</p>
    <${Code} code=${sampleOf(known[0], base, body)} language=${known[2]} title=${known[1]} />
    ${facts.error && html`<${ErrorNotice} error=${facts.error} onRetry=${facts.reload} />`}
    ${facts.data && html`<${Parameters} model=${model} parameters=${facts.data.parameters} />`}
    <h2>What comes back</h2>
    <${Samples} model=${model} />
  </div>`;
}

function turnsOf(id) {
  try {
    const tree = readTree(localStorage.getItem(`hodios.chat.${id}`));
    const path = tree ? pathOf(tree) : [];
    const last = path.findLastIndex((node) => node.role !== "assistant");
    return last < 0 ? HELLO : messagesOf(path.slice(0, last + 1));
  } catch {
    return HELLO;
  }
}

function Parameters({ model, parameters }) {
  const shown = parameters.filter((each) => each.name === "messages" || model.supported_parameters.includes(each.name));
  return html`<section><h2>Parameters</h2>
    <div class="table-wrap" tabindex="0" role="region" aria-label="Parameters"><table>
      <thead><tr><th scope="col">Name</th><th scope="col">Accepted</th><th scope="col">Default</th><th scope="col">Meaning</th></tr></thead>
      <tbody>${shown.map((each) => html`<tr><th scope="row"><code>${each.name}</code></th><td>${each.accepted}</td>
        <td>${each.default === null || each.default === undefined ? "–" : html`<code>${JSON.stringify(each.default)}</code>`}</td><td>${each.description}</td></tr>`)}</tbody>
    </table></div>
  </section>`;
}

const USAGE = { prompt_tokens: 15, completion_tokens: 9, total_tokens: 24, cost: 0, latency_ms: 210, time_to_first_token_ms: 40 };

function Samples({ model }) {
  const frame = { id: "chat-0123456789abcdef0123456789abcdef", created: 1790000000, provider: model.providers[0] ?? "local", model: model.id };
  const whole = {
    ...frame, object: "chat.completion",
    choices: [{ index: 0, message: { role: "assistant", content: "Hello! How can I help you today?" }, logprobs: null, finish_reason: "stop" }], usage: USAGE,
  };
  const call = { id: "call_0", type: "function", function: { name: "get_weather", arguments: '{"city": "Paris"}' } };
  const calling = {
    ...frame, object: "chat.completion",
    choices: [{ index: 0, message: { role: "assistant", content: null, tool_calls: [call] }, logprobs: null, finish_reason: "tool_calls" }], usage: USAGE,
  };
  const chunk = (delta, finish) => ({ ...frame, object: "chat.completion.chunk", choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }] });
  const chunks = [chunk({ role: "assistant" }, null), chunk({ content: "Hello" }, null), chunk({ content: "!" }, null), chunk({}, "stop")];
  const events = `${chunks.map((each) => `data: ${JSON.stringify(each)}`).join("\n\n")}\n\ndata: [DONE]`;
  const error = { error: { message: "temperature: 3 is too high; accepted: a number from 0 to 2", type: "invalid_request_error", param: "temperature", code: "invalid_value" } };
  return html`
    <${Json} value=${whole} title="Not streamed" />
    <${Code} code=${events} language="json" title="Streamed" />
    <${Json} value=${calling} title="A call of a tool" />
    <${Json} value=${error} title="An error" />
  `;
}
