"""What `require_parameters` asks of providers: exactly what they would otherwise be reported to ignore."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from msgspec import structs

from hodios.api.parameters import CHAT, COMPLETIONS, Operation, parameters
from hodios.api.wire import Reader
from hodios.providers.plan import Plan, profile_of
from hodios.providers.served import Served, serve
from hodios.remotes import Dialect, Remote, RemoteFeature, RemoteModel
from hodios.router.demand import demand_of
from hodios.router.filters import exclusion
from hodios.router.seat import Seat
from hodios.types import Request, Routing

TOOLS: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
VALUES: dict[str, Any] = {
    **dict.fromkeys(("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty"), 0.5),
    **dict.fromkeys(("repetition_penalty",), 1.5),
    **dict.fromkeys(("top_k", "seed", "min_tokens", "n", "best_of"), 2),
    **dict.fromkeys(("max_tokens", "max_completion_tokens"), 9),
    **dict.fromkeys(("user", "prompt_cache_key", "cache_salt"), "x"),
    **dict.fromkeys(("ignore_eos", "include_stop_str_in_output", "stream", "continue_final_message"), True),
    **dict.fromkeys(("include_route", "strict", "echo"), True),
    **dict.fromkeys(("add_generation_prompt", "include_reasoning", "parallel_tool_calls"), False),
    "stop": ["x"],
    "stop_token_ids": [1],
    "logit_bias": {"1": 1},
    "stream_options": {"include_usage": True},
    "response_format": {"type": "json_object"},
    "content_filter": "details",
    "provider": {"sort": "price"},
    "models": ["other"],
    "routing": "price",
    "chat_template_kwargs": {"x": 1},
    "reasoning_effort": "low",
    "documents": ["x"],
    "tools": TOOLS,
    "tool_choice": "none",
    "functions": [TOOLS[0]["function"]],
    "function_call": "none",
}
"""A value other than the usual one for each parameter that a provider might honour."""
WITH: dict[str, dict[str, Any]] = {
    "tool_choice": {"tools": TOOLS},
    "parallel_tool_calls": {"tools": TOOLS},
    "function_call": {"functions": VALUES["functions"]},
    "stream_options": {"stream": True},
}
SPECIAL = ("model", "messages", "prompt", "logprobs", "top_logprobs", "return_tokens_as_token_ids", "data")
"""Looked at below, or needed by all."""
CASES = [
    (operation, name)
    for operation in (CHAT, COMPLETIONS)
    for name, parameter in parameters(operation, 8).items()
    if not parameter.gap
    and name not in SPECIAL
    # Raw completions cannot be held to a form in words: they are refused.
    and (operation, name) != (COMPLETIONS, "response_format")
]


def served(dialect: Dialect, names: tuple[str, ...] = (), features: tuple[RemoteFeature, ...] = ()) -> Served:
    row = RemoteModel(id="maker/hermes", context_length=4096, parameters=names, family="chatml", features=features)
    return serve(Remote(name="acme", base_url="http://127.0.0.1:1/v1", dialect=dialect, models=(row,)), row)


def read(operation: Operation, **values: Any) -> Request:
    prompt = {"messages": [{"role": "user", "content": "x"}]} if operation == CHAT else {"prompt": "x"}
    body = {"model": "maker/hermes", **prompt, **values}
    body.setdefault("provider", {})["require_parameters"] = True
    return Reader(operation, 8).read(json.dumps(body).encode(), request_id="1", caller="").request


def ignored(request: Request, served: Served) -> set[str]:
    """What the client is told that the server does not honour."""
    plan = Plan(request, served, profile_of(served.family, lambda: datetime(2026, 11, 1)))
    sent = [plan.send(part, plan.request) for part in plan.parts()]
    codes = {warning.code for each in sent for warning in each.warnings}
    assert codes <= {"unsupported_parameter"}
    return {warning.param for each in sent for warning in each.warnings}


def required(request: Request, served: Served) -> str:
    """Why the server is not asked; "" where it is."""

    class Provider:
        name = "acme"

    found = exclusion(Seat(Provider(), served.card), request.routing, demand_of(request))  # type: ignore[arg-type]
    return "" if found is None else found.reason


@pytest.mark.parametrize(("operation", "name"), CASES)
@pytest.mark.parametrize("dialect", ["chat", "completions"])
def test_what_would_be_ignored_excludes_and_nothing_else_does(
    operation: Operation, name: str, dialect: Dialect
) -> None:
    value = dict(VALUES[name]) if name == "provider" else VALUES[name]
    request = read(operation, **{name: value}, **WITH.get(name, {}))
    if name in ("max_tokens", "max_completion_tokens"):
        # Both are one.
        assert ignored(request, served(dialect)) == {"max_tokens"}
        assert "max_tokens" in required(request, served(dialect))
        assert not required(request, served(dialect, (name,)))
        return
    told = ignored(request, served(dialect))
    reason = required(request, served(dialect))
    if name == "documents":
        # An ability, of which is told elsewhere.
        assert reason
        return
    assert bool(reason) == bool(told), (reason, told)
    assert all(param in reason for param in told), (reason, told)
    assert not ignored(request, served(dialect, tuple(told)))
    assert not required(request, served(dialect, tuple(told)))


@pytest.mark.parametrize(
    ("operation", "values", "missing"),
    [
        (CHAT, {"logprobs": True}, "logprobs"),
        (CHAT, {"logprobs": True, "top_logprobs": 2}, "top_logprobs"),
        (COMPLETIONS, {"logprobs": 0}, "logprobs"),
        (COMPLETIONS, {"logprobs": 2}, "logprobs"),
        (COMPLETIONS, {"echo": True, "prompt": [[1, 2]]}, "echo"),
        (COMPLETIONS, {"echo": True, "prompt": ["x", "y"], "logprobs": 1}, "echo"),
        (CHAT, {"logprobs": True, "return_tokens_as_token_ids": True}, "return_tokens_as_token_ids"),
    ],
)
def test_what_only_a_server_can_know_of_tokens(operation: Operation, values: dict[str, Any], missing: str) -> None:
    request = read(operation, **values)
    assert required(request, served("chat"))
    able = served("chat", ("echo", "return_tokens_as_token_ids"), ("logprobs",))
    assert not required(request, able)
    card = structs.replace(able.card, parameters=tuple(set(able.card.parameters or ()) - {missing}))
    if missing != "logprobs" or values["logprobs"] not in (0, True):
        assert missing in required(request, structs.replace(able, card=card))


@pytest.mark.parametrize(
    ("operation", "values"),
    [
        (CHAT, {"n": 2, "best_of": 2}),
        (CHAT, {"chat_template_kwargs": {}, "documents": []}),
        (CHAT, {"continue_final_message": False, "add_generation_prompt": True, "logprobs": False, "top_logprobs": 0}),
        (COMPLETIONS, {"echo": False, "best_of": 1}),
    ],
)
def test_what_happens_anyway_needs_nobody_who_knows_it(operation: Operation, values: dict[str, Any]) -> None:
    assert not required(read(operation, **values), served("chat"))


def test_nothing_is_required_unless_it_is_said_to_be() -> None:
    request = structs.replace(read(CHAT, best_of=2, seed=1), routing=Routing())
    assert ignored(request, served("chat")) == {"best_of", "seed"}
    assert not required(request, served("chat"))
