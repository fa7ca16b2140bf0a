"""A scripted model that answers sensibly: calls the tools that are asked for, fills schemas, and chats otherwise.

It understands what a server with native tools is sent, and the same in words as Hermes models know it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from scripted_upstream import Asked, Reply, chunk, stream, usage

GREETING = "Hello! I am a scripted model, and I am glad to help you."


@dataclass
class Wish:
    """What one request asks for, natively or in words."""

    question: str
    """The last message, where it is a user's."""
    tools: list[dict[str, Any]] = field(default_factory=list)
    must_call: bool = False
    tool: str = ""
    schema: dict[str, Any] | None = None
    is_native: bool = True


def answer(asked: Asked) -> Reply:
    wish = understand(asked.body)
    if wish.schema is not None:
        return say(json.dumps(fill(wish.schema, wish.question), ensure_ascii=False))
    if wish.tools and (wish.must_call or "tool" in wish.question or "weather" in wish.question):
        tool = next((tool for tool in wish.tools if tool["name"] == wish.tool), None)
        tool = tool or next((tool for tool in wish.tools if tool["name"] in wish.question), wish.tools[0])
        return call(tool["name"], fill(tool.get("parameters") or {}, wish.question), is_native=wish.is_native)
    return say(GREETING)


def understand(body: dict[str, Any]) -> Wish:
    last = body["messages"][-1]
    system = "".join(text_of(message) for message in body["messages"] if message["role"] == "system")
    is_result = last["role"] == "tool" or text_of(last).startswith("<tool_response>")
    wish = Wish("" if is_result else text_of(last))
    wish.tools = [tool["function"] for tool in body.get("tools", ())]
    choice = body.get("tool_choice", "auto")
    wish.must_call = choice == "required" or isinstance(choice, dict)
    wish.tool = choice["function"]["name"] if isinstance(choice, dict) else ""
    if listed := re.search(r"<tools> (.*?) </tools>", system, re.DOTALL):
        wish.is_native = False
        wish.tools = [json.loads(line)["function"] for line in listed[1].splitlines()]
        wish.must_call = "you must use" in system
        named = re.search(r"must use the tool (\S+) and no other", system)
        wish.tool = named[1] if named else ""
    form = body.get("response_format", {})
    if form.get("type") == "json_schema":
        wish.schema = form["json_schema"]["schema"]
    elif told := re.search(r"<schema>\n(.*)\n</schema>", system, re.DOTALL):
        wish.schema = json.loads(told[1])
    elif form or "Answer with one JSON object" in system:
        names = re.findall(r"'(\w+)'", wish.question)
        wish.schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": names}
    return wish


def text_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def fill(schema: dict[str, Any], question: str) -> Any:
    """A value of `schema`, out of the words of `question` where they can be used."""
    if "anyOf" in schema:
        return fill(schema["anyOf"][0], question)
    if "properties" in schema:
        return {name: fill(part, question) for name, part in schema["properties"].items()}
    match schema.get("type"):
        case "integer" | "number":
            return int((re.findall(r"\d+", question) or ["7"])[0])
        case "string":
            quoted = re.findall(r"'([^']+)'", question)
            return quoted[0] if quoted else " ".join(question.split()[:6]) or "something"
        case "object":
            return {}
        case kind:
            raise AssertionError(f"the scripted model knows no {kind}")


def say(text: str) -> Reply:
    words = re.findall(r"\S+\s*", text)
    return stream(chunk(role="assistant", content=""), *(chunk(content=word) for word in words), *end("stop", text))


def call(name: str, arguments: Any, *, is_native: bool) -> Reply:
    written = json.dumps(arguments, ensure_ascii=False)
    if not is_native:
        return say(f'<tool_call>\n{{"name": "{name}", "arguments": {written}}}\n</tool_call>')
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
    slices = [written[at : at + 4] for at in range(0, len(written), 4)]
    rest = [{"index": 0, "function": {"arguments": part}} for part in slices]
    return stream(*(chunk(tool_calls=[delta]) for delta in (first, *rest)), *end("tool_calls", written))


def end(reason: str, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return chunk(finish=reason), usage(11, 1 + len(text) // 4, prompt_tokens_details={"cached_tokens": 3})
