// What the panel sets: each setting's name in the address, which is the parameter's own, and how it is read from there.

export const NUMBERS = ["max_tokens", "temperature", "top_p", "min_p", "top_k", "presence_penalty", "frequency_penalty", "repetition_penalty"];
export const MORE_NUMBERS = ["seed", "top_logprobs"];
const ALL_NUMBERS = [...NUMBERS, ...MORE_NUMBERS];
const TEXTS = ["system", "format", "schema", "tools", "tool_choice", "stop", "provider", "routing"];
const SWITCHES = ["logprobs"];

/** Where sliders end: what people use, where the server accepts far more. */
export const SLIDERS = {
  max_tokens: [1, 4096, 1], temperature: [0, 2, 0.01], top_p: [0.01, 1, 0.01], min_p: [0, 1, 0.01], top_k: [0, 200, 1],
  presence_penalty: [-2, 2, 0.01], frequency_penalty: [-2, 2, 0.01], repetition_penalty: [0.5, 2, 0.01], top_logprobs: [0, 20, 1],
};

/** All settings; numbers are null and texts "" where the server's default holds. */
export function settingsIn(query) {
  const found = {};
  for (const name of ALL_NUMBERS) {
    const text = query.get(name);
    found[name] = text === null || text === "" || !Number.isFinite(Number(text)) ? null : Number(text);
  }
  for (const name of TEXTS) found[name] = query.get(name) ?? "";
  for (const name of SWITCHES) found[name] = query.get(name) === "1";
  found.stream = query.get("stream") !== "0";
  return found;
}

/** What one change makes of the query: name → text, null where the default holds again. */
export function queryOf(name, value) {
  if (name === "stream") return { stream: value ? null : "0" };
  if (SWITCHES.includes(name)) return { [name]: value ? "1" : null };
  return { [name]: value === null || value === "" ? null : String(value) };
}

/** What is wrong with settings that are written as JSON, by name; empty where all is well. */
export function mistakesIn(settings) {
  const mistakes = {};
  if (settings.format === "json_schema") {
    if (!settings.schema.trim()) mistakes.schema = "Write a JSON schema, or choose another response format.";
    else mistakes.schema = mistakeIn(settings.schema, (value) => value !== null && typeof value === "object" && !Array.isArray(value), "an object");
  }
  if (settings.tools.trim()) mistakes.tools = mistakeIn(settings.tools, Array.isArray, "a list of tools");
  return Object.fromEntries(Object.entries(mistakes).filter(([, text]) => text));
}

function mistakeIn(text, isRight, wanted) {
  try {
    return isRight(JSON.parse(text)) ? null : `This must be ${wanted}.`;
  } catch (error) {
    return `This is no JSON: ${error.message}`;
  }
}
