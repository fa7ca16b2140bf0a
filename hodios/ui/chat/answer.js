// An answer as it comes: chunks folded into what is shown. The same for one that comes in one piece.
import { call, stream } from "../lib/api.js";

const PATH = "/v1/chat/completions";
export const NEW_ANSWER = {
  role: "assistant", content: "", reasoning: "", calls: [], tokens: [], raw: [], warnings: [], isRunning: true, error: null, finish: null,
  usage: null, route: null, provider: null, model: null, id: null, filter: null,
};

/** Ask, and tell `onChange` of the answer so far as often as it grows. Returns the whole. Does not raise. */
export async function asked(body, { signal, onChange }) {
  const began = performance.now();
  let answer = { ...NEW_ANSWER, request: body, raw: [], tokens: [] };
  const sent = { ...body, include_route: true, content_filter: "details" };
  const tell = (next) => {
    answer = next;
    onChange(answer);
  };
  try {
    if (body.stream) {
      for await (const chunk of stream(PATH, sent, { signal })) tell(timed(folded(answer, chunk), began));
    } else {
      tell(timed(wholeOf(answer, await call("POST", PATH, { body: sent, signal })), began));
    }
  } catch (error) {
    tell({ ...answer, ...(error.name === "AbortError" ? { finish: "stopped" } : { error: shownError(error) }) });
  }
  tell({ ...answer, isRunning: false, tookMs: performance.now() - began });
  return answer;
}

const shownError = (error) => ({ message: error.message, advice: error.advice ?? "Try again.", requestId: error.requestId ?? null, code: error.code ?? null, metadata: error.metadata ?? null });

function timed(answer, began) {
  if (answer.firstMs || !(answer.content || answer.reasoning || answer.calls.length)) return answer;
  return { ...answer, firstMs: performance.now() - began };
}

/** The answer with one chunk of the stream in it. */
export function folded(answer, chunk) {
  const next = { ...answer };
  // One list for all: copying it for each of thousands of chunks would be felt.
  next.raw.push(chunk);
  for (const name of ["id", "model", "provider"]) next[name] = chunk[name] ?? answer[name];
  if (chunk.error) next.error = { message: chunk.error.message, advice: "What came before is shown. Try again, or choose another provider.", requestId: null };
  if (chunk.usage) next.usage = chunk.usage;
  if (chunk.route) next.route = chunk.route;
  if (chunk.warnings) next.warnings = [...answer.warnings, ...chunk.warnings];
  const choice = chunk.choices?.[0];
  if (!choice) return next;
  if (choice.finish_reason) next.finish = choice.finish_reason;
  next.filter = filterOf(choice, answer.filter);
  if (choice.logprobs?.content) next.tokens.push(...choice.logprobs.content);
  return withDelta(next, choice.delta ?? {});
}

function withDelta(answer, delta) {
  const next = answer;
  if (delta.content) next.content += delta.content;
  if (delta.reasoning_content) next.reasoning += delta.reasoning_content;
  for (const slice of delta.tool_calls ?? []) {
    const calls = next.calls.slice();
    const call = calls[slice.index] ?? { id: "", type: "function", function: { name: "", arguments: "" } };
    calls[slice.index] = {
      id: slice.id ?? call.id,
      type: "function",
      function: { name: call.function.name + (slice.function?.name ?? ""), arguments: call.function.arguments + (slice.function?.arguments ?? "") },
    };
    next.calls = calls;
  }
  return next;
}

function wholeOf(answer, whole) {
  const choice = whole.choices[0];
  return {
    ...answer,
    raw: [whole],
    id: whole.id,
    model: whole.model,
    provider: whole.provider,
    usage: whole.usage,
    route: whole.route ?? null,
    warnings: whole.warnings ?? [],
    content: choice.message.content ?? "",
    reasoning: choice.message.reasoning_content ?? "",
    calls: choice.message.tool_calls ?? [],
    tokens: choice.logprobs?.content ?? [],
    finish: choice.finish_reason,
    filter: filterOf(choice, null),
  };
}

/** Later chunks know more than earlier ones. */
const filterOf = (choice, before) =>
  choice.content_filter_results ? { results: choice.content_filter_results, details: choice.content_filter_details ?? before?.details ?? null } : before;

/** Tokens per second after the first one, as far as both are known. */
export function speedOf(answer) {
  const { usage } = answer;
  if (!usage || usage.completion_tokens < 2) return null;
  const wrote = usage.latency_ms - (usage.time_to_first_token_ms ?? 0);
  return wrote > 0 ? ((usage.completion_tokens - 1) * 1000) / wrote : null;
}
