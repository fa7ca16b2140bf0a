// A conversation at work: its tree, the answer that is being written, and what a person can do with both.
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { asked, NEW_ANSWER } from "./answer.js";
import { changed, chose, EMPTY, grown, messagesOf, newId, pathOf, pathTo, readTree, siblingsOf } from "./conversation.js";

const KEPT_BYTES = 2_000_000;

/** `bodyFor(messages)` makes the request. Conversations are kept in this browser, by `name`, without raw chunks. */
export function useConversation(name, bodyFor) {
  const [tree, setTree] = useState(() => loaded(name));
  const treeNow = useRef(tree);
  const running = useRef(null);
  const [isRunning, setIsRunning] = useState(false);
  const making = useRef(bodyFor);
  making.current = bodyFor;
  const update = useCallback((make) => {
    treeNow.current = make(treeNow.current);
    setTree(treeNow.current);
  }, []);
  const run = useCallback(async (parent) => {
    const id = newId();
    update((now) => grown(now, parent, { ...NEW_ANSWER, id }));
    const body = making.current(messagesOf(pathTo(treeNow.current, parent)));
    const control = new AbortController();
    running.current = control;
    setIsRunning(true);
    const painter = onceAFrame((answer) => update((now) => changed(now, id, withoutId(answer))));
    const answer = await asked(body, { signal: control.signal, onChange: painter.paint });
    painter.cancel();
    update((now) => changed(now, id, withoutId(answer)));
    running.current = null;
    setIsRunning(false);
    keep(name, treeNow.current);
  }, [name, update]);
  useEffect(() => () => running.current?.abort(), []);
  const path = pathOf(tree);
  return {
    tree,
    path,
    isRunning,
    run,
    stop: () => running.current?.abort(),
    siblings: (node) => siblingsOf(tree, node),
    /** A message of the person's, and the answer to it. Without `beside` at the end, else as another version of that node. */
    say: (content, { images = [], beside = null } = {}) => {
      const id = newId();
      const parent = beside ? beside.parent : (path.at(-1)?.id ?? "");
      update((now) => grown(now, parent, { id, role: "user", content, images }));
      return run(id);
    },
    again: (node) => run(node.parent),
    look: (id) => {
      update((now) => chose(now, now.nodes[id]));
      keep(name, treeNow.current);
    },
    /** What a tool said; the model goes on once every call has its result. */
    result: (node, results) => {
      let parent = node.id;
      for (const [callId, content] of results) {
        const id = newId();
        const under = parent;
        update((now) => grown(now, under, { id, role: "tool", callId, content }));
        parent = id;
      }
      return run(parent);
    },
    clear: () => {
      running.current?.abort();
      update(() => EMPTY);
      keep(name, EMPTY);
    },
    ...useFollowing(tree),
  };
}

/** The answer's own id is that of the request; the node keeps its own. */
const withoutId = ({ id, ...answer }) => ({ ...answer, answerId: id });

/** Draws at most once for each frame, however many chunks come. */
function onceAFrame(draw) {
  let latest = null;
  let frame = 0;
  const paint = (value) => {
    latest = value;
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      draw(latest);
    });
  };
  return { paint, cancel: () => cancelAnimationFrame(frame) };
}

/** The end stays in view while more comes, unless somebody has scrolled away from it. */
function useFollowing(tree) {
  const scroller = useRef(null);
  const follows = useRef(true);
  useLayoutEffect(() => {
    if (follows.current && scroller.current) scroller.current.scrollTop = scroller.current.scrollHeight;
  }, [tree]);
  const onScroll = useCallback(() => {
    const box = scroller.current;
    follows.current = box.scrollHeight - box.scrollTop - box.clientHeight < 60;
  }, []);
  return { scroller, onScroll };
}

const placeOf = (name) => `hodios.chat.${name}`;

function loaded(name) {
  try {
    return readTree(localStorage.getItem(placeOf(name))) ?? EMPTY;
  } catch {
    return EMPTY;
  }
}

function keep(name, tree) {
  const nodes = Object.fromEntries(Object.entries(tree.nodes).map(([id, node]) => [id, { ...node, raw: undefined, tokens: [] }]));
  const text = JSON.stringify({ ...tree, nodes });
  try {
    if (tree.order.length && text.length < KEPT_BYTES) localStorage.setItem(placeOf(name), text);
    else localStorage.removeItem(placeOf(name));
  } catch {
    // Full or forbidden: the conversation lasts as long as the page.
  }
}
