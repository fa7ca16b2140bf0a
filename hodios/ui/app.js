// The frame around every view: who is signed in, where one can go, and which view the path means.
import { Menu } from "./components/menu.js";
import { ErrorNotice, Loading } from "./components/notices.js";
import { get, setCsrf, SIGNED_OUT } from "./lib/api.js";
import { createContext, html, useCallback, useContext, useEffect, useState } from "./lib/html.js";
import { usePlace } from "./lib/place.js";
import { viewOf } from "./routes.js";
import { SignIn } from "./views/sign_in.js";

const NOBODY = { role: null };
const Session = createContext({ session: NOBODY, refresh: () => {} });

/** `{session, refresh}`: `session.role` is "admin", "key" or null. */
export const useSession = () => useContext(Session);

export function App() {
  const [session, setSession] = useState(null);
  const [error, setError] = useState(null);
  const refresh = useCallback(async () => {
    try {
      const found = await get("/ui/session");
      setCsrf(found.csrf);
      setSession(found);
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  }, []);
  useEffect(() => {
    refresh();
    const signedOut = () => setSession((now) => (now?.role ? NOBODY : now));
    window.addEventListener(SIGNED_OUT, signedOut);
    return () => window.removeEventListener(SIGNED_OUT, signedOut);
  }, [refresh]);
  if (session === null) {
    return html`<main class="page" id="main">
      ${error ? html`<${ErrorNotice} error=${error} onRetry=${refresh} />` : html`<${Loading} what="Hodios" />`}
    </main>`;
  }
  return html`<${Session.Provider} value=${{ session, refresh }}>
    <${Frame} session=${session} refresh=${refresh} />
  <//>`;
}

function Frame({ session, refresh }) {
  const { path, query } = usePlace();
  const route = viewOf(path);
  useEffect(() => {
    document.title = route.title ? `${route.title} · Hodios` : "Hodios";
  }, [route.title]);
  const isOpen = route.isPublic || session.role !== null;
  return html`
    <a class="skip" href="#main">Skip to the content</a>
    <div class="frame">
      <${Menu} session=${session} refresh=${refresh} current=${route.name} />
      <main class="page" id="main" tabindex="-1">
        ${isOpen
          ? html`<${View} key=${route.name} route=${route} query=${query} session=${session} />`
          : html`<${SignIn} refresh=${refresh} />`}
      </main>
    </div>
  `;
}

/** Loads a view's module when it is first seen. */
function View({ route, query, session }) {
  const [view, setView] = useState(null);
  const [error, setError] = useState(null);
  const load = useCallback(async () => {
    setError(null);
    try {
      const found = await route.load();
      setView(() => found);
    } catch (failure) {
      setError(failure);
    }
  }, [route.name]);
  useEffect(() => {
    load();
  }, [load]);
  if (error) return html`<${ErrorNotice} error=${error} onRetry=${load} />`;
  if (!view) return html`<${Loading} what="this page" />`;
  if (route.isAdmin && session.role !== "admin") {
    return html`<div class="empty">
      <h1>${route.title}</h1>
      <p>This page needs the admin key. You are signed in with an inference key, which opens models, comparison and your own usage.</p>
    </div>`;
  }
  return html`<${view} rest=${route.rest} query=${query} session=${session} />`;
}
