// The request that the panel's state means. What is sent, and what the samples of code show, is made here alone.
import { MORE_NUMBERS, NUMBERS } from "./settings.js";

/** The body of POST /v1/chat/completions. `turns`: messages without the system prompt. */
export function bodyOf(model, settings, turns) {
  const messages = settings.system ? [{ role: "system", content: settings.system }, ...turns] : turns;
  const body = { model, messages };
  for (const name of NUMBERS) if (settings[name] !== null) body[name] = settings[name];
  for (const name of MORE_NUMBERS) if (settings[name] !== null && name !== "top_logprobs") body[name] = settings[name];
  const stops = settings.stop.split("\n").filter(Boolean);
  if (stops.length) body.stop = stops;
  if (settings.logprobs) {
    body.logprobs = true;
    body.top_logprobs = settings.top_logprobs ?? 5;
  }
  Object.assign(body, formatOf(settings), toolsOf(settings));
  if (settings.provider) body.provider = settings.provider;
  if (settings.routing) body.routing = settings.routing;
  if (settings.stream) {
    body.stream = true;
    body.stream_options = { include_usage: true };
  }
  return body;
}

function formatOf(settings) {
  if (settings.format === "json_object") return { response_format: { type: "json_object" } };
  if (settings.format !== "json_schema") return {};
  return { response_format: { type: "json_schema", json_schema: { name: "answer", strict: true, schema: parsed(settings.schema) ?? {} } } };
}

function toolsOf(settings) {
  const tools = parsed(settings.tools);
  if (!Array.isArray(tools) || !tools.length) return {};
  return settings.tool_choice ? { tools, tool_choice: settings.tool_choice } : { tools };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
