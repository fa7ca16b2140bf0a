// Signing in: with a key, or by the one-time link that `hodios ui` prints.
import { TextField } from "../components/controls.js";
import { ErrorNotice, Loading } from "../components/notices.js";
import { call } from "../lib/api.js";
import { html, useEffect, useState } from "../lib/html.js";
import { BASE, go } from "../lib/place.js";

export function SignIn({ refresh }) {
  const [key, setKey] = useState("");
  const [error, setError] = useState(null);
  const [isBusy, setIsBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setIsBusy(true);
    setError(null);
    try {
      await call("POST", "/ui/session", { body: { key: key.trim() } });
      await refresh();
    } catch (failure) {
      setError(failure);
    }
    setIsBusy(false);
  };
  return html`<form class="sign-in card" onSubmit=${submit}>
    <img src="${BASE}/icon.svg" alt="" width="44" height="44" />
    <h1>Sign in</h1>
    <${TextField} label="Key" type="password" value=${key} onChange=${setKey} autocomplete="current-password" required isWide
      hint="The admin key opens everything; an inference key opens models, comparison and its own usage." />
    ${error && html`<${ErrorNotice} error=${error} />`}
    <button class="primary" disabled=${isBusy || !key.trim()}>${isBusy ? "Signing in …" : "Sign in"}</button>
    <p class="soft">On the server's machine, <code>hodios ui</code> prints a link that signs you in.</p>
  </form>`;
}

/** Where one-time links lead: the code is in the fragment, which browsers send to nobody. */
export function Landing({ session }) {
  const [error, setError] = useState(null);
  useEffect(() => {
    const code = new URLSearchParams(window.location.hash.slice(1)).get("code");
    window.history.replaceState(null, "", `${BASE}/login`);
    if (!code) {
      if (session.role) go("/models", { replace: true });
      return;
    }
    call("POST", "/ui/session", { body: { code } }).then(
      () => window.location.replace(`${BASE}/models`),
      (failure) => setError(failure),
    );
  }, []);
  if (error) {
    return html`<div>
      <${ErrorNotice} error=${error} />
      <p>A link is good once and for ten minutes. Run <code>hodios ui</code> for a new one, or <a href="${BASE}/models">sign in with a key</a>.</p>
    </div>`;
  }
  return html`<${Loading} what="your session" />`;
}
