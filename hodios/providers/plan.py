"""How one request is put to one server: what it is asked natively, what in words, in how many requests, and how its
answers are read. Sans-IO.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct, structs

from hodios.dialog.families import Family
from hodios.dialog.formats.base import Format
from hodios.dialog.guard import neutralised_warning
from hodios.dialog.pieces import Parser
from hodios.dialog.profile import Profile
from hodios.dialog.reasoning import PlainParser, ReasoningParser
from hodios.dialog.stop import StopStrings
from hodios.errors import InvalidRequest, UnsupportedParameter
from hodios.providers import completions, openai
from hodios.providers.chunks import CHARACTERS_PER_TOKEN
from hodios.providers.completions import CompletionReader
from hodios.providers.draft import Draft, Reading
from hodios.providers.emulation import (
    asked_again,
    choice_in_words,
    with_answer_in_words,
    with_system_text,
    with_tools_as_text,
)
from hodios.providers.honoured import most_choices, most_stops, needs_echo, parameters_of, unsupported
from hodios.providers.openai import ChatReader
from hodios.providers.prefill import prefill_of, served_for_beginning, text_of, with_prefill
from hodios.providers.rules import Rules
from hodios.providers.served import Served
from hodios.remotes import RemoteFeature
from hodios.types import Grammar, GrammarKind, Request, Warning

_NATIVE: Mapping[GrammarKind, tuple[RemoteFeature, ...]] = {
    "json_object": ("json_object", "json_schema"),
    "json_schema": ("json_schema",),
    "regex": ("regex",),
    "lark": ("grammar",),
}


class Part(Struct, frozen=True):
    """What one request to the server is to bring: choices `first … first + n − 1` of the client's."""

    prompt: str | tuple[int, ...] | None
    first: int
    n: int
    number: int = 0
    """Of its first choice, among those of the same prompt."""


_ONLY_PART = Part(None, 0, 1)


class Sent(Struct, frozen=True, kw_only=True):
    """One request to the server."""

    route: str
    body: dict[str, Any]
    new_reader: Callable[[], ChatReader | CompletionReader]
    reading: Reading
    warnings: tuple[Warning, ...] = ()


