"""The raw dialect of other servers, `/completions`: a prompt as text or token ids in, its continuation out. Sans-IO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hodios.events import TokenLogprob
from hodios.providers.chunks import (
    UNKNOWN_TOKEN,
    AnswerReader,
    OpenChoice,
    Said,
    has_more_than_text,
    number,
    string,
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


class CompletionReader(AnswerReader):
    """The answer to one prompt."""

    def _text_alone(self, choice: object) -> str | None:
        if type(choice) is not dict or has_more_than_text(choice):
            return None
        text = choice.get("text")
        return text if type(text) is str else None

    def _read(self, state: OpenChoice, choice: Mapping[str, Any]) -> Said | None:
        return state.say(string(choice.get("text")), logprobs=_logprobs(choice.get("logprobs")))


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
