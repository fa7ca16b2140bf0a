// A conversation as a tree: what is edited or asked again becomes a branch beside the old one, and nothing is lost.
// Nodes: {id, parent, role, …}; `chosen` says for each parent which child is looked at.

export const EMPTY = { nodes: {}, order: [], chosen: {} };
const ROOT = "";

export const newId = () => crypto.getRandomValues(new Uint32Array(2)).join("-");

/** With a node under `parent` ("" at the top), which is looked at from now on. */
export function grown(tree, parent, node) {
  return {
    nodes: { ...tree.nodes, [node.id]: { ...node, parent } },
    order: [...tree.order, node.id],
    chosen: { ...tree.chosen, [parent]: node.id },
  };
}

/** With some fields of a node changed. */
export function changed(tree, id, fields) {
  if (!tree.nodes[id]) return tree;
  return { ...tree, nodes: { ...tree.nodes, [id]: { ...tree.nodes[id], ...fields } } };
}

/** The nodes that are looked at, from the first to the last. */
export function pathOf(tree) {
  const path = [];
  for (let id = tree.chosen[ROOT]; id; id = tree.chosen[id]) path.push(tree.nodes[id]);
  return path;
}

/** The nodes from the first down to one, that one included. */
export function pathTo(tree, id) {
  const path = [];
  for (let node = tree.nodes[id]; node; node = tree.nodes[node.parent]) path.unshift(node);
  return path;
}

/** The ids that stand where a node stands, in the order in which they were made. */
export function siblingsOf(tree, node) {
  return tree.order.filter((id) => tree.nodes[id].parent === node.parent);
}

export function chose(tree, node) {
  return { ...tree, chosen: { ...tree.chosen, [node.parent]: node.id } };
}

/** Messages as the API takes them. Answers that failed before their first word are left out. */
export function messagesOf(path) {
  return path.filter((node) => node.role !== "assistant" || node.content || node.calls?.length).map(messageOf);
}

function messageOf(node) {
  if (node.role === "assistant") {
    const message = { role: "assistant", content: node.content || null };
    if (node.calls?.length) message.tool_calls = node.calls;
    return message;
  }
  if (node.role === "tool") return { role: "tool", tool_call_id: node.callId, content: node.content };
  if (!node.images?.length) return { role: node.role, content: node.content };
  const images = node.images.map((url) => ({ type: "image_url", image_url: { url } }));
  return { role: node.role, content: [{ type: "text", text: node.content }, ...images] };
}

/** What can be kept and read again; null where it is not a conversation. */
export function readTree(text) {
  try {
    const tree = JSON.parse(text);
    return tree && tree.nodes && Array.isArray(tree.order) && tree.chosen ? tree : null;
  } catch {
    return null;
  }
}
