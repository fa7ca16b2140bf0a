"""What one request asks of whoever answers it: how long it is, which abilities it needs. Looks at shapes only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from hodios.providers.chunks import CHARACTERS_PER_TOKEN
from hodios.providers.honoured import values_of
from hodios.types import Request

_PER_TURN = 4
"""Tokens around each message of a chat."""
_PER_IMAGE = 512
_THEIRS = frozenset(
    (
        *("temperature", "top_p", "min_p", "top_k", "presence_penalty", "frequency_penalty", "repetition_penalty"),
        *("seed", "logit_bias", "min_tokens", "ignore_eos", "stop_token_ids", "return_tokens_as_token_ids"),
    )
)
"""Parameters of which one cannot know what whoever does not know them would do, even at their usual values."""


class Demand(Struct, frozen=True, kw_only=True):
    """Of one request."""

    num_prompt_tokens: int
    """Estimated, over all prompts."""
    num_longest: int
    """Of the longest prompt."""
    max_tokens: int | None
    num_answers: int
    needs: Mapping[str, str]
    """Ability (a feature, or `image`) → the parameter that needs it."""
    parameters: frozenset[str] = frozenset()
    """What providers must honour; like `values` empty where the client does not require it."""
    values: Mapping[str, Any] = {}
    """What they must accept, by parameter."""


def demand_of(request: Request) -> Demand:
    sizes = _sizes(request)
    values = values_of(request) if request.routing.requires_parameters else {}
    return Demand(
        num_prompt_tokens=sum(sizes),
        num_longest=max(sizes),
        max_tokens=request.max_tokens,
        num_answers=max(request.n, request.best_of) * len(sizes),
        needs=dict(_needs(request)),
        parameters=(request.given & _THEIRS).union(values) if request.routing.requires_parameters else frozenset(),
        values=values,
    )


def image_params(request: Request) -> Iterator[str]:
    """The parameters that hold images."""
    if request.images:
        yield "data"
    for place, message in enumerate(request.messages or ()):
        content = message.get("content")
        for index, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict) and part.get("type") == "image_url":
                yield f"messages[{place}].content[{index}]"


def texts_of(request: Request) -> Iterator[str]:
    """All text of a chat in its order; roles too, and the addresses of images."""
    for message in request.messages or ():
        yield str(message.get("role", ""))
        content = message.get("content")
        if isinstance(content, str):
            yield content
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict):
                yield part["text"] if isinstance(part.get("text"), str) else str(part.get("image_url", ""))
        if message.get("tool_calls"):
            yield str(message["tool_calls"])


def _needs(request: Request) -> Iterator[tuple[str, str]]:
    if request.tools and request.tool_choice != "none":
        yield "tools", "tools"
    if request.grammar is not None:
        yield "json_schema", "response_format"
    if request.sampling.logprobs is not None:
        yield "logprobs", "logprobs"
    if request.documents:
        yield "documents", "documents"
    image = next(image_params(request), None)
    if image is not None:
        yield "image", image


def _sizes(request: Request) -> list[int]:
    """About how many tokens each prompt has."""
    if request.prompts is not None:
        return [-(-len(p) // CHARACTERS_PER_TOKEN) if isinstance(p, str) else len(p) for p in request.prompts] or [0]
    num_images = sum(1 for _ in image_params(request))
    num_characters = sum(len(text) for text in texts_of(request) if not text.startswith("data:"))
    num_characters += sum(len(tool.name) + len(tool.description) + len(str(tool.parameters)) for tool in request.tools)
    num_turns = len(request.messages or ())
    return [num_characters // CHARACTERS_PER_TOKEN + _PER_TURN * num_turns + _PER_IMAGE * num_images]