class Plan:
    """Raises InvalidRequest and its kin for what cannot be asked of this model."""

    def __init__(self, request: Request, served: Served, profile: Profile | None) -> None:
        if request.beginning is not None:
            served = served_for_beginning(request, served, profile)
        self._original = request
        self._served = served
        self._profile = profile
        self._has_native_tools = "tools" in served.features
        self._has_native_answer = request.grammar is None or _is_native(request.grammar, served)
        self.is_plain = _is_plain(request, served)
        """Whether one chat is asked for one choice that may be any text."""
        self._request = self._emulated()
        self.num_tokens = num_tokens_of(request)
        """About what the prompts have; the server counts only at the end."""

    @property
    def provider(self) -> str:
        return self._served.card.provider

    @property
    def request(self) -> Request:
        """As the server is asked, at first."""
        return self._request

    def parts(self) -> list[Part]:
        """One for each prompt; more where the server gives fewer choices at once, or a choice may have to be asked for
        again."""
        if self.is_plain:
            return [_ONLY_PART]
        n = self._original.n
        most = 1 if self._is_emulated else most_choices(self._original, self._served)
        return [
            Part(prompt, place * n + number, min(most, n - number), number)
            for place, prompt in enumerate(self._original.prompts or (None,))
            for number in range(0, n, most)
        ]

    def may_try_again(self, part: Part) -> bool:
        return self.rules is not None and part.n == 1 and self._original.is_chat

    def again(self, request: Request, draft: Draft) -> Request:
        """For another try, with what is wrong with `draft`."""
        calls = draft.calls if self._has_native_tools else ()
        return asked_again(request, draft.raw_text, calls, draft.problem)

    def send(self, part: Part, request: Request) -> Sent:
        if part.n != request.n or part.number:
            request = _of_part(request, part)
        if request.is_chat:
            return self._send_rendered(request) if self._served.is_raw else self._send_chat(request)
        if request.images and not self._served.honours("data"):
            return self._send_as_chat(part, request)
        return self._send_prompt(part, request)

    @property
    def _may_call(self) -> bool:
        return bool(self._original.tools) and self._original.tool_choice != "none"

    @property
    def _is_emulated(self) -> bool:
        return (self._may_call and not self._has_native_tools) or not self._has_native_answer

    @functools.cached_property
    def rules(self) -> Rules | None:
        """None where anything goes. Raises InvalidRequest."""
        request = self._original
        if request.beginning is None:
            return self._rules_from_start(request)
        if not request.is_chat and request.grammar is None:
            return None
        try:
            # The client has seen a part of it, so that there is no judging it before it is shown.
            return Rules(request, has_native_answer=True)
        except InvalidRequest:
            return Rules(structs.replace(request, grammar=None), has_native_answer=True)

    def _rules_from_start(self, request: Request) -> Rules | None:
        if request.grammar is not None and not self._has_native_answer and not request.is_chat:
            raise UnsupportedParameter(
                f"response_format: {self._served.card.provider} cannot hold raw completions of {request.model} to a "
                "form; accepted: text, or the same through chat/completions",
                param="response_format",
            )
        if not request.is_chat and request.grammar is None:
            return None
        try:
            return Rules(request, has_native_answer=self._has_native_answer)
        except InvalidRequest:
            if not self._has_native_answer:
                raise
            # The server may know better; what cannot be checked here is not.
            return Rules(structs.replace(request, grammar=None), has_native_answer=True)

    def _emulated(self) -> Request:
        request = self._original
        if not request.is_chat:
            return request
        if request.grammar is not None and not self._has_native_answer:
            has_json_mode = request.grammar.kind == "json_schema" and "json_object" in self._served.features
            request = with_answer_in_words(request)
            request = structs.replace(request, grammar=Grammar("json_object") if has_json_mode else None)
        if self._served.is_raw:
            told = choice_in_words(request) if self._may_call else []
            tools = request.tools if self._may_call else ()
            return structs.replace(request, messages=with_system_text(request.messages or (), *told), tools=tools)
        return request if self._has_native_tools else with_tools_as_text(request, self._served.format)

    def _send_chat(self, request: Request) -> Sent:
        asked = parameters_of(request, self._served)
        body, begun = openai.chat_body(request, self._served, asked.fields), ""
        if request.beginning is not None:
            begun = prefill_of(request.beginning, self._served.format)
            body = with_prefill(body, begun, self._served)
        return Sent(
            route=openai.ROUTE,
            body=body,
            new_reader=functools.partial(ChatReader, request.n, request.tools),
            reading=self._reading(self._served.format, has_sent_stop="stop" in asked.fields, begun=begun),
            warnings=tuple(asked.warnings),
        )

    def _send_rendered(self, request: Request) -> Sent:
        """The whole prompt as text."""
        profile = self._profile
        if profile is None:
            raise UnsupportedParameter(
                f"{request.model} has no family, so its prompts cannot be written; use /v1/completions",
                param="messages",
            )
        rendered = profile.render(
            request.messages or (),
            tools=request.tools,
            documents=request.documents,
            is_parallel=request.parallel_tool_calls,
            add_generation_prompt=request.add_generation_prompt,
            continue_final_message=request.continue_final_message,
            kwargs=request.template_kwargs,
        )
        prompt, num_broken = rendered.neutralised()
        begun, opened = "", rendered.opens_thought
        if request.beginning is not None:
            begun = text_of(request.beginning, profile.format, profile.thought_tags, opened)
        sent = self._send_text(prompt + begun, request, profile.stop_strings)
        warnings = (neutralised_warning(num_broken),) if num_broken else ()
        reading = self._reading(
            profile.format,
            has_sent_stop=any(stop in sent.body.get("stop", ()) for stop in request.stop),
            more_stops=profile.stop_strings,
            opened=opened,
            begun=begun,
        )
        return structs.replace(sent, reading=reading, warnings=(*sent.warnings, *warnings))

    def _send_text(self, prompt: str, request: Request, stops: tuple[str, ...]) -> Sent:
        """`prompt` for a chat whose every other word is in it already."""
        num_stops = len(stops) + len(request.stop)
        plain = Request(
            id=request.id,
            model=request.model,
            prompts=(prompt,),
            max_tokens=request.max_tokens,
            sampling=request.sampling,
            n=request.n,
            best_of=request.best_of,
            stop=(*stops, *request.stop) if num_stops <= most_stops(self._served) else stops,
            grammar=request.grammar,
            cache_salt=request.cache_salt,
            user=request.user,
            given=request.given,
        )
        if request.include_stop:
            plain = structs.replace(plain, stop=stops)
        return self._send_prompt(Part(prompt, 0, request.n), plain)

    def _send_prompt(self, part: Part, request: Request) -> Sent:
        prompt, begun = part.prompt, ""
        assert prompt is not None, "a raw request has prompts"
        if request.beginning is not None and isinstance(prompt, str):
            begun, request = request.beginning.text, structs.replace(request, grammar=None)
            prompt += begun
        asked = parameters_of(request, self._served, prompt=prompt)
        warnings = list(asked.warnings)
        is_echoed = request.echo and self._served.honours("echo")
        if needs_echo(request, part.prompt or "") and not is_echoed:
            warnings.append(unsupported("echo", self._served))
        return Sent(
            route=completions.ROUTE,
            body=completions.completion_body(prompt, request, self._served, asked.fields),
            new_reader=functools.partial(CompletionReader, part.n),
            reading=structs.replace(
                self._reading(self._served.format, has_sent_stop="stop" in asked.fields, begun=begun),
                echo=part.prompt if request.echo and isinstance(part.prompt, str) else "",
                is_echo_sent=is_echoed,
            ),
            warnings=tuple(warnings),
        )

    def _send_as_chat(self, part: Part, request: Request) -> Sent:
        """A raw prompt with images, as the one message of a chat: no raw route has a place for images."""
        if not isinstance(part.prompt, str):
            raise UnsupportedParameter("data: images can only stand beside a prompt of text", param="data")
        chat = structs.replace(request, prompts=None, messages=({"role": "user", "content": part.prompt},))
        return self._send_chat(chat)

    def _reading(
        self,
        format: Format,
        *,
        has_sent_stop: bool,
        more_stops: tuple[str, ...] = (),
        opened: str = "",
        begun: str = "",
    ) -> Reading:
        request = self._original
        client_stops = frozenset(stop for stop in request.stop if stop)
        # The server cannot find a stop string that began before it went on.
        looked_for = (*more_stops, *(() if has_sent_stop and not begun else client_stops))
        return Reading(
            new_id=format.new_id,
            parser=functools.partial(self._parser, format, opened) if request.is_chat else None,
            stops=StopStrings(looked_for) if looked_for else None,
            client_stops=client_stops,
            include_stop=request.include_stop,
            has_reasoning=request.is_chat and request.has_reasoning,
            beginning=request.beginning,
            begun=begun,
        )

    def _parser(self, format: Format, opened: str) -> Parser:
        is_read = self._may_call and not self._has_native_tools
        answer = format.parser(self._original.tools, is_trusted=False) if is_read else PlainParser()
        return ReasoningParser(answer, opened=opened)


