// Buttons, fields and tabs, each with the name that a screen reader says.
import { html, useEffect, useId, useRef, useState } from "../lib/html.js";
import { bringIntoView } from "../lib/scrolling.js";
import { Icon } from "./icons.js";

export function IconButton({ icon, label, onClick, disabled, pressed, kind = "quiet" }) {
  return html`<button class=${`icon-button ${kind}`} type="button" aria-label=${label} title=${label}
    aria-pressed=${pressed} onClick=${onClick} disabled=${disabled}><${Icon} name=${icon} /></button>`;
}

/** A labelled field; `children` is a function that gets the id and the hint's id. */
export function Field({ label, hint, error, children, isWide = false }) {
  const id = useId();
  const hintId = hint || error ? `${id}-hint` : undefined;
  return html`<div class=${isWide ? "field is-wide" : "field"}>
    <label for=${id}>${label}</label>
    ${children(id, hintId)}
    ${error ? html`<p class="field-error" id=${hintId}>${error}</p>` : hint && html`<p class="hint" id=${hintId}>${hint}</p>`}
  </div>`;
}

export function TextField({ label, hint, error, value, onChange, type = "text", isWide, ...rest }) {
  return html`<${Field} label=${label} hint=${hint} error=${error} isWide=${isWide}>
    ${(id, hintId) => html`<input id=${id} type=${type} value=${value} aria-describedby=${hintId} aria-invalid=${error ? "true" : undefined}
      onInput=${(event) => onChange(event.currentTarget.value)} ...${rest} />`}
  <//>`;
}

export function TextArea({ label, hint, error, value, onChange, rows = 4, isWide = true, ...rest }) {
  return html`<${Field} label=${label} hint=${hint} error=${error} isWide=${isWide}>
    ${(id, hintId) => html`<textarea id=${id} rows=${rows} value=${value} aria-describedby=${hintId} aria-invalid=${error ? "true" : undefined}
      onInput=${(event) => onChange(event.currentTarget.value)} ...${rest}></textarea>`}
  <//>`;
}

/** `options`: [value, text] pairs. */
export function Select({ label, hint, value, onChange, options, isWide }) {
  return html`<${Field} label=${label} hint=${hint} isWide=${isWide}>
    ${(id, hintId) => html`<select id=${id} value=${value} aria-describedby=${hintId} onChange=${(event) => onChange(event.currentTarget.value)}>
      ${options.map(([each, text]) => html`<option value=${each} selected=${each === value}>${text}</option>`)}
    </select>`}
  <//>`;
}

export function Switch({ label, hint, value, onChange, disabled }) {
  const id = useId();
  return html`<div class="field switch">
    <input id=${id} type="checkbox" role="switch" checked=${value} disabled=${disabled}
      onChange=${(event) => onChange(event.currentTarget.checked)} />
    <label for=${id}>${label}</label>
    ${hint && html`<p class="hint">${hint}</p>`}
  </div>`;
}

/** A slider with a number beside it; `value` is null while the server's default holds. */
export function NumberField({ label, hint, value, onChange, min, max, step, fallback }) {
  const id = useId();
  const hasSlider = min !== undefined && max !== undefined;
  const read = (text) => onChange(text === "" ? null : Number(text));
  return html`<div class="field number-field">
    <label for=${id}>${label}</label>
    <input id=${id} class="number" type="number" min=${min} max=${max} step=${step ?? "any"} value=${value ?? ""}
      placeholder=${fallback ?? "default"} title=${hint} onInput=${(event) => read(event.currentTarget.value)} />
    ${hasSlider && html`<input type="range" aria-label=${`${label}, slider`} min=${min} max=${max} step=${step}
      value=${value ?? fallback ?? min} class=${value === null ? "is-default" : ""}
      onInput=${(event) => read(event.currentTarget.value)} />`}
  </div>`;
}

export function CopyButton({ text, label = "Copy" }) {
  const [isDone, setIsDone] = useState(false);
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    await copied(typeof text === "function" ? text() : text);
    setIsDone(true);
    timer.current = setTimeout(() => setIsDone(false), 1500);
  };
  return html`<button class="quiet copy" type="button" onClick=${copy}>
    <${Icon} name=${isDone ? "check" : "copy"} size="16" /><span aria-live="polite">${isDone ? "Copied" : label}</span>
  </button>`;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages that did not come by https have no clipboard; an old way remains.
    const area = Object.assign(document.createElement("textarea"), { value: text, className: "off-screen" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/** Tabs as ARIA describes them: arrows move, the panel is named by its tab. `tabs`: [name, text] pairs. */
export function Tabs({ label, tabs, value, onChange, children }) {
  const id = useId();
  const list = useRef(null);
  useEffect(() => bringIntoView(list.current, list.current.querySelector("[aria-selected=true]")), [value]);
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const at = tabs.findIndex(([name]) => name === value);
    const next = event.key === "Home" ? 0 : event.key === "End" ? tabs.length - 1 : step && (at + step + tabs.length) % tabs.length;
    if (next === undefined) return;
    event.preventDefault();
    onChange(tabs[next][0]);
    list.current.children[next].focus();
  };
  return html`<div class="tabs">
    <div class="tab-list" role="tablist" aria-label=${label} ref=${list} onKeyDown=${move}>
      ${tabs.map(([name, text]) => html`<button type="button" role="tab" id=${`${id}-${name}`} aria-selected=${name === value}
        aria-controls=${`${id}-panel`} tabindex=${name === value ? 0 : -1} onClick=${() => onChange(name)}>${text}</button>`)}
    </div>
    <div role="tabpanel" id=${`${id}-panel`} aria-labelledby=${`${id}-${value}`} tabindex="0" class="tab-panel">${children}</div>
  </div>`;
}

/** One of a few, as buttons in a row. */
export function Segments({ label, options, value, onChange }) {
  return html`<div class="segments" role="group" aria-label=${label}>
    ${options.map(([each, text]) => html`<button type="button" aria-pressed=${each === value} onClick=${() => onChange(each)}>${text}</button>`)}
  </div>`;
}

/** A window over the page. The browser keeps the focus in it, Escape closes it, and then the focus is where it was. */
export function Dialog({ title, onClose, children, isDrawer = false }) {
  const box = useRef(null);
  const id = useId();
  useEffect(() => {
    const dialog = box.current;
    const opener = document.activeElement;
    dialog.showModal();
    return () => {
      dialog.close();
      opener?.focus();
    };
  }, []);
  const outside = (event) => event.target === box.current && onClose();
  return html`<dialog ref=${box} class=${isDrawer ? "drawer" : "window"} aria-labelledby=${id} onCancel=${(event) => {
    event.preventDefault();
    onClose();
  }} onClick=${outside}>
    <div class="dialog-body">
      <header><h2 id=${id}>${title}</h2><${IconButton} icon="close" label="Close" onClick=${onClose} /></header>
      ${children}
    </div>
  </dialog>`;
}
