"""Bytes of a request body → one validated `Call`. The only place where a client's JSON is still a dict.

A name that appears twice in an object counts as its last value, as in every common JSON parser.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from hodios.api.checks import BOOLEAN, shown
from hodios.api.parameters import CHAT, COMPLETIONS, Operation, Parameter, parameters
from hodios.api.routing import routing_of
from hodios.api.tools import NO_TOOLING, tooling
from hodios.errors import InvalidRequest, MissingParameter, UnsupportedParameter
from hodios.types import Request, Sampling, Warning

MAX_WARNINGS = 64
MAX_CHOICES_PER_REQUEST = 2048
_SAMPLING_NAMES = frozenset(
    (
        "temperature",
        "top_p",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "seed",
        "logit_bias",
        "min_tokens",
        "ignore_eos",
        "stop_token_ids",
        "top_k",
        "logprobs",
    )
)
_DRAWN = _SAMPLING_NAMES - {"top_k", "logprobs"}
"""Those that are fields of the same name."""
_TOOL_NAMES = frozenset(("tools", "functions", "tool_choice", "function_call", "parallel_tool_calls"))
_FIELDS: Mapping[str, str] = {
    "messages": "messages",
    "prompt": "prompts",
    "n": "n",
    "stop": "stop",
    "include_stop_str_in_output": "include_stop",
    "echo": "echo",
    "response_format": "grammar",
    "documents": "documents",
    "data": "images",
    "include_reasoning": "has_reasoning",
    "continue_final_message": "continue_final_message",
    "models": "fallback_models",
    "prompt_cache_key": "cache_key",
    "cache_salt": "cache_salt",
    "user": "user",
}
"""Parameter → the field of a `Request` that has its parsed value as it is."""
_NEUTRAL = Sampling()
_UNPRINTABLE = re.compile(r"[^A-Za-z0-9_.\-\[\]]")
_JSON = msgspec.json.Decoder()


class Call(Struct, frozen=True, kw_only=True):
    """A request as the API sees it: what goes down, and how the answer shall look."""

    request: Request
    is_streamed: bool
    has_usage_chunk: bool
    has_continuous_usage: bool
    has_route: bool
    """Whether the answer tells how it was found."""
    has_token_ids: bool
    has_filter_details: bool
    has_function_call: bool
    """The older way to call: answers have `function_call` instead of `tool_calls`."""
    is_strict: bool
    warnings: tuple[Warning, ...]


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises InvalidRequest for anything else; names the parameter at fault, if any."""
    if not body:
        raise InvalidRequest("the request body is empty; accepted: a JSON object")
    try:
        value = _JSON.decode(body)
    except RecursionError:
        raise InvalidRequest("the request body is nested too deeply") from None
    except ValueError as error:
        raise _culprit(body, error) from None
    if type(value) is not dict:
        raise InvalidRequest(f"the request body is {shown(value)}; accepted: a JSON object")
    return value


def _culprit(body: bytes, error: ValueError) -> InvalidRequest:
    """Says which parameter makes the body no JSON, where a laxer parser can tell; slow, and only for bad bodies."""
    try:
        value = json.loads(body, parse_int=float)
    except (ValueError, RecursionError):
        value = None
    for name, entry in value.items() if type(value) is dict else ():
        if problem := _problem(entry):
            shown_name = readable(name)
            return InvalidRequest(f"{shown_name}: {problem}", param=shown_name)
    reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
    return InvalidRequest(f"the request body is not valid JSON: {reason}")


def _problem(value: Any) -> str:
    pending = [value]
    while pending:
        match pending.pop():
            case float() as number if not math.isfinite(number):
                return f"{number} is not a number that JSON has; accepted: a finite number"
            case str() as text if any("\ud800" <= character <= "\udfff" for character in text):
                return "the string holds half of a surrogate pair; accepted: Unicode text"
            case list() as items:
                pending.extend(items)
            case dict() as entries:
                pending.extend(entries)
                pending.extend(entries.values())
    return ""


def readable(name: str) -> str:
    """A parameter name from a client, fit for a header and a log: short, and without control characters."""
    return _UNPRINTABLE.sub("?", name[:100]) or "?"


