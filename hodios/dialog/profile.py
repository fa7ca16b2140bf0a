"""One model's dialog: its template, its format of tool calls, how its answers end, and prompts in which nothing that a
client wrote can pass for markup.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, Self

from jinja2.exceptions import SecurityError
from msgspec import Struct

from hodios.dialog.abilities import Abilities, learn_abilities
from hodios.dialog.adaptation import Chat, Manner, adapt, as_tools
from hodios.dialog.families import (
    COMMON_TOKENS,
    Family,
    built_in_template,
    family_of_template,
    find_family,
    guess_family,
)
from hodios.dialog.formats.base import Format
from hodios.dialog.formats.registry import FORMATS
from hodios.dialog.formats.writing import to_json
from hodios.dialog.guard import Guard, Rendered, choose_sentinel
from hodios.dialog.messages import normalize, tool_definitions
from hodios.dialog.template import ChatTemplate
from hodios.errors import InvalidRequest
from hodios.types import Tool

HERMES_JSON = (
    "You are a helpful assistant that answers in JSON. Here's the json schema you must adhere to:\n"
    "<schema>\n{schema}\n</schema>"
)
"""JSON mode, in the words of NousResearch/Hermes-Function-Calling, jsonmode.py."""
_PLAIN_JSON = "Answer with JSON that adheres to this JSON schema, and with nothing else:\n{schema}"
_DOCUMENTS = "Answer with the help of these documents:\n"
_MARKUP = re.compile(
    r"<\|[^<>|\s]+\|>|</?[a-zA-Z_]+>|<</?SYS>>|\[/?[A-Z_]{3,}\]|### [A-Z][a-z]+:|\b(?:USER|ASSISTANT):"
)
"""What templates write markup like."""


class Tokens(Protocol):
    """What a profile asks of a tokenizer."""

    add_bos: bool
    chat_templates: dict[str, str]
    special_tokens: dict[str, str]
    is_sentence_piece: bool
    adds_space: bool
    markup: frozenset[str]

    def has_token(self, text: str) -> bool: ...

    def token_id(self, text: str) -> int | None: ...

    def is_special(self, id: int) -> bool: ...


class _Written(Struct, frozen=True):
    """A template and what it can show."""

    template: ChatTemplate
    abilities: Abilities
    is_built_in: bool


class _Voice(Struct, frozen=True):
    """A template and how it is written to."""

    template: ChatTemplate
    manner: Manner


class Profile:
    """Immutable, and safe to share between threads."""

    def __init__(self, family: Family, templates: Mapping[str, _Written], tokens: Tokens) -> None:
        """`templates` by name: `default`, and any of `tool_use` and `rag`."""
        self.family = family
        self.format = _choose_format(family, templates, tokens)
        self.thought_tags = family.thoughts
        """Names of the tags around what the model thinks aloud."""
        self._thought_markup = tuple(f"<{slash}{name}>" for name in family.thoughts for slash in ("", "/"))
        self.template_source = templates["default"].template.source
        self.stop_strings = tuple(text for text in family.stop_strings if not _is_control(tokens, text))
        """What ends an answer where it comes out as text."""
        self._voices = {
            name: _Voice(written.template, _manner(written, self.format, family)) for name, written in templates.items()
        }
        self._tokens = tokens
        self._guard = self._make_guard()

    @classmethod
    def for_tokenizer(
        cls, tokenizer: Tokens, clock: Callable[[], datetime], family: str | None = None, *, model: str = ""
    ) -> Self:
        """The profile of a model's file: by the templates in it, or by the name of a `family` instead of them.

        A file without templates is judged by `model`, the model's name, and by its vocabulary. Raises
        `UnsupportedParameter` when there is nothing to go by, as with base models, and for a family that is none;
        `UnsupportedModel` for a template that does not compile.
        """
        sources = tokenizer.chat_templates
        if family is not None or "default" not in sources:
            chosen = guess_family(tokenizer, model) if family is None else find_family(family)
            return cls(chosen, _built_in(chosen, tokenizer, clock), tokenizer)
        chosen = family_of_template("\n".join(sources.values()))
        templates = {name: _written(source, tokenizer, clock) for name, source in sources.items()}
        default = templates["default"].abilities
        if chosen.template and not (default.is_usable and default.takes_no_tools):
            named = {"tool_use": templates["default"]} if default.has_tools else {}
            templates = _built_in(chosen, tokenizer, clock) | named
        return cls(chosen, templates, tokenizer)

    @classmethod
    def for_family(cls, name: str, clock: Callable[[], datetime]) -> Self:
        """The profile of a model whose vocabulary is not at hand, such as a remote one that takes nothing but text.

        Its prompts are sent as what `Rendered.neutralised` returns; the receiver puts BOS before them. Raises
        `UnsupportedParameter` for a name that is no family's.
        """
        family = find_family(name)
        tokens = _TextOnly(family)
        return cls(family, _built_in(family, tokens, clock), tokens)

    @property
    def is_thinking(self) -> bool:
        """Whether the model was made to think aloud: its template knows the tags."""
        return any(
            f"<{name}>" in voice.template.source for voice in self._voices.values() for name in self.thought_tags
        )

    @property
    def shown_ids(self) -> frozenset[int]:
        """Tokens that answers are read by, so that their text must be seen even where they are control tokens."""
        ids = map(self._tokens.token_id, (*self.format.markers, *self._thought_markup))
        return frozenset(id for id in ids if id is not None)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Tool | Mapping[str, Any]] = (),
        documents: Sequence[Mapping[str, Any]] = (),
        schema: str | None = None,
        is_parallel: bool = True,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Rendered:
        """The prompt.

        `schema` is a JSON schema that is put before the model; `is_parallel` tells models whose template knows no tools
        whether they may make several calls at once. `kwargs` are the client's own variables for the template. Raises
        `InvalidRequest` for messages that cannot be read, and with the template's own words where it refuses them.
        """
        try:
            chat = normalize(messages, self.format.new_id)
            request = _Request(chat, tool_definitions(tools), list(documents), schema, dict(kwargs or {}))
            sentinel, safe = self._protect(request)
            options = {
                "add_generation_prompt": add_generation_prompt,
                "continue_final_message": continue_final_message,
                "is_parallel": is_parallel,
            }
            text = self._write(safe, **options)
        except RecursionError as error:
            raise InvalidRequest("the request is nested too deeply for a chat template", param="messages") from error
        if isinstance(self._tokens, _TextOnly):
            text = text.removeprefix(self._tokens.special_tokens["bos_token"])
        opened = self._opened_thought(text, chat[-1]["content"] if continue_final_message else None)
        return Rendered(text, sentinel, self._guard, opens_thought=opened)

    def _protect(self, request: _Request) -> tuple[str, _Request]:
        sentinel = choose_sentinel(
            (request.chat, request.tools, request.documents, request.schema, list(request.kwargs.values()))
        )

        def protect(value: Any, *allowed: str) -> Any:
            return self._guard.protect(value, sentinel, allowed=allowed)

        safe = _Request(
            [_safe_message(message, protect, self._thought_markup) for message in request.chat],
            [{**tool, "function": _safe_fields(tool["function"], protect)} for tool in request.tools],
            protect(request.documents),
            protect(request.schema),
            _safe_fields(request.kwargs, protect),
        )
        return sentinel, safe

    def _write(self, request: _Request, *, is_parallel: bool, **options: bool) -> str:
        voice = self._choose(request)
        try:
            return self._write_as(voice.manner, voice.template, request, is_parallel=is_parallel, **options)
        except InvalidRequest as error:
            if isinstance(error.__cause__, SecurityError) or error.param != "messages":
                raise
            voice = self._voices["default"]
            manner = voice.manner.plainest()
            return self._write_as(manner, voice.template, request, is_parallel=is_parallel, **options)

    def _write_as(
        self, manner: Manner, template: ChatTemplate, request: _Request, *, is_parallel: bool, **options: bool
    ) -> str:
        abilities = manner.abilities
        has_tools = bool(request.tools) and abilities.has_tools
        no_tools: list[dict[str, Any]] | None = None if abilities.takes_no_tools else []
        before = self._told_first(request, abilities, is_parallel=is_parallel)
        return template.render(
            adapt(request.chat, manner, before, has_tools=has_tools),
            tools=request.tools if has_tools else no_tools,
            documents=(request.documents or None) if abilities.has_documents else None,
            kwargs=request.kwargs,
            **options,
        )

    def _told_first(self, request: _Request, abilities: Abilities, *, is_parallel: bool) -> list[str]:
        """What the template does not tell the model by itself."""
        texts = []
        if request.documents and not abilities.has_documents:
            texts.append(_DOCUMENTS + "\n".join(map(to_json, request.documents)))
        if request.tools and not abilities.has_tools:
            texts.append(self.format.instructions(as_tools(request.tools), is_parallel=is_parallel))
        if request.schema is not None:
            form = HERMES_JSON if self.format.name == "hermes" else _PLAIN_JSON
            texts.append(form.format(schema=request.schema))
        return texts

    def _choose(self, request: _Request) -> _Voice:
        """The named template that was made for such requests."""
        for name, part in (("tool_use", request.tools), ("rag", request.documents)):
            if part and name in self._voices:
                return self._voices[name]
        return self._voices["default"]

    def _opened_thought(self, text: str, continued: str | None) -> str:
        """The name of the thought that the prompt leaves open, "" where it leaves none."""
        for name in self.thought_tags:
            opening, closing = f"<{name}>", f"</{name}>"
            if text.rstrip().endswith(opening):
                return name
            if continued is not None and continued.rfind(opening) > continued.rfind(closing):
                return name
        return ""

    def _make_guard(self) -> Guard:
        sources = [voice.template.source for voice in self._voices.values()]
        found = {text for source in sources for text in _MARKUP.findall(source)}
        contexts = {context for voice in self._voices.values() for context in voice.manner.abilities.contexts}
        texts = {*self.family.markup, *found, *self.format.markers}
        return Guard(self._tokens.markup, texts, contexts=contexts)


class _TextOnly:
    """What is known of tokens where only the family is: their texts."""

    add_bos = True
    is_sentence_piece = False
    adds_space = False

    def __init__(self, family: Family) -> None:
        self.chat_templates: dict[str, str] = {}
        self.markup = frozenset((*family.markup, *COMMON_TOKENS))
        bos, eos = ("<s>", "</s>") if "</s>" in family.markup else ("", "")
        self.special_tokens = {"bos_token": bos, "eos_token": eos}

    def has_token(self, text: str) -> bool:
        return text in self.markup

    def token_id(self, text: str) -> int | None:
        return None

    def is_special(self, id: int) -> bool:
        return False


class _Request(Struct, frozen=True):
    chat: Chat
    tools: list[dict[str, Any]]
    documents: list[Any]
    schema: str | None
    kwargs: dict[str, Any]


_Protect = Callable[..., Any]


def _safe_fields(fields: Mapping[str, Any], protect: _Protect) -> dict[str, Any]:
    """Templates ask for fields by their names, which stay as they are unless no template could."""
    return {key if key.isidentifier() else protect(key): protect(value) for key, value in fields.items()}


def _safe_message(message: Mapping[str, Any], protect: _Protect, thought_markup: Sequence[str]) -> dict[str, Any]:
    """Templates look for thoughts in what the assistant said, so these may stand there."""
    rest = {key: value for key, value in message.items() if key not in ("role", "content", "tool_calls")}
    safe = {"role": message["role"], **_safe_fields(rest, protect)}
    safe["content"] = protect(message["content"], *(thought_markup if message["role"] == "assistant" else ()))
    if message["role"] == "tool":
        with contextlib.suppress(ValueError, RecursionError):
            safe["value"] = protect(json.loads(message["content"]))
    if "tool_calls" in message:
        safe["tool_calls"] = [
            {"id": protect(call["id"]), "type": "function", "function": _safe_fields(call["function"], protect)}
            for call in message["tool_calls"]
        ]
    return safe


def _is_control(tokens: Tokens, text: str) -> bool:
    id = tokens.token_id(text)
    return id is not None and tokens.is_special(id)


def _written(source: str, tokens: Tokens, clock: Callable[[], datetime]) -> _Written:
    """A template of the model's own file."""
    special = tokens.special_tokens
    bos_token, eos_token = special.get("bos_token", ""), special.get("eos_token", "")
    template = ChatTemplate(source, bos_token=bos_token, eos_token=eos_token, clock=clock, special_tokens=special)
    return _Written(template, learn_abilities(template), False)


