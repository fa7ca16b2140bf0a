// Keys and projects: who may ask, for what, and for how much.
import { Tabs } from "../components/controls.js";
import { Budgets } from "../components/budgets.js";
import { Empty, ErrorNotice, Loading } from "../components/notices.js";
import { call, get } from "../lib/api.js";
import { dollars, moment } from "../lib/format.js";
import { html, useCallback, useEffect, useState } from "../lib/html.js";
import { useQuery } from "../lib/place.js";
import { AccountForm } from "./account_form.js";
import { Confirm, Shown } from "./key_dialogs.js";

const PATHS = { keys: "/admin/v1/keys", projects: "/admin/v1/projects" };

export function Keys() {
  const [tab, setTab] = useQuery("tab", "keys");
  const kind = PATHS[tab] ? tab : "keys";
  return html`<section aria-labelledby="keys-title">
    <header class="page-head"><h1 id="keys-title">Keys and projects</h1></header>
    <${Tabs} label="Accounts" tabs=${[["keys", "Keys"], ["projects", "Projects"]]} value=${kind} onChange=${(name) => setTab(name, { push: true })}>
      <${Accounts} key=${kind} kind=${kind} />
    <//>
  </section>`;
}

function Accounts({ kind }) {
  const { rows, error, hasMore, load, loadMore } = usePages(PATHS[kind]);
  const [open, setOpen] = useState(null);
  const [failure, setFailure] = useState(null);
  const noun = kind === "keys" ? "key" : "project";
  const act = async (method, path, body) => {
    setFailure(null);
    try {
      const answer = await call(method, path, { body });
      await load();
      return answer;
    } catch (problem) {
      setFailure(problem);
      return null;
    }
  };
  const at = (row) => `${PATHS[kind]}/${encodeURIComponent(row.id)}`;
  const rotate = async (row) => {
    const made = await act("POST", `${at(row)}/rotate`, {});
    setOpen(made && { what: "shown", row: made });
  };
  const remove = async (row) => {
    await act("DELETE", at(row));
    setOpen(null);
  };
  const saved = async (made) => {
    await load();
    setOpen(made.key ? { what: "shown", row: made } : null);
  };
  return html`<div class="stack">
    <div class="row"><button class="primary" type="button" onClick=${() => setOpen({ what: "form", row: null })}>New ${noun}</button></div>
    ${error && html`<${ErrorNotice} error=${error} onRetry=${load} />`}
    ${failure && html`<${ErrorNotice} error=${failure} />`}
    ${!rows && !error && html`<${Loading} what=${kind} />`}
    ${rows && !rows.length && html`<${Empty} title=${`There is no ${noun} yet`}><p>${kind === "keys" ? "Until there is one, the admin key is the only key." : "Projects give several keys budgets and limits in common."}</p><//>`}
    <ul class="accounts">${rows?.map((row) => html`<${Account} key=${row.id} row=${row} noun=${noun}
      onEdit=${() => setOpen({ what: "form", row })} onRotate=${() => setOpen({ what: "rotate", row })} onDelete=${() => setOpen({ what: "delete", row })}
      onTurn=${() => act("PATCH", at(row), { disabled: !row.disabled })} />`)}</ul>
    ${hasMore && html`<p><button type="button" onClick=${loadMore}>More</button></p>`}
    ${open?.what === "form" && html`<${AccountForm} kind=${kind} row=${open.row} path=${open.row ? at(open.row) : PATHS[kind]} onSaved=${saved} onClose=${() => setOpen(null)} />`}
    ${open?.what === "shown" && html`<${Shown} row=${open.row} onClose=${() => setOpen(null)} />`}
    ${open?.what === "rotate" && html`<${Confirm} title=${`Rotate ${open.row.name || open.row.id}?`} action="Rotate" onDo=${() => rotate(open.row)} onClose=${() => setOpen(null)}>
      <p>It gets a new text, which is shown once. Programs that still send the old text are refused.</p><//>`}
    ${open?.what === "delete" && html`<${Confirm} title=${`Delete ${open.row.name || open.row.id}?`} action="Delete" onDo=${() => remove(open.row)} onClose=${() => setOpen(null)}>
      <p>It ends at once. What was spent with it stays in the books.</p><//>`}
  </div>`;
}

function Account({ row, noun, onEdit, onRotate, onDelete, onTurn }) {
  const limits = [
    row.requests_per_minute && `${row.requests_per_minute} requests a minute`,
    row.tokens_per_minute && `${row.tokens_per_minute} tokens a minute`,
    row.parallel_requests && `${row.parallel_requests} at a time`,
  ].filter(Boolean);
  const isOver = row.expires_at && new Date(row.expires_at) < new Date();
  return html`<li class="card account-card">
    <header class="row is-spread">
      <div><strong>${row.name || row.id}</strong> ${row.prefix && html`<code>${row.prefix}…</code>`}</div>
      <div class="row">
        <span class=${`tag ${row.disabled || isOver ? "bad" : "good"}`}>${row.disabled ? "disabled" : isOver ? "expired" : "active"}</span>
        <button type="button" onClick=${onEdit}>Edit</button>
        ${noun === "key" && html`<button type="button" onClick=${onRotate}>Rotate</button>`}
        <button type="button" onClick=${onTurn}>${row.disabled ? "Enable" : "Disable"}</button>
        <button class="danger" type="button" onClick=${onDelete}>Delete</button>
      </div>
    </header>
    <${Budgets} budget=${row.budget} usage=${row.usage} name=${row.name || row.id} />
    <p class="soft">${[
      row.owner && `of ${row.owner}`,
      row.project && `project ${row.project}`,
      ...limits,
      row.models && `models: ${row.models.join(", ")}`,
      row.providers && `providers: ${row.providers.join(", ")}`,
      row.guard_prompt && `prompts: ${row.guard_prompt}`,
      row.guard_answer && `answers: ${row.guard_answer}`,
      row.tools && `tools: ${row.tools.join(", ")}`,
      row.expires_at && `until ${moment(row.expires_at)}`,
      row.last_used_at && `last used ${moment(row.last_used_at)}`,
      `spent ${dollars(row.usage.total.spent)} in all`,
    ].filter(Boolean).join(" · ")}</p>
  </li>`;
}

/** All pages that were asked for so far, loaded again every few seconds, so that spending is seen to move. */
function usePages(path) {
  const [state, setState] = useState({ rows: null, error: null, hasMore: false, num: 1 });
  const read = useCallback(async (num) => {
    try {
      let rows = [];
      let page = { has_more: true, last_id: null };
      for (let each = 0; each < num && page.has_more; each += 1) {
        page = await get(page.last_id ? `${path}?after=${encodeURIComponent(page.last_id)}` : path);
        rows = [...rows, ...page.data];
      }
      setState({ rows, error: null, hasMore: page.has_more, num });
    } catch (error) {
      setState((before) => ({ ...before, error }));
    }
  }, [path]);
  useEffect(() => {
    read(state.num);
    const timer = setInterval(() => document.hidden || read(state.num), 5000);
    return () => clearInterval(timer);
  }, [read, state.num]);
  return { ...state, load: () => read(state.num), loadMore: () => setState((before) => ({ ...before, num: before.num + 1 })) };
}
