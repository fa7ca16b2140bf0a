// Making and changing a key or a project. Empty fields mean that there is no such limit.
import { Dialog, Select, Switch, TextField } from "../components/controls.js";
import { ErrorNotice } from "../components/notices.js";
import { call } from "../lib/api.js";
import { useData } from "../lib/data.js";
import { html, useState } from "../lib/html.js";

const BUDGETS = [["total", "Budget in all, $"], ["daily", "Budget a day, $"], ["weekly", "Budget a week, $"], ["monthly", "Budget a month, $"]];
const COUNTS = [["requests_per_minute", "Requests a minute"], ["tokens_per_minute", "Tokens a minute"], ["parallel_requests", "Requests at a time"]];
const GUARDS = [["guard_prompt", "Prompts"], ["guard_answer", "Answers"]];
const ACTIONS = [["", "as usual"], ["off", "not looked at"], ["annotate", "annotated"], ["block", "blocked"]];
const WHEN_DOWN = [["", "as usual"], ["open", "all passes"], ["closed", "nothing passes that may be blocked"]];
const BARS = [["guard_flag_at", "Flag from"], ["guard_block_at", "Block from"]];
const BARS_HINT = "category=score, separated by spaces: violence=0.9 profanity=never";
const listOf = (text) => text.split(/[\s,]+/).filter(Boolean);

export function AccountForm({ kind, row, path, onSaved, onClose }) {
  const isKey = kind === "keys";
  const [values, setValues] = useState(() => valuesOf(row));
  const [error, setError] = useState(null);
  const [isBusy, setIsBusy] = useState(false);
  const projects = useData(isKey ? "/admin/v1/projects" : null);
  const set = (name) => (value) => setValues((now) => ({ ...now, [name]: value }));
  const text = (name, label, more = {}) => html`<${TextField} label=${label} value=${values[name]} onChange=${set(name)} error=${error?.param === name || error?.param?.startsWith(`${name}.`) ? error.message : undefined} ...${more} />`;
  const submit = async (event) => {
    event.preventDefault();
    setIsBusy(true);
    try {
      onSaved(await call(row ? "PATCH" : "POST", path, { body: bodyOf(values, isKey) }));
    } catch (failure) {
      setError(failure);
      setIsBusy(false);
    }
  };
  return html`<${Dialog} title=${row ? `Edit ${row.name || row.id}` : isKey ? "New key" : "New project"} onClose=${onClose} isDrawer>
    <form class="form" onSubmit=${submit}>
      ${text("name", "Name", { isWide: true })}
      ${isKey && text("owner", "Owner")}
      ${isKey && html`<${Select} label="Project" value=${values.project} onChange=${set("project")}
        options=${[["", "none"], ...(projects.data?.data ?? []).map((each) => [each.id, each.name || each.id])]} />`}
      ${BUDGETS.map(([name, label]) => text(`budget.${name}`, label, { inputmode: "decimal", placeholder: "no limit" }))}
      ${COUNTS.map(([name, label]) => text(name, label, { inputmode: "numeric", placeholder: "no limit" }))}
      ${isKey && html`
        ${text("models", "Models", { isWide: true, placeholder: "all", hint: "Ids, separated by spaces." })}
        ${text("providers", "Providers", { isWide: true, placeholder: "all", hint: "Names, separated by spaces." })}
        ${text("tools", "Tools it may offer", { isWide: true, placeholder: "all", hint: "Names, separated by spaces; * stands for any letters." })}
        ${text("default_max_tokens", "max_tokens where none is asked", { inputmode: "numeric" })}
        ${text("priority", "Priority", { inputmode: "numeric", hint: "Higher goes first." })}
        ${text("expires_at", "Expires", { type: "datetime-local" })}
        <${Switch} label="Wait where a limit is reached" value=${values.queue} onChange=${set("queue")} />
        <${Switch} label="Store what is asked and answered" value=${values.store_content} onChange=${set("store_content")} />`}
      <fieldset class="is-wide form"><legend>Content filters</legend>
        ${GUARDS.map(([name, label]) => html`<${Select} label=${label} value=${values[name]} onChange=${set(name)} options=${ACTIONS} />`)}
        <${Select} label="While filters cannot judge" value=${values.guard_when_down} onChange=${set("guard_when_down")} options=${WHEN_DOWN} isWide />
        ${BARS.map(([name, label]) => text(name, label, { isWide: true, placeholder: "as usual", hint: BARS_HINT }))}
      </fieldset>
      ${error && html`<${ErrorNotice} error=${error} />`}
      <div class="row is-wide"><button class="primary" disabled=${isBusy}>${row ? "Save" : "Create"}</button><button type="button" onClick=${onClose}>Cancel</button></div>
    </form>
  <//>`;
}

function valuesOf(row) {
  const values = {
    name: row?.name ?? "", owner: row?.owner ?? "", project: row?.project ?? "", models: (row?.models ?? []).join(" "), providers: (row?.providers ?? []).join(" "),
    tools: (row?.tools ?? []).join(" "),
    priority: String(row?.priority ?? ""), queue: row?.queue ?? false, store_content: row?.store_content ?? false,
    default_max_tokens: String(row?.default_max_tokens ?? ""), expires_at: row?.expires_at ? localOf(row.expires_at) : "",
  };
  for (const [name] of [...GUARDS, ["guard_when_down"]]) values[name] = row?.[name] ?? "";
  for (const [name] of BARS) values[name] = Object.entries(row?.[name] ?? {}).map((bar) => bar.join("=")).join(" ");
  for (const [name] of BUDGETS) values[`budget.${name}`] = row?.budget[name] ?? "";
  for (const [name] of COUNTS) values[name] = String(row?.[name] ?? "");
  return values;
}

/** What the server is sent: empty is null, and what is no number goes as it is, for the server to refuse by name. */
function bodyOf(values, isKey) {
  const count = (text) => (text === "" ? null : /^-?\d+$/.test(text) ? Number(text) : text);
  const body = { name: values.name, budget: Object.fromEntries(BUDGETS.map(([name]) => [name, values[`budget.${name}`] || null])) };
  for (const [name] of COUNTS) body[name] = count(values[name]);
  for (const [name] of [...GUARDS, ["guard_when_down"]]) body[name] = values[name] || null;
  for (const [name] of BARS) body[name] = values[name] ? barsOf(values[name]) : null;
  if (!isKey) return body;
  return {
    ...body,
    owner: values.owner,
    project: values.project || null,
    models: values.models ? listOf(values.models) : null,
    providers: values.providers ? listOf(values.providers) : null,
    tools: values.tools ? listOf(values.tools) : null,
    priority: count(values.priority) ?? 0,
    queue: values.queue,
    store_content: values.store_content,
    default_max_tokens: count(values.default_max_tokens),
    expires_at: values.expires_at ? new Date(values.expires_at).toISOString() : null,
  };
}

/** Scores as numbers; what is none goes as it is, for the server to refuse by name. */
function barsOf(text) {
  return Object.fromEntries(listOf(text).map((bar) => {
    const [category, score = ""] = bar.split("=");
    return [category, score !== "" && Number.isFinite(Number(score)) ? Number(score) : score];
  }));
}

function localOf(iso) {
  const at = new Date(iso);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