class Reader:
    """Validates the bodies of one operation against its table of parameters."""

    def __init__(self, operation: Operation, max_choices: int) -> None:
        self.operation = operation
        self._table: Mapping[str, Parameter] = parameters(operation, max_choices)
        other = CHAT if operation == COMPLETIONS else COMPLETIONS
        self._elsewhere = frozenset(parameters(other, max_choices)) - frozenset(self._table)
        self._other: str = other
        self._required = tuple(p for p in self._table.values() if p.is_required)

    def read(self, body: bytes, *, request_id: str, caller: str) -> Call:
        """Raises InvalidRequest: the first parameter that is at fault."""
        values, warnings = self._values(decode_object(body))
        options = _stream_options(values, warnings)
        _warn_of_preferences(values, warnings)
        if values.get("strict"):
            forbid(warnings)
        _check_together(values)
        has_token_ids = values.get("return_tokens_as_token_ids", False)
        if not has_token_ids:
            # Whoever does not want them asks nothing of a provider.
            values.pop("return_tokens_as_token_ids", None)
        return Call(
            request=_request(values, request_id, caller),
            is_streamed=values.get("stream", False),
            has_usage_chunk=options.get("include_usage", False),
            has_continuous_usage=options.get("continuous_usage_stats", False),
            has_route=values.get("include_route", False),
            has_token_ids=has_token_ids,
            has_filter_details="content_filter" in values,
            has_function_call=bool(values.get("functions")),
            is_strict=values.get("strict", False),
            warnings=tuple(warnings),
        )

    def _values(self, body: dict[str, Any]) -> tuple[dict[str, Any], list[Warning]]:
        """Parsed values of what was given and can be honoured; null is absent."""
        values: dict[str, Any] = {}
        warnings: list[Warning] = []
        for name, value in body.items():
            parameter = self._table.get(name)
            if value is None and (parameter is None or not parameter.is_required):
                continue
            if parameter is None:
                warn(warnings, self._unknown(name))
                continue
            if value is None:
                continue
            parsed = parameter.kind.parse(name, value)
            if not parameter.gap:
                values[name] = parsed
            elif parsed not in parameter.neutral:
                warn(warnings, Warning(name, "unsupported_parameter", f"{name} was ignored: {parameter.gap}"))
        for parameter in self._required:
            if parameter.name not in values:
                raise MissingParameter(
                    f"{parameter.name}: is missing; accepted: {parameter.kind.accepts}", param=parameter.name
                )
        return values, warnings

    def _unknown(self, name: str) -> Warning:
        if name in self._elsewhere:
            text = f"{name} was ignored: it is a parameter of {self._other}, not of {self.operation}"
            return Warning(name, "unsupported_parameter", text)
        return unknown(name)


def unknown(name: str) -> Warning:
    return Warning(readable(name), "unknown_parameter", f"{readable(name)} was ignored: there is no such parameter")


def forbid(warnings: Sequence[Warning]) -> None:
    """`strict: true`. Raises UnsupportedParameter for the first warning, if there is one."""
    for warning in warnings:
        raise UnsupportedParameter(f"{warning.message}; strict: true forbids that", param=warning.param)


def warn(warnings: list[Warning], warning: Warning) -> None:
    """Keeps the list short, whatever a client sends."""
    if len(warnings) < MAX_WARNINGS:
        warnings.append(warning)
    elif len(warnings) == MAX_WARNINGS:
        warnings.append(Warning("...", warning.code, "and more parameters were ignored"))


def _stream_options(values: dict[str, Any], warnings: list[Warning]) -> dict[str, bool]:
    given = values.get("stream_options")
    if given is None:
        return {}
    if not values.get("stream"):
        raise InvalidRequest("stream_options: is only allowed with stream: true", param="stream_options")
    options: dict[str, bool] = {}
    for name, value in given.items():
        path = f"stream_options.{readable(name)}"
        if value is None:
            continue
        if name in ("include_usage", "continuous_usage_stats"):
            options[name] = BOOLEAN.parse(path, value)
        elif name != "include_obfuscation" or value is not False:
            warn(warnings, Warning(path, "unknown_parameter", f"{path} was ignored: no such option"))
    return options


def _warn_of_preferences(values: dict[str, Any], warnings: list[Warning]) -> None:
    for path, why in values["provider"].ignored if "provider" in values else ():
        warn(warnings, Warning(readable(path), "unsupported_parameter", f"{readable(path)} was ignored: {why}"))


