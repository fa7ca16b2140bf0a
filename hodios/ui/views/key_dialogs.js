// Windows about one key: its text, shown this once, and questions before what cannot be undone.
import { CopyButton, Dialog } from "../components/controls.js";
import { Notice } from "../components/notices.js";
import { html, useState } from "../lib/html.js";

export function Shown({ row, onClose }) {
  return html`<${Dialog} title=${row.name || "The new key"} onClose=${onClose}>
    <${Notice} kind="warning">This is the only time that the key is shown. Copy it now.<//>
    <p class="row"><code class="key-text">${row.key}</code><${CopyButton} text=${row.key} /></p>
    <p><button class="primary" type="button" onClick=${onClose}>I have it</button></p>
  <//>`;
}

export function Confirm({ title, action, onDo, onClose, children }) {
  const [isBusy, setIsBusy] = useState(false);
  const go = async () => {
    setIsBusy(true);
    await onDo();
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    ${children}
    <div class="row"><button class="danger" type="button" onClick=${go} disabled=${isBusy}>${action}</button><button type="button" onClick=${onClose}>Cancel</button></div>
  <//>`;
}
