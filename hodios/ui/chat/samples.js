// Programs that send exactly one request, in four languages. Each is whole: it runs as it is shown, but for the key.

/** What OpenAI's own clients take by name; the rest goes where they put what they do not know. */
const OPENAI = new Set([
  "model", "messages", "max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop",
  "logprobs", "top_logprobs", "response_format", "tools", "tool_choice", "stream", "stream_options",
]);
export const LANGUAGES = [["curl", "cURL", "bash"], ["python", "Python", "python"], ["javascript", "JavaScript", "javascript"], ["langchain", "LangChain", "python"]];
export const INSTALLS = { curl: null, python: "pip install openai", javascript: "npm install openai", langchain: "pip install langchain-openai" };

export function sampleOf(language, base, body) {
  return { curl, python, javascript, langchain }[language](base, body);
}

function curl(base, body) {
  const json = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return `curl ${body.stream ? "-N " : ""}${base}/chat/completions \\\n  -H "Authorization: Bearer $HODIOS_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${json}'`;
}

function python(base, body) {
  const { named, others } = parted(body);
  const lines = Object.entries(named).map(([name, value]) => `    ${name}=${inPython(value, 1)},`);
  if (Object.keys(others).length) lines.push(`    extra_body=${inPython(others, 1)},`);
  const head = `import os\n\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=${inPython(base)}, api_key=os.environ["HODIOS_API_KEY"])\n`;
  const ask = `answer = client.chat.completions.create(\n${lines.join("\n")}\n)\n`;
  if (!body.stream) return `${head}${ask}print(answer.choices[0].message.${body.tools ? "tool_calls or answer.choices[0].message." : ""}content)\n`;
  return `${head}${ask}for chunk in answer:\n    if chunk.choices and chunk.choices[0].delta.content:\n        print(chunk.choices[0].delta.content, end="", flush=True)\n`;
}

function javascript(base, body) {
  const head = `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: ${JSON.stringify(base)}, apiKey: process.env.HODIOS_API_KEY });\n`;
  const ask = `const answer = await client.chat.completions.create(${JSON.stringify(body, null, 2)});\n`;
  if (!body.stream) return `${head}${ask}console.log(answer.choices[0].message);\n`;
  return `${head}${ask}for await (const chunk of answer) {\n  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");\n}\n`;
}

function langchain(base, body) {
  const { messages, model, stream, stream_options, tools, tool_choice, response_format, ...rest } = body;
  const { named, others } = parted(rest);
  const lines = [`    base_url=${inPython(base)},`, `    api_key=os.environ["HODIOS_API_KEY"],`, `    model=${inPython(model)},`];
  for (const [name, value] of Object.entries(named)) lines.push(`    ${name}=${inPython(value, 1)},`);
  if (Object.keys(others).length) lines.push(`    extra_body=${inPython(others, 1)},`);
  const head = `import os\n\nfrom langchain_openai import ChatOpenAI\n\nchat = ChatOpenAI(\n${lines.join("\n")}\n)`;
  const bound = tools ? `.bind_tools(${inPython(tools)}${tool_choice ? `, tool_choice=${inPython(tool_choice)}` : ""})` : "";
  const formed = response_format ? `.bind(response_format=${inPython(response_format)})` : "";
  const asking = inPython(messages);
  if (!stream) return `${head}${bound}${formed}\nprint(chat.invoke(${asking}).content)\n`;
  return `${head}${bound}${formed}\nfor chunk in chat.stream(${asking}):\n    print(chunk.content, end="", flush=True)\n`;
}

function parted(body) {
  const entries = Object.entries(body);
  return {
    named: Object.fromEntries(entries.filter(([name]) => OPENAI.has(name))),
    others: Object.fromEntries(entries.filter(([name]) => !OPENAI.has(name))),
  };
}

/** A JSON value as Python writes it; long ones over several lines, `depth` steps in. */
export function inPython(value, depth = 0) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const isList = Array.isArray(value);
  const [open, close] = isList ? "[]" : "{}";
  const parts = isList
    ? value.map((each) => inPython(each, depth + 1))
    : Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${inPython(each, depth + 1)}`);
  const line = `${open}${parts.join(", ")}${close}`;
  if (line.length < 80 && !line.includes("\n")) return line;
  const inner = "    ".repeat(depth + 1);
  return `${open}\n${parts.map((part) => `${inner}${part},\n`).join("")}${"    ".repeat(depth)}${close}`;
}
