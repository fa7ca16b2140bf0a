// The one place that asks the server. Errors become ApiError, with what the server said and what to do next.

let csrf = "";
export const SIGNED_OUT = "hodios:signed-out";

/** What changing requests carry, as the session said. */
export function setCsrf(value) {
  csrf = value ?? "";
}

export class ApiError extends Error {
  constructor(message, { status = 0, code = null, param = null, retryAfter = null, requestId = null, metadata = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param, retryAfter, requestId, metadata });
  }

  /** What a person can do about it. */
  get advice() {
    if (this.status === 0) return "Check that hodios serve is running, then try again.";
    if (this.status === 401) return "Sign in again.";
    if (this.status === 402) return "Raise the key's budget, or wait until it begins anew.";
    if (this.status === 403) return "This needs the admin key.";
    if (this.status === 404 && this.code === "model_not_found") return "Choose one of the models that are listed.";
    if (this.status === 429 || this.status === 503)
      return this.retryAfter ? `Try again in ${this.retryAfter} s.` : "Try again in a moment.";
    if (this.code === "content_filter") return "Say it in another way, or have the filter policy of the key changed.";
    if (this.status === 400) return this.param ? `Change ${this.param}, then send it again.` : "Change the request, then send it again.";
    if (this.status === 502 || this.status === 504) return "Try again, or choose another provider.";
    return this.requestId ? `If it comes again, look for ${this.requestId} in the server's log.` : "Try again.";
  }
}

async function send(method, path, { body, signal, headers = {} } = {}) {
  const all = { ...headers };
  if (body !== undefined) all["content-type"] = "application/json";
  if (method !== "GET") all["x-hodios-csrf"] = csrf;
  const request = { method, headers: all, signal, credentials: "same-origin" };
  if (body !== undefined) request.body = JSON.stringify(body);
  try {
    return await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.");
  }
}

async function refusal(response) {
  let told = null;
  try {
    told = (await response.json()).error;
  } catch {
    // Not our own words: a proxy between, perhaps.
  }
  const error = new ApiError(told?.message ?? `The server answered ${response.status}.`, {
    status: response.status,
    code: told?.code ?? null,
    param: told?.param ?? null,
    metadata: told?.metadata ?? null,
    retryAfter: response.headers.get("retry-after"),
    requestId: response.headers.get("x-request-id"),
  });
  if (response.status === 401) window.dispatchEvent(new Event(SIGNED_OUT));
  return error;
}

/** JSON of a route; null where it answers nothing. Raises ApiError. */
export async function call(method, path, options) {
  const response = await send(method, path, options);
  if (!response.ok) throw await refusal(response);
  if (response.status === 204) return null;
  return response.json();
}

export const get = (path, options) => call("GET", path, options);

/** Server-sent events of a streamed answer, parsed, one by one. `onStart` is told of the headers. Raises ApiError. */
export async function* stream(path, body, { signal, onStart } = {}) {
  const response = await send("POST", path, { body, signal });
  if (!response.ok) throw await refusal(response);
  onStart?.(response.headers);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const data = dataOf(event);
        if (data === "[DONE]") return;
        if (data !== null) yield JSON.parse(data);
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

function dataOf(event) {
  const lines = event.split("\n").filter((line) => line.startsWith("data:"));
  return lines.length ? lines.map((line) => line.slice(5).trimStart()).join("\n") : null;
}

/** A path with a query; null, undefined and "" are left out. */
export function query(path, values) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== "") found.set(name, String(value));
  }
  const text = found.toString();
  return text ? `${path}?${text}` : path;
}
