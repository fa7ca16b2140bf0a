// Single requests, the newest first, a page at a time; each explains how it found its answer.
import { Route } from "../chat/answer_facts.js";
import { Dialog, TextField } from "../components/controls.js";
import { Empty, ErrorNotice, Loading } from "../components/notices.js";
import { Json } from "../components/text.js";
import { get, query as withQuery } from "../lib/api.js";
import { useData } from "../lib/data.js";
import { dollars, milliseconds, moment, number } from "../lib/format.js";
import { html, useEffect, useState } from "../lib/html.js";
import { useQuery } from "../lib/place.js";

const PAGE = 50;

export function RequestLog({ isAdmin }) {
  const [model, setModel] = useQuery("model");
  const [provider, setProvider] = useQuery("provider");
  const [key, setKey] = useQuery("key");
  const [user, setUser] = useQuery("user");
  const [status, setStatus] = useQuery("status");
  const [from, setFrom] = useQuery("from");
  const [to, setTo] = useQuery("to");
  const [open, setOpen] = useQuery("request");
  const filters = { model, provider, key, user, status, from, to };
  const path = withQuery("/v1/queries", { ...filters, limit: PAGE });
  return html`<div class="stack">
    <form class="filters" aria-label="Requests" onSubmit=${(event) => event.preventDefault()}>
      <${TextField} label="Model" value=${model} onChange=${setModel} />
      <${TextField} label="Provider" value=${provider} onChange=${setProvider} />
      ${isAdmin && html`<${TextField} label="Key id" value=${key} onChange=${setKey} />`}
      <${TextField} label="User" value=${user} onChange=${setUser} />
      <${TextField} label="Status" inputmode="numeric" placeholder="200, 429, …" value=${status} onChange=${setStatus} />
      <${TextField} label="From" type="date" value=${from} onChange=${setFrom} />
      <${TextField} label="To" type="date" value=${to} onChange=${setTo} />
    </form>
    <${Pages} key=${path} path=${path} onOpen=${(id) => setOpen(id, { push: true })} />
    ${open && html`<${Detail} id=${open} onClose=${() => setOpen("")} />`}
  </div>`;
}

function Pages({ path, onOpen }) {
  const first = useData(path, { everyS: 15 });
  const [more, setMore] = useState({ items: [], before: undefined, error: null, isLoading: false });
  useEffect(() => setMore({ items: [], before: undefined, error: null, isLoading: false }), [path]);
  const items = [...new Map([...(first.data?.items ?? []), ...more.items].map((item) => [item.id, item])).values()];
  const before = more.before === undefined ? first.data?.before : more.before;
  const load = async () => {
    setMore({ ...more, isLoading: true });
    try {
      const page = await get(`${path}&before=${encodeURIComponent(before)}`);
      setMore({ items: [...more.items, ...page.items], before: page.before, error: null, isLoading: false });
    } catch (error) {
      setMore({ ...more, error, isLoading: false });
    }
  };
  // Where filters leave next to nothing, the server looks back a piece at a time.
  const isSearching = !items.length && Boolean(before) && !more.error;
  useEffect(() => {
    if (isSearching) load();
  }, [isSearching, before]);
  if (first.error && !first.data) return html`<${ErrorNotice} error=${first.error} onRetry=${first.reload} />`;
  if (!first.data) return html`<${Loading} what="requests" />`;
  if (more.error && !items.length) return html`<${ErrorNotice} error=${more.error} onRetry=${load} />`;
  if (isSearching) return html`<${Loading} what=${`older requests, none since ${momentOf(before)}`} />`;
  if (!items.length) return html`<${Empty} title="No request is like that"><p>Take a filter away, or ask something.</p><//>`;
  return html`
    <div class="table-wrap" tabindex="0" role="region" aria-label="Requests"><table>
      <thead><tr><th scope="col">When</th><th scope="col">Model</th><th scope="col">Provider</th><th scope="col">Key</th><th scope="col">Status</th>
        <th scope="col" class="num">Tokens</th><th scope="col" class="num">First token</th><th scope="col" class="num">In all</th><th scope="col" class="num">Cost</th><th scope="col"><span class="visually-hidden">More</span></th></tr></thead>
      <tbody>${items.map((item) => html`<tr key=${item.id}>
        <td>${moment(item.timestamp)}</td><td>${item.route ?? item.model}</td><td>${item.provider ?? "–"}</td><td>${item.app || item.key_id}</td>
        <td><span class=${`tag ${item.status < 400 ? "good" : item.status < 500 ? "warn" : "bad"}`}>${item.status}${item.error ? ` ${item.error}` : ""}</span></td>
        <td class="num">${number(item.prompt_tokens)} + ${number(item.response_tokens)}</td><td class="num">${milliseconds(item.time_to_first_token_ms)}</td>
        <td class="num">${milliseconds(item.latency_ms)}</td><td class="num">${dollars(item.cost)}</td>
        <td><button class="quiet" type="button" onClick=${() => onOpen(item.id)} aria-label=${`Details of the request of ${moment(item.timestamp)}`}>Details</button></td>
      </tr>`)}</tbody>
    </table></div>
    ${more.error && html`<${ErrorNotice} error=${more.error} onRetry=${load} />`}
    ${before && html`<p><button type="button" onClick=${load} disabled=${more.isLoading}>${more.isLoading ? "Loading …" : "Older requests"}</button></p>`}
  `;
}

/** The time that a page's end carries, in Unix seconds, before its comma. */
const momentOf = (before) => moment(Number(before.split(",")[0]) * 1000);

function Detail({ id, onClose }) {
  const found = useData(withQuery("/v1/generation", { id }));
  const data = found.data?.data;
  return html`<${Dialog} title="Request" onClose=${onClose} isDrawer>
    <p class="mono soft">${id}</p>
    ${found.error && html`<${ErrorNotice} error=${found.error} onRetry=${found.reload} />`}
    ${found.isLoading && html`<${Loading} what="the request" />`}
    ${data?.route && html`<${Route} route=${data.route} />`}
    ${data && html`<details><summary>Everything that is known</summary><${Json} value=${data} /></details>`}
  <//>`;
}
