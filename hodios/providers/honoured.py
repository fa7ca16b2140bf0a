"""A request's parameters in the words of OpenAI's protocol: those that a server honours go to it, the others are told,
and so is a value that was moved to where the server accepts it.

What the client left at its default is not sent, but for temperature and top_p, and for what the server's row has
another default of.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

from hodios.providers.ranges import fitted, refusal
from hodios.providers.served import ALWAYS_SENT, Served
from hodios.types import Request, Sampling, Warning

_MOST_STOPS = 4
"""As many stop strings as every server takes."""
_MOST_OUTPUT = 16_384
"""Tokens of an answer for which the client set no limit."""
_LIMITS = ("max_tokens", "max_completion_tokens")
_NEUTRAL = Sampling()


class Asked(Struct):
    """What a request becomes."""

    fields: dict[str, Any]
    warnings: list[Warning]


def sends_stop(request: Request, served: Served) -> bool:
    """Whether the server looks for the stop strings; else this side does, always in the same way."""
    return (
        bool(request.stop)
        and served.honours("stop")
        and len(request.stop) <= most_stops(served)
        and not request.include_stop
        and all(request.stop)
    )


def most_stops(served: Served) -> int:
    """How many stop strings the server takes. Where there are more, all of them are looked for here."""
    accepted = served.card.ranges.get("stop")
    return (accepted and accepted.max_items) or _MOST_STOPS


def most_choices(request: Request, served: Served) -> int:
    """How many of the request's choices one request to the server may ask for."""
    if not served.honours("n"):
        return 1
    accepted = served.card.ranges.get("n")
    return request.n if accepted is None else max(1, fitted(request.n, accepted))


def values_of(request: Request) -> dict[str, Any]:
    """What the client gave and a server must accept; not what is done here where a server does not (`n`, `stop`)."""
    values = {
        name: value
        for name, value, is_default in (*_sampling(request.sampling, ALWAYS_SENT), *_others(request))
        if not is_default or name in request.given
    }
    if request.max_tokens is not None:
        # It is sent under either name.
        values |= dict.fromkeys(_LIMITS, request.max_tokens)
    if request.sampling.logprobs:
        values["top_logprobs" if request.is_chat else "logprobs"] = request.sampling.logprobs
    if any(needs_echo(request, prompt) for prompt in request.prompts or ()):
        values["echo"] = True
    return values


def needs_echo(request: Request, prompt: str | tuple[int, ...]) -> bool:
    """Whether only the server can repeat the prompt: where its tokens are asked about, or no text is known."""
    return request.echo and (request.sampling.logprobs is not None or not isinstance(prompt, str))


def parameters_of(request: Request, served: Served, *, prompt: str | tuple[int, ...] | None = None) -> Asked:
    """All but the prompt, `n`, tools and `response_format`. `prompt`: the one that is sent as it is; None for chats."""
    asked = Asked({}, [])
    for name, value, is_default in (*_sampling(request.sampling, served.always), *_others(request)):
        if served.honours(name):
            _put(asked, name, value, served, is_told=not is_default or name in request.given)
        elif not is_default and name != "user":
            asked.warnings.append(unsupported(name, served))
    if "says_repeat_penalty" in served.quirks and "repetition_penalty" in asked.fields:
        asked.fields["repeat_penalty"] = asked.fields.pop("repetition_penalty")
    if sends_stop(request, served):
        asked.fields["stop"] = list(request.stop)
    _add_length(asked, request, served, prompt)
    _add_logprobs(asked, request, served, is_chat=prompt is None)
    return asked


def unsupported(name: str, served: Served) -> Warning:
    message = f"{name} was ignored: {served.card.provider} does not honour it for {served.card.id}"
    return Warning(name, "unsupported_parameter", message)


def _put(asked: Asked, name: str, value: Any, served: Served, *, is_told: bool = True) -> None:
    """`is_told`: whether the client is to know where the server gets another value."""
    accepted = served.card.ranges.get(name)
    sent = value if accepted is None else fitted(value, accepted)
    if sent is not None:
        asked.fields[name] = sent
    if accepted is not None and is_told and (reason := refusal(name, value, accepted)):
        message = f"{name} was {_fate(value, sent)}: {served.card.provider} {reason}"
        asked.warnings.append(Warning(name, "moved_value", message))


