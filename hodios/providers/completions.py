"""The raw dialect of other servers, `/completions`: a prompt as text or token ids in, its continuation out. Sans-IO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hodios.events import TokenLogprob, Usage
from hodios.providers.chunks import (
    UNKNOWN_TOKEN,
    Ended,
    OpenChoice,
    Said,
    choices_of,
    number,
    string,
    usage_of,
    with_chosen,
)
from hodios.providers.openai import response_format, stream_fields
from hodios.providers.served import Served
from hodios.providers.surrogates import joined
from hodios.types import Request

ROUTE = "/completions"


def completion_body(
    prompt: str | tuple[int, ...], request: Request, served: Served, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """For one prompt. `parameters` as `honoured` writes them."""
    body: dict[str, Any] = {"model": served.upstream_id, "prompt": prompt, **parameters}
    if request.n > 1:
        body["n"] = request.n
    if request.echo and served.honours("echo"):
        body["echo"] = True
    if request.images:
        body["data"] = list(request.images)
    if request.grammar is not None:
        body["response_format"] = response_format(request.grammar)
    return body | stream_fields(served)


class CompletionReader:
    """The chunks of one prompt's answer, or the one document of an answer that was not streamed."""

    def __init__(self, num_choices: int) -> None:
        self._choices = [OpenChoice(index) for index in range(num_choices)]
        self.usage: Usage | None = None

    @property
    def is_over(self) -> bool:
        """Whether the server has told the end of every choice."""
        return all(choice.is_over for choice in self._choices)

    @property
    def has_all(self) -> bool:
        """Whether something of every choice has come."""
        return all(choice.has_any for choice in self._choices)

    def push(self, document: Mapping[str, Any]) -> list[Said]:
        self.usage = usage_of(document) or self.usage
        said = []
        for index, choice in choices_of(document, len(self._choices)):
            state = self._choices[index]
            found = state.say(string(choice.get("text")), logprobs=_logprobs(choice.get("logprobs")))
            state.close(choice)
            if found is not None:
                said.append(found)
        return said

    def finish(self) -> list[Said | Ended]:
        return [event for choice in self._choices for event in choice.finish()]


def _logprobs(logprobs: object) -> tuple[TokenLogprob, ...]:
    """From the parallel lists of this route. A token without a log-probability is the first of an echoed prompt."""
    if not isinstance(logprobs, dict):
        return ()
    tokens, values, tops = (_list(logprobs.get(key)) for key in ("tokens", "token_logprobs", "top_logprobs"))
    found = []
    for place, token in enumerate(tokens):
        if not isinstance(token, str) or place >= len(values):
            continue
        text, logprob = joined(token), number(values[place])
        raw = text.encode()
        if logprob is None:
            found.append(TokenLogprob(UNKNOWN_TOKEN, text, raw, None))
            continue
        top = _top(tops[place]) if place < len(tops) else []
        found.append(TokenLogprob(UNKNOWN_TOKEN, text, raw, logprob, with_chosen(top, text, raw, logprob)))
    return tuple(found)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _top(listed: object) -> list[tuple[int, str, bytes, float]]:
    entries = [(joined(token), number(value)) for token, value in _mapping(listed).items()]
    return [(UNKNOWN_TOKEN, text, text.encode(), value) for text, value in entries if value is not None]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
