// The playground of one model: a conversation and the panel that sets how it answers.
import { Dialog, IconButton } from "../components/controls.js";
import { Empty } from "../components/notices.js";
import { html, useMemo, useState } from "../lib/html.js";
import { BASE, go, place, usePlace, withQuery } from "../lib/place.js";
import { bodyOf } from "./body.js";
import { Composer } from "./composer.js";
import { Message } from "./message.js";
import { Panel } from "./panel.js";
import { mistakesIn, queryOf, settingsIn } from "./settings.js";
import { useConversation } from "./use_conversation.js";

export function Demo({ model }) {
  const { query } = usePlace();
  const settings = useMemo(() => settingsIn(query), [query]);
  const mistakes = useMemo(() => mistakesIn(settings), [settings]);
  const [isPanelOpen, setIsPanelOpen] = useState(false);
  const set = (name, value) => {
    const now = place();
    go(withQuery(now.path, now.query, queryOf(name, value)), { replace: true });
  };
  const chat = useConversation(model.id, (turns) => bodyOf(model.id, settings, turns));
  if (!model.enabled) return html`<${NotHere} model=${model} />`;
  const panel = html`<${Panel} model=${model} settings=${settings} mistakes=${mistakes} onChange=${set} />`;
  return html`<div class="demo">
    <section class="chat card" aria-label="Conversation">
      <div class="row is-spread chat-head">
        <strong>Chat</strong>
        <div class="row">
          <button class="quiet" type="button" onClick=${chat.clear} disabled=${!chat.path.length}>New chat</button>
          <span class="narrow-only"><${IconButton} icon="settings" label="Settings" onClick=${() => setIsPanelOpen(true)} /></span>
        </div>
      </div>
      <${Turns} chat=${chat} />
      <${Composer} chat=${chat} model=${model} isBlocked=${Object.keys(mistakes).length > 0} />
    </section>
    <aside class="panel card wide-only" aria-label="Settings">${panel}</aside>
    ${isPanelOpen && html`<${Dialog} title="Settings" onClose=${() => setIsPanelOpen(false)} isDrawer>${panel}<//>`}
  </div>`;
}

function Turns({ chat }) {
  if (!chat.path.length) {
    return html`<div class="turns"><div class="empty"><h2>Ask it something</h2>
      <p>Answers stream in with their speed, cost and provider. Settings are part of the address: copy it to share them.</p></div></div>`;
  }
  return html`<div class="turns" ref=${chat.scroller} onScroll=${chat.onScroll} tabindex="0" role="log" aria-label="Messages" aria-live="off">
    ${chat.path.map((node) => html`<${Message} key=${node.id} node=${node} chat=${chat} />`)}
  </div>`;
}

function NotHere({ model }) {
  const offers = model.offers.filter((offer) => offer.reason);
  return html`<${Empty} title="Nobody serves this model here yet">
    <p>${offers.length ? "These could, once they are set up:" : "No provider is known that has it."}</p>
    <ul class="plain">${offers.map((offer) => html`<li><strong>${offer.provider_name}</strong>: ${offer.reason}</li>`)}</ul>
    ${model.hub?.gguf?.length > 0 && html`<p>Or run it on this machine: <code>hodios pull ${model.id}</code>, also under <a href="${BASE}/local">local models</a>.</p>`}
  <//>`;
}