def num_tokens_of(request: Request) -> int:
    """About what the prompts have."""
    num_tokens = 0
    for message in request.messages or ():
        content = message.get("content")
        if type(content) is str:
            num_tokens += -(-len(content) // CHARACTERS_PER_TOKEN)
        elif type(content) is list:
            texts = (part.get("text") or "" for part in content if isinstance(part, dict))
            num_tokens += sum(-(-len(text) // CHARACTERS_PER_TOKEN) for text in texts)
    for prompt in request.prompts or ():
        num_tokens += -(-len(prompt) // CHARACTERS_PER_TOKEN) if isinstance(prompt, str) else len(prompt)
    return num_tokens


def _of_part(request: Request, part: Part) -> Request:
    sampling = request.sampling
    if part.number and sampling.seed is not None:
        # Or all choices would be the same.
        sampling = structs.replace(sampling, seed=(sampling.seed + part.number) % 2**63)
    # Where all are wanted, no part is to choose among more than its own.
    best_of = part.n if request.best_of == request.n else request.best_of
    return structs.replace(request, n=part.n, best_of=best_of, sampling=sampling)


def _is_plain(request: Request, served: Served) -> bool:
    may_be_any = request.grammar is None and not request.tools and request.beginning is None
    return may_be_any and request.n == 1 and request.is_chat and not served.is_raw


def _is_native(grammar: Grammar, served: Served) -> bool:
    return any(feature in served.features for feature in _NATIVE[grammar.kind])


def profile_of(family: Family, clock: Callable[[], datetime]) -> Profile | None:
    """For prompts that are sent as text; None for a family that has no template."""
    return Profile.for_family(family.name, clock) if family.template else None
