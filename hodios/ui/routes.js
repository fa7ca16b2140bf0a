// Which view a path means. Views are modules of their own and loaded when they are needed.

export const ROUTES = [
  { name: "models", path: "/models", title: "Models", icon: "grid", load: async () => (await import("./views/models.js")).Models },
  { name: "compare", path: "/compare", title: "Compare", icon: "columns", load: async () => (await import("./views/compare.js")).Compare },
  { name: "status", path: "/status", title: "Status", icon: "pulse", load: async () => (await import("./views/status.js")).Status, isPublic: true },
  { name: "usage", path: "/usage", title: "Usage", icon: "bars", load: async () => (await import("./views/usage.js")).Usage },
  { name: "keys", path: "/keys", title: "Keys", icon: "key", load: async () => (await import("./views/keys.js")).Keys, isAdmin: true },
  { name: "local", path: "/local", title: "Local models", icon: "chip", load: async () => (await import("./views/local.js")).Local, isAdmin: true },
];
const MODEL = { name: "model", title: "", load: async () => (await import("./views/model.js")).Model };
const LOGIN = { name: "login", title: "Sign in", isPublic: true, load: async () => (await import("./views/sign_in.js")).Landing };
const NOWHERE = { name: "nowhere", title: "Not found", isPublic: true, load: async () => (await import("./views/nowhere.js")).Nowhere };

/** The route of a path, with what follows it as `rest`. */
export function viewOf(path) {
  const plain = path.replace(/\/+$/, "") || "/models";
  if (plain === "/login") return { ...LOGIN, rest: "" };
  if (plain.startsWith("/models/")) {
    const id = plain.slice("/models/".length).split("/").map(decode).join("/");
    return { ...MODEL, title: id.split("/").pop(), rest: id };
  }
  const found = ROUTES.find((route) => plain === route.path || plain.startsWith(`${route.path}/`));
  return found ? { ...found, rest: plain.slice(found.path.length + 1) } : { ...NOWHERE, rest: plain };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
