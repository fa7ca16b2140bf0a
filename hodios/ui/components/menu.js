// Where one can go, who is signed in, and light or dark.
import { call } from "../lib/api.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { BASE } from "../lib/place.js";
import { bringIntoView } from "../lib/scrolling.js";
import { ROUTES } from "../routes.js";
import { Icon } from "./icons.js";

export function Menu({ session, refresh, current }) {
  const open = ROUTES.filter((route) => (session.role ? !route.isAdmin || session.role === "admin" : route.isPublic));
  const active = current === "model" ? "models" : current;
  const row = useRef(null);
  useEffect(() => bringIntoView(row.current, row.current.querySelector("[aria-current]")), [active]);
  return html`<header class="menu">
    <a class="brand" href="${BASE}/" aria-label="Hodios, all models">
      <img src="${BASE}/icon.svg" alt="" width="28" height="28" /><span>Hodios</span>
    </a>
    <nav aria-label="Pages" ref=${row}>
      ${open.map(
        (route) => html`<a href=${BASE + route.path} aria-current=${route.name === active ? "page" : undefined}>
          <${Icon} name=${route.icon} /><span>${route.title}</span>
        </a>`,
      )}
    </nav>
    <div class="menu-foot">
      <${ThemeButton} />
      ${session.role && html`<${Account} session=${session} refresh=${refresh} />`}
    </div>
  </header>`;
}

function Account({ session, refresh }) {
  const leave = async () => {
    await call("DELETE", "/ui/session").catch(() => {});
    await refresh();
  };
  const name = session.role === "admin" ? "Operator" : session.name || session.prefix;
  return html`<div class="account">
    <span class="account-name" title=${session.prefix || ""}>${name}</span>
    <button class="quiet" onClick=${leave}>Sign out</button>
  </div>`;
}

const THEMES = ["system", "light", "dark"];

function ThemeButton() {
  const [theme, setTheme] = useState(document.documentElement.dataset.theme ?? "system");
  const turn = () => {
    const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("hodios.theme", next);
    } catch {
      // Then it holds for this page only.
    }
    setTheme(next);
    window.dispatchEvent(new Event("hodios:theme"));
  };
  const icon = { system: "contrast", light: "sun", dark: "moon" }[theme];
  return html`<button class="quiet" onClick=${turn} aria-label=${`Colours: ${theme}. Change`} title=${`Colours: ${theme}`}>
    <${Icon} name=${icon} />
  </button>`;
}