def _built_in(family: Family, tokens: Tokens, clock: Callable[[], datetime]) -> dict[str, _Written]:
    """A family's own templates, by name."""
    special = tokens.special_tokens
    # A vocabulary that puts a space before each text makes the one after markup itself.
    special = {**special, "word_space": " " if family.is_spaced and not tokens.adds_space else ""}
    bos_token = special.get("bos_token", "") if tokens.add_bos else ""
    eos_token = special.get("eos_token", "")
    built = {}
    for name, template in (("default", family.template), ("tool_use", family.tool_template)):
        if template:
            source = built_in_template(template)
            made = ChatTemplate(source, bos_token=bos_token, eos_token=eos_token, clock=clock, special_tokens=special)
            built[name] = _Written(made, learn_abilities(made), True)
    return built


def _choose_format(family: Family, templates: Mapping[str, _Written], tokens: Tokens) -> Format:
    """The one that the template with tools writes its calls in; else the family's."""
    for name in ("tool_use", "default"):
        if name in templates and templates[name].abilities.dialect:
            return FORMATS[templates[name].abilities.dialect]
    if family.format == "generic" and tokens.has_token("<tool_call>"):
        return FORMATS["hermes"]
    return FORMATS[family.format]


def _manner(written: _Written, format: Format, family: Family) -> Manner:
    return Manner(
        abilities=written.abilities,
        format=format,
        tool_role=family.tool_role,
        merges_turns=written.is_built_in and family.merges_turns,
        reads_results=written.is_built_in and family.reads_results,
    )