def _check_together(values: dict[str, Any]) -> None:
    """What is wrong only in combination."""
    tokens, newer = values.get("max_tokens"), values.get("max_completion_tokens")
    if tokens is not None and newer is not None and tokens != newer:
        raise InvalidRequest(
            f"max_completion_tokens: {newer} contradicts max_tokens {tokens}; accepted: one of them, or equal values",
            param="max_completion_tokens",
        )
    limit = tokens if tokens is not None else newer
    limit_name = "max_tokens" if tokens is not None else "max_completion_tokens"
    if limit == 0 and not values.get("echo"):
        raise InvalidRequest(
            f"{limit_name}: 0 is out of range; accepted: an integer from 1 to 1000000, or 0 with echo", param=limit_name
        )
    if limit is not None and values.get("min_tokens", 0) > limit:
        raise InvalidRequest(
            f"min_tokens: {values['min_tokens']} is more than {limit_name}; accepted: an integer from 0 to {limit}",
            param="min_tokens",
        )
    if values.get("top_logprobs") and not values.get("logprobs"):
        raise InvalidRequest("top_logprobs: is only allowed with logprobs: true", param="top_logprobs")
    if values.get("continue_final_message") and values.get("add_generation_prompt"):
        raise InvalidRequest(
            "continue_final_message: cannot be true together with add_generation_prompt", param="continue_final_message"
        )
    _check_choices(values)


def _check_choices(values: dict[str, Any]) -> None:
    n = values.get("n", 1)
    best_of = values.get("best_of", n)
    if best_of < n:
        raise InvalidRequest(
            f"best_of: {best_of} is less than n; accepted: an integer of at least {n}", param="best_of"
        )
    if best_of > n and values.get("stream"):
        raise InvalidRequest(
            f"best_of: {best_of} cannot be streamed; accepted with stream: the value of n, {n}", param="best_of"
        )
    num_prompts = len(values.get("prompt", ("",)))
    if num_prompts * best_of > MAX_CHOICES_PER_REQUEST:
        raise InvalidRequest(
            f"n: {num_prompts} prompts with {best_of} choices each are too many; "
            f"accepted: {MAX_CHOICES_PER_REQUEST} choices in all",
            param="n",
        )


def _request(values: dict[str, Any], request_id: str, caller: str) -> Request:
    """`model` is still as the client wrote it."""
    n = values.get("n", 1)
    continues = values.get("continue_final_message", False)
    tools, choice, is_parallel = NO_TOOLING if _TOOL_NAMES.isdisjoint(values) else tooling(values)
    return Request(
        id=request_id,
        model=values["model"],
        max_tokens=values.get("max_tokens", values.get("max_completion_tokens")),
        sampling=_NEUTRAL if _SAMPLING_NAMES.isdisjoint(values) else _sampling(values),
        best_of=values.get("best_of", n),
        tools=tools,
        tool_choice=choice.mode,
        tool_name=choice.name,
        parallel_tool_calls=is_parallel,
        is_shown_whole=not values.get("stream", False),
        template_kwargs=_template_kwargs(values),
        add_generation_prompt=values.get("add_generation_prompt", not continues),
        routing=routing_of(values),
        given=frozenset(values),
        caller=caller,
        **{_FIELDS[name]: value for name, value in values.items() if name in _FIELDS},
    )


def _template_kwargs(values: dict[str, Any]) -> dict[str, Any] | None:
    """`reasoning_effort` under the names that templates know; what the client says for the template itself wins."""
    given: dict[str, Any] | None = values.get("chat_template_kwargs")
    effort = values.get("reasoning_effort")
    if effort is None:
        return given
    thinking = {"enable_thinking": False} if effort == "none" else {}
    return {"reasoning_effort": effort, **thinking, **(given or {})}


def _sampling(values: dict[str, Any]) -> Sampling:
    given = {name: value for name, value in values.items() if name in _DRAWN}
    logprobs = values.get("logprobs")
    if logprobs is True:
        logprobs = values.get("top_logprobs", 0)
    elif logprobs is False:
        logprobs = None
    return Sampling(top_k=max(0, values.get("top_k", 0)), logprobs=logprobs, **given)
