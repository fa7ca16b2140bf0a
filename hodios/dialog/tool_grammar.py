"""The grammar of an answer that may call tools, in Lark as llguidance reads it: calls are always valid ones.

A call has its name first, then arguments that fit the tool's own schema, in the very form that the format's parser
reads. Where calls are a choice, all text is free that the parser does not take for the beginning of one. What a prompt
has opened, or a model opens at the start of its answer, is thought: calls in it are text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct

from hodios.dialog.call_grammars import SPACE, Callee, CallForm, Writer, escaped, find_form, quoted, without
from hodios.dialog.reasoning import NAMES
from hodios.errors import InvalidRequest
from hodios.json_schema.closing import closed
from hodios.json_schema.loosening import loosened
from hodios.json_schema.simplify import Fault
from hodios.types import Grammar, Tool, ToolChoice, Warning

_CONTENT = "content"


class ToolGrammar(Struct, frozen=True):
    """`grammar` is None where anything may be said."""

    grammar: Grammar | None
    warnings: tuple[Warning, ...] = ()
    """Of tools whose schema could not be followed: their arguments are any object."""


def tool_grammar(
    format_name: str,
    tools: Sequence[Tool],
    *,
    choice: ToolChoice,
    control_id: Callable[[str], int | None],
    tool_name: str = "",
    is_parallel: bool = True,
    content: Grammar | None = None,
    thoughts: Sequence[str] = (),
    opened: str = "",
    refused: Mapping[str, str] = MappingProxyType({}),
) -> ToolGrammar:
    """`control_id` tells the control token that is spelled so, if the vocabulary has one: all else is written as text.

    `content`: what the answer must match where it does not call; `thoughts`: the names of tags that the model thinks
    in before it answers (of `reasoning.NAMES`); `opened`: that which the prompt ended with; `refused`: why whoever
    compiled an earlier answer of this function did not take a schema, by its parameter. Raises InvalidRequest, which
    names the tool, the keyword and its place, for a schema that cannot be followed where it must be: `strict` ones,
    and those of tools that must be called.
    """
    writer = Writer(control_id)
    if choice == "none" or not tools:
        return ToolGrammar(_content_alone(writer, content, thoughts, opened))
    callees, warnings = _callees(tools, tool_name, refused, is_required=choice == "required")
    form = find_form(format_name, callees, writer, is_parallel=is_parallel)
    if choice == "required":
        form.add_calls(may_be_content=False)
        _add_start(writer, "calls", thoughts, opened)
    elif content is not None:
        form.add_calls(may_be_content=True)
        writer.add_part(_CONTENT, content, "response_format")
        _add_start(writer, f"@{_CONTENT} | calls", thoughts, opened)
    else:
        _add_free_answer(writer, form, opened)
    return ToolGrammar(writer.grammar(), tuple(warnings))


def _content_alone(writer: Writer, content: Grammar | None, thoughts: Sequence[str], opened: str) -> Grammar | None:
    if content is None or not (thoughts or opened):
        return content
    writer.add_part(_CONTENT, content, "response_format")
    _add_start(writer, f"@{_CONTENT}", thoughts, opened)
    return writer.grammar()


def _callees(
    tools: Sequence[Tool], tool_name: str, refused: Mapping[str, str], *, is_required: bool
) -> tuple[list[Callee], list[Warning]]:
    """Without properties that their schemas do not name. These may allow them, but models that could write them make
    them up, and functions do not take them."""
    callees, warnings = [], []
    for i, tool in enumerate(tools):
        if tool_name and tool.name != tool_name:
            continue
        param = f"tools[{i}].function.parameters"
        simple, left_out = loosened(tool.parameters)
        faults = left_out + _no_object(simple.schema)
        why = refused.get(param) or (_why(tool, faults) if faults else "")
        if why and (is_required or tool.strict):
            raise InvalidRequest(f"{param}: {why}", param=param)
        is_any = bool(simple.faults) or len(faults) > len(left_out) or param in refused
        if why:
            held = "be an object and nothing more" if is_any else "the rest of it"
            because = f"the arguments of {tool.name!r} are held to {held}: {why}"
            warnings.append(Warning(param, "unsupported_schema", because))
        schema = {} if is_any else simple.schema
        callees.append(Callee(tool.name, {"type": "object"} | closed(schema), param))
    if not callees:
        raise InvalidRequest(f"tool_choice: there is no tool {tool_name!r}", param="tool_choice")
    return callees, warnings


def _no_object(schema: dict[str, object]) -> tuple[Fault, ...]:
    types = schema.get("type", "object")
    if "object" in (types if isinstance(types, list) else [types]):
        return ()
    return (Fault("#/type", "type", "arguments are always an object"),)


def _why(tool: Tool, faults: Sequence[Fault]) -> str:
    return f"the schema of {tool.name!r} cannot be followed at {'; '.join(map(str, faults[:3]))}"


def _add_start(writer: Writer, answer: str, thoughts: Iterable[str], opened: str) -> None:
    """The answer after the thoughts that come before it, if any; they come to an end."""
    names = sorted({*thoughts, opened} - {""})
    if not names:
        writer.add(f"start: {answer}")
        return
    for name in names:
        _add_thought(writer, name, "")
    thought = " | ".join(f"(open_{name} rest_of_{name})" for name in names)
    begun = f"rest_of_{opened} GAP " if opened else ""
    writer.add(f"start: {begun}(({thought}) GAP)* ({answer})", "GAP: /\\n{0,2}/")


def _add_thought(writer: Writer, name: str, space: str) -> None:
    """Rules for a thought's beginning and the rest of it; `space`: a regular expression of what may come before."""
    text, opening = f"{name.upper()}_TEXT", f"OPEN_{name.upper()}"
    writer.add(f"{text}: {without(f'</{name}>')}")
    if end := writer.control(f"</{name}>"):
        writer.add(f"rest_of_{name}: {text} {end}")
    else:
        writer.add(f"rest_of_{name}[lazy]: {text} {quoted(f'</{name}>')}")
    tag = writer.control(f"<{name}>")
    terminals = [f"/{space}/"] * bool(space) + [quoted(f"<{name}>")] * (not tag)
    if terminals:
        writer.add(f"{opening}: {' '.join(terminals)}")
    writer.add(f"open_{name}: {opening if terminals else ''} {tag}")


def _add_free_answer(writer: Writer, form: CallForm, opened: str) -> None:
    """Thoughts, text or calls. A thought may last to the end; no text begins like one."""
    starts = "|".join(escaped(f"<{name}>") for name in NAMES)
    for name in NAMES:
        _add_thought(writer, name, SPACE)
    thought = " | ".join(f"(open_{name} rest_of_{name})" for name in NAMES)
    unended = " | ".join(f"(open_{name} {name.upper()}_TEXT)" for name in NAMES)
    writer.add(f"TEXT: {form.text()} & ~/{SPACE}(?:{starts})(?s:.*)/")
    answers = ["TEXT", *form.add_openings()]
    answer = f"({thought})* ({' | '.join(answers)} | {unended})"
    if opened:
        answer = f"rest_of_{opened} {answer} | {opened.upper()}_TEXT"
    writer.add(f"start: {answer}")
