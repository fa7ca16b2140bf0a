// One message: what was said, and what a person can do with it.
import { CopyButton, Dialog, IconButton, Tabs } from "../components/controls.js";
import { Json, Markdown } from "../components/text.js";
import { html, useState } from "../lib/html.js";
import { speedOf } from "./answer.js";
import { AnswerFacts } from "./answer_facts.js";
import { Calls } from "./calls.js";
import { Blocked } from "./safety.js";
import { Tokens } from "./tokens.js";

export function Message({ node, chat }) {
  if (node.role === "assistant") return html`<${Answer} node=${node} chat=${chat} />`;
  if (node.role === "tool") return html`<div class="turn tool"><span class="who">Tool result</span><pre tabindex="0">${node.content}</pre></div>`;
  return html`<${Said} node=${node} chat=${chat} />`;
}

function Said({ node, chat }) {
  const [draft, setDraft] = useState(null);
  const send = () => {
    if (!draft.trim()) return;
    setDraft(null);
    chat.say(draft.trim(), { images: node.images, beside: node });
  };
  return html`<article class="turn user" aria-label="You">
    <span class="who">You</span>
    ${node.images?.length > 0 && html`<ul class="images">${node.images.map((url, at) => html`<li><img src=${url} alt=${`Image ${at + 1}`} /></li>`)}</ul>`}
    ${draft === null
      ? html`<p class="said">${node.content}</p>`
      : html`<textarea aria-label="Edit the message" rows="3" value=${draft} onInput=${(event) => setDraft(event.currentTarget.value)}></textarea>`}
    <div class="row turn-foot">
      <${Branches} node=${node} chat=${chat} />
      ${draft === null
        ? html`<${IconButton} icon="edit" label="Edit" onClick=${() => setDraft(node.content)} disabled=${chat.isRunning} />`
        : html`<button class="primary" type="button" onClick=${send}>Send</button><button type="button" onClick=${() => setDraft(null)}>Cancel</button>`}
    </div>
  </article>`;
}

function Answer({ node, chat }) {
  const [look, setLook] = useState("text");
  const [isRawOpen, setIsRawOpen] = useState(false);
  const isLast = chat.path.at(-1)?.id === node.id;
  const views = [["text", "Text"], ["plain", "As written"], ...(node.tokens.length ? [["tokens", "Tokens"]] : [])];
  return html`<article class="turn assistant" aria-label="Answer" aria-busy=${node.isRunning}>
    <span class="who">${node.model ?? "Assistant"}</span>
    ${node.reasoning && html`<details class="reasoning" open=${node.isRunning && !node.content}><summary>Thoughts</summary><p class="said">${node.reasoning}</p></details>`}
    ${look === "tokens" ? html`<${Tokens} tokens=${node.tokens} />` : look === "plain" ? html`<pre class="as-written" tabindex="0">${node.content}</pre>` : html`<${Markdown} text=${node.content} />`}
    ${node.isRunning && !node.content && !node.reasoning && html`<p class="loading" role="status"><span class="spinner" aria-hidden="true"></span>Waiting for the first token …</p>`}
    ${node.calls.length > 0 && html`<${Calls} node=${node} chat=${chat} isLast=${isLast} />`}
    <${Blocked} node=${node} />
    ${node.error && node.error.code !== "content_filter" && html`<div class="notice is-error" role="alert"><div><p>${node.error.message}</p><p class="soft">${node.error.advice}</p></div>
      <button type="button" onClick=${() => chat.again(node)}>Try again</button></div>`}
    ${node.warnings.map((warning) => html`<p class="warning"><code>${warning.param ?? warning.code}</code> ${warning.message}</p>`)}
    ${!node.isRunning && html`<${AnswerFacts} node=${node} speed=${speedOf(node)} />`}
    ${!node.isRunning && html`<div class="row turn-foot">
      <${Branches} node=${node} chat=${chat} />
      <${IconButton} icon="again" label="Regenerate" onClick=${() => chat.again(node)} disabled=${chat.isRunning} />
      <${CopyButton} text=${node.content} />
      ${views.length > 1 && node.content && html`<select aria-label="Show as" value=${look} onChange=${(event) => setLook(event.currentTarget.value)}>
        ${views.map(([name, text]) => html`<option value=${name} selected=${name === look}>${text}</option>`)}</select>`}
      ${node.raw && html`<button class="quiet" type="button" onClick=${() => setIsRawOpen(true)}>Raw</button>`}
    </div>`}
    ${isRawOpen && html`<${Raw} node=${node} onClose=${() => setIsRawOpen(false)} />`}
  </article>`;
}

/** ‹ 2 / 3 › where a message has other versions. */
function Branches({ node, chat }) {
  const all = chat.siblings(node);
  if (all.length < 2) return null;
  const at = all.indexOf(node.id);
  return html`<span class="branches" role="group" aria-label="Versions">
    <${IconButton} icon="left" label="Earlier version" onClick=${() => chat.look(all[at - 1])} disabled=${at === 0 || chat.isRunning} />
    <span aria-live="polite">${at + 1} / ${all.length}</span>
    <${IconButton} icon="right" label="Later version" onClick=${() => chat.look(all[at + 1])} disabled=${at === all.length - 1 || chat.isRunning} />
  </span>`;
}

function Raw({ node, onClose }) {
  const [tab, setTab] = useState("response");
  return html`<${Dialog} title="Request and response" onClose=${onClose} isDrawer>
    <${Tabs} label="Raw" tabs=${[["request", "Request"], ["response", "Response"]]} value=${tab} onChange=${setTab}>
      ${tab === "request"
        ? html`<${Json} value=${node.request} title="POST /v1/chat/completions" />`
        : html`<${Json} value=${node.raw.length === 1 ? node.raw[0] : node.raw} title=${node.request.stream ? `${node.raw.length} chunks` : "Answer"} />`}
    <//>
  <//>`;
}
