// Colours for code. Knows the languages that answers are usually written in; others stay plain.
import hljs from "../vendor/highlight/core.js";
import bash from "../vendor/highlight/bash.js";
import css from "../vendor/highlight/css.js";
import diff from "../vendor/highlight/diff.js";
import go from "../vendor/highlight/go.js";
import java from "../vendor/highlight/java.js";
import javascript from "../vendor/highlight/javascript.js";
import json from "../vendor/highlight/json.js";
import markdown from "../vendor/highlight/markdown.js";
import python from "../vendor/highlight/python.js";
import rust from "../vendor/highlight/rust.js";
import sql from "../vendor/highlight/sql.js";
import typescript from "../vendor/highlight/typescript.js";
import xml from "../vendor/highlight/xml.js";
import yaml from "../vendor/highlight/yaml.js";

const LANGUAGES = { bash, css, diff, go, java, javascript, json, markdown, python, rust, sql, typescript, xml, yaml };
for (const [name, grammar] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, grammar);

const MOST = 30_000;
export const escaped = (text) => text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

/** HTML of a piece of code; plain where the language is not known, or where it is long enough to be felt. */
export function highlighted(code, language) {
  if (!hljs.getLanguage(language) || code.length > MOST) return escaped(code);
  return hljs.highlight(code, { language, ignoreIllegals: true }).value;
}
