// Text of models, cards and programs.
import { highlighted } from "../lib/highlight.js";
import { html, useMemo, useRef } from "../lib/html.js";
import { blocksOf, safeHtml } from "../lib/markdown.js";
import { CopyButton } from "./controls.js";

/** Markdown. While it grows, only its end is read and made anew. */
export function Markdown({ text }) {
  const read = useRef(undefined);
  read.current = useMemo(() => blocksOf(text, read.current), [text]);
  return html`<div class="prose">${read.current.blocks.map(({ source }, at) => html`<${Block} key=${at} source=${source} />`)}</div>`;
}

function Block({ source }) {
  const made = useMemo(() => ({ __html: safeHtml(source) }), [source]);
  return html`<div class="prose-block" dangerouslySetInnerHTML=${made}></div>`;
}

export function Code({ code, language, title, label = "Copy" }) {
  const made = useMemo(() => ({ __html: highlighted(code, language) }), [code, language]);
  return html`<figure class="code-block">
    <figcaption class="row"><span>${title ?? language}</span><${CopyButton} text=${code} label=${label} /></figcaption>
    <pre tabindex="0"><code dangerouslySetInnerHTML=${made}></code></pre>
  </figure>`;
}

export const Json = ({ value, title }) => html`<${Code} code=${JSON.stringify(value, null, 2)} language="json" title=${title} />`;

/** A link to somewhere else, where it is one to follow; else its address as text. */
export function Outside({ url, children }) {
  if (!/^https?:\/\//i.test(url)) return html`${children} <span class="soft">${url}</span>`;
  return html`<a href=${url} rel="noopener noreferrer" target="_blank">${children}</a>`;
}
