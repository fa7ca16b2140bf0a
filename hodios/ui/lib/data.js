// Data of a route as a hook: loaded once, again on demand, and every so often while somebody looks.
import { get } from "./api.js";
import { useCallback, useEffect, useRef, useState } from "./html.js";

const NOTHING = { data: null, error: null, isLoading: true };

/** `{data, error, isLoading, reload}` of a path; a null path asks nothing. `everyS`: seconds between loads. */
export function useData(path, { everyS = 0 } = {}) {
  const [state, setState] = useState(NOTHING);
  const asked = useRef(null);
  const load = useCallback(async () => {
    if (path === null) return;
    const mine = {};
    asked.current = mine;
    let next;
    try {
      next = { data: await get(path), error: null, isLoading: false };
    } catch (error) {
      next = { error, isLoading: false };
    }
    if (asked.current === mine) setState((before) => ({ ...before, ...next }));
  }, [path]);
  useEffect(() => {
    setState(NOTHING);
    load();
    return () => {
      asked.current = null;
    };
  }, [load]);
  useEffect(() => {
    if (!everyS) return undefined;
    const timer = setInterval(() => document.hidden || load(), everyS * 1000);
    return () => clearInterval(timer);
  }, [everyS, load]);
  return { ...state, reload: load };
}
