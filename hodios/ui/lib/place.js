// Where the page is: a path below /ui/ and a query. Everything that can be linked lives there.
import { useCallback, useLayoutEffect, useState } from "./html.js";

export const BASE = "/ui";
const MOVED = "hodios:moved";

export function place() {
  const { pathname, search } = window.location;
  const path = pathname.startsWith(BASE) ? pathname.slice(BASE.length) : pathname;
  return { path: path || "/", query: new URLSearchParams(search) };
}

/** Go to a path below /ui/, query included. `replace` leaves no step in the history. */
export function go(to, { replace = false } = {}) {
  const url = BASE + to;
  if (url === window.location.pathname + window.location.search) return;
  window.history[replace ? "replaceState" : "pushState"](null, "", url);
  window.dispatchEvent(new Event(MOVED));
  if (!replace) window.scrollTo(0, 0);
}

/** The query with some names changed: null, undefined and "" remove a name. */
export function withQuery(path, query, changes) {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") next.delete(name);
    else next.set(name, String(value));
  }
  const text = next.toString();
  return text ? `${path}?${text}` : path;
}

export function usePlace() {
  const [now, setNow] = useState(place);
  // As soon as it is drawn: on a busy machine somebody may be quicker than what runs after the drawing.
  useLayoutEffect(() => {
    const moved = () => setNow(place());
    window.addEventListener("popstate", moved);
    window.addEventListener(MOVED, moved);
    return () => {
      window.removeEventListener("popstate", moved);
      window.removeEventListener(MOVED, moved);
    };
  }, []);
  return now;
}

/** One value of the query and its setter. Typing leaves no steps in the history; `push` does. */
export function useQuery(name, fallback = "") {
  const { query } = usePlace();
  const set = useCallback(
    (value, { push = false } = {}) => {
      const { path, query } = place();
      go(withQuery(path, query, { [name]: value === fallback ? null : value }), { replace: !push });
    },
    [name, fallback],
  );
  return [query.get(name) ?? fallback, set];
}

/** Clicks on links below /ui/ move within the page, unless they ask for a new tab or a file. */
export function followLinks(root) {
  root.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target.closest?.("a[href]");
    if (!link || link.target || link.hasAttribute("download") || link.origin !== window.location.origin) return;
    if (!link.pathname.startsWith(`${BASE}/`) || link.hash) return;
    event.preventDefault();
    go(link.pathname.slice(BASE.length) + link.search);
  });
}

/** A model's id within a path, here and at the API; it keeps its slashes. */
export const idPath = (id) => id.split("/").map(encodeURIComponent).join("/");

/** The path of a model's page. */
export const modelPath = (id) => `/models/${idPath(id)}`;