def _fate(value: Any, sent: Any) -> str:
    if sent is None:
        return "left out"
    if isinstance(value, list | dict):
        return "sent in part" if len(sent) < len(value) else "sent with other values"
    return f"sent as {sent:.15g}" if isinstance(sent, float) else f"sent as {sent}"


def _sampling(sampling: Sampling, always: Sequence[str]) -> Iterator[tuple[str, Any, bool]]:
    """(name, value as it is sent, whether it is the default). Of defaults only those that are sent all the same."""
    if sampling == _NEUTRAL:
        for name in always:
            yield name, getattr(sampling, name), True
        return
    for name in (
        *("temperature", "top_p", "min_p", "top_k", "presence_penalty", "frequency_penalty", "repetition_penalty"),
        *("seed", "min_tokens", "ignore_eos"),
    ):
        value = getattr(sampling, name)
        is_default = value == getattr(_NEUTRAL, name)
        if not is_default or name in always:
            yield name, value, is_default
    if sampling.stop_token_ids:
        yield "stop_token_ids", list(sampling.stop_token_ids), False
    if sampling.logit_bias:
        yield "logit_bias", {str(token): bias for token, bias in sampling.logit_bias}, False


def _others(request: Request) -> Iterator[tuple[str, Any, bool]]:
    """The same of what does not belong to sampling."""
    if request.user is not None:
        yield "user", request.user, False
    if request.cache_salt:
        yield "cache_salt", request.cache_salt, False
    if request.template_kwargs:
        yield "chat_template_kwargs", request.template_kwargs, False
    if request.documents:
        yield "documents", list(request.documents), False
    if request.best_of > request.n:
        yield "best_of", request.best_of, False
    if request.continue_final_message:
        yield "continue_final_message", True, False
    elif not request.add_generation_prompt:
        yield "add_generation_prompt", False, False


def _add_length(asked: Asked, request: Request, served: Served, prompt: str | tuple[int, ...] | None) -> None:
    """Where the client sets no limit, completions get one, because elsewhere that route stops after 16 tokens; and so
    do chats with servers that take none without."""
    limit = request.max_tokens
    if limit is None and prompt is not None:
        limit = _room(prompt, served)
    elif limit is None and "requires_max_tokens" in served.quirks:
        limit = min(_MOST_OUTPUT, served.card.max_output_tokens)
    if limit is None:
        return
    for name in _LIMITS:
        if served.honours(name):
            _put(asked, name, limit, served, is_told=request.max_tokens is not None)
            return
    if request.max_tokens is not None:
        asked.warnings.append(unsupported("max_tokens", served))


def _room(prompt: str | tuple[int, ...], served: Served) -> int:
    """What surely fits after the prompt, of which a token has hardly less than two characters."""
    num_tokens = len(prompt) // 2 if isinstance(prompt, str) else len(prompt)
    return max(1, min(_MOST_OUTPUT, served.card.max_output_tokens, served.card.context_length - num_tokens - 64))


def _add_logprobs(asked: Asked, request: Request, served: Served, *, is_chat: bool) -> None:
    num_top = request.sampling.logprobs
    if num_top is None:
        return
    if "return_tokens_as_token_ids" in request.given:
        # Servers tell texts, and nobody else knows the ids.
        asked.warnings.append(unsupported("return_tokens_as_token_ids", served))
    if not served.honours("logprobs"):
        asked.warnings.append(unsupported("logprobs", served))
    elif not is_chat:
        _put(asked, "logprobs", num_top, served)
    else:
        asked.fields["logprobs"] = True
        if num_top and "has_no_top_logprobs" in served.quirks:
            asked.warnings.append(unsupported("top_logprobs", served))
        elif num_top:
            _put(asked, "top_logprobs", num_top, served)
