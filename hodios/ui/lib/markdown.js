// Markdown of models and cards, made into HTML that can do no harm. Everything that is shown as HTML comes through here.
import { marked } from "../vendor/marked.js";
import createPurifier from "../vendor/purify.js";
import { escaped, highlighted } from "./highlight.js";

const ALLOWED_TAGS = [
  "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
  "span", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul",
];
const RULES = { ALLOWED_TAGS, ALLOWED_ATTR: ["href", "class", "start", "align", "title", "tabindex"], ADD_URI_SAFE_ATTR: ["start", "align", "tabindex"], ALLOW_DATA_ATTR: false, ALLOWED_URI_REGEXP: /^(?:https?:|mailto:|#)/i };
const purifier = createPurifier(window);
purifier.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  }
});

marked.use({
  gfm: true,
  // Answers mean the ends of their lines.
  breaks: true,
  renderer: {
    // HTML that a model wrote is shown as it was written.
    html: ({ text }) => escaped(text),
    // Images would be fetched from anywhere, which tells their hosts who reads.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
    // Whoever has no mouse scrolls what has the focus.
    code: ({ text, lang }) => `<pre tabindex="0"><code>${highlighted(text, (lang ?? "").split(/\s/)[0])}</code></pre>`,
  },
});

const NOTHING_READ = { text: "", blocks: [] };
// What is last may become something else with more behind it, and take in what stands before it: "2" becomes one more item.
const OPEN_BLOCKS = 2;

/** `{text, blocks}`: the blocks of a text in order, each {source, end}. `before` is what this gave for the text's beginning:
 * of a text that grows only the end is read anew. */
export function blocksOf(text, before = NOTHING_READ) {
  const plain = text.replace(/\r\n?/g, "\n");
  const blocks = plain.startsWith(before.text) ? before.blocks.slice(0, -OPEN_BLOCKS) : [];
  let end = blocks.at(-1)?.end ?? 0;
  for (const token of marked.lexer(plain.slice(end))) {
    end += token.raw.length;
    if (token.type !== "space") blocks.push({ source: token.raw, end });
  }
  return { text: plain, blocks };
}

export function safeHtml(markdown) {
  return purifier.sanitize(marked.parse(markdown), RULES);
}
