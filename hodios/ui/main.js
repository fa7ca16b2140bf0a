// Starts the page.
import { App } from "./app.js";
import { html, render } from "./lib/html.js";
import { followLinks } from "./lib/place.js";

followLinks(document);
render(html`<${App} />`, document.getElementById("app"));
