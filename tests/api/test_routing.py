from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.api.app import create_app
from hodios.api.parameters import CHAT
from hodios.api.routing import NO_LIMIT
from hodios.api.wire import Call, Reader
from hodios.config import Config
from hodios.errors import HodiosError, InvalidRequest, ProviderError, UnsupportedParameter
from hodios.events import Event, Finish, Started, Stopped, Text, Usage
from hodios.types import ModelCard, Price, Request, Routing

DOLLAR = 10**9
SAID = [{"role": "user", "content": "hi"}]


def read(**values: Any) -> Call:
    body = {"model": "m", "messages": SAID, **values}
    return Reader(CHAT, 8).read(json.dumps(body).encode(), request_id="id-0", caller="someone")


def routing(**values: Any) -> Routing:
    call = read(**values)
    assert call.warnings == ()
    return call.request.routing


@pytest.mark.parametrize(
    ("preference", "expected"),
    [
        ("", Routing()),
        ({}, Routing()),
        ("DeepInfra", Routing(order=("deepinfra",))),
        ({"order": ["A", "b", "a"]}, Routing(order=("a", "b"))),
        ({"only": ["a"], "ignore": ["B"]}, Routing(only=("a",), ignore=("b",))),
        ({"allow_fallbacks": False}, Routing(allows_fallbacks=False)),
        ({"require_parameters": True}, Routing(requires_parameters=True)),
        ({"quantizations": ["FP8", "int4"]}, Routing(quantizations=("fp8", "int4"))),
        ({"data_collection": "deny"}, Routing(allows_collection=False)),
        ({"data_collection": "allow"}, Routing()),
        *(({"sort": name}, Routing(sort=name)) for name in ("price", "latency", "throughput", "perf", "perf_avg")),
        ({"sort": {"by": "latency", "partition": "model"}}, Routing(sort="latency")),
        ({"preferred_max_latency": 2}, Routing(preferred_max_latency_s=2.0)),
        ({"preferred_min_throughput": {"p50": 30}}, Routing(preferred_min_throughput=30.0)),
        ({"order": None, "max_price": None, "sort": None}, Routing()),
        (
            {"max_price": {"prompt": 0.39, "completion": "0.4", "request": None}},
            Routing(max_price=Price(prompt=390_000_000, completion=400_000_000, request=NO_LIMIT)),
        ),
        ({"max_price": {}}, Routing(max_price=Price(prompt=NO_LIMIT, completion=NO_LIMIT, request=NO_LIMIT))),
        ({"max_price": {"request": 1}}, Routing(max_price=Price(prompt=NO_LIMIT, completion=NO_LIMIT, request=DOLLAR))),
    ],
)
def test_preferences(preference: Any, expected: Routing) -> None:
    assert routing(provider=preference) == expected


@pytest.mark.parametrize(
    ("preference", "param"),
    [
        ("x" * 257, "provider"),
        *((value, "provider") for value in (1, True, [])),
        *(({name: "a"}, f"provider.{name}") for name in ("order", "only", "ignore", "quantizations", "max_price")),
        *(({name: [1]}, f"provider.{name}[0]") for name in ("order", "only", "ignore", "quantizations")),
        ({"order": [""]}, "provider.order[0]"),
        ({"order": ["a"] * 65}, "provider.order"),
        *(({name: 1}, f"provider.{name}") for name in ("allow_fallbacks", "require_parameters", "data_collection")),
        ({"data_collection": "no"}, "provider.data_collection"),
        *(({"sort": value}, "provider.sort") for value in ("cheap", 1, ["price"])),
        *(({"sort": value}, "provider.sort.by") for value in ({}, {"by": "cheap"})),
        *(({"max_price": {"prompt": value}}, "provider.max_price.prompt") for value in (-1, "x", True, [], 1e7, "NaN")),
        *(({"preferred_max_latency": value}, "provider.preferred_max_latency") for value in (0, "1", True, [1])),
        ({"preferred_max_latency": {"p50": 0}}, "provider.preferred_max_latency.p50"),
        ({"preferred_min_throughput": {"p51": 1}}, "provider.preferred_min_throughput.p51"),
    ],
)
def test_bad_preferences_are_named(preference: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(provider=preference)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")
    assert "accepted: " in caught.value.message


@pytest.mark.parametrize(
    ("preference", "params"),
    [
        ({"zdr": True, "order": ["a"]}, ["provider.zdr"]),
        ({"sort": {"by": "price", "partition": "none"}}, ["provider.sort.partition"]),
        ({"max_price": {"image": 1}}, ["provider.max_price.image"]),
        ({"preferred_max_latency": {"p50": 1, "p90": 3}}, ["provider.preferred_max_latency.p90"]),
        ({"a b\n": 1}, ["provider.a?b?"]),
    ],
)
def test_what_cannot_be_honoured_is_reported(preference: Any, params: list[str]) -> None:
    call = read(provider=preference)
    assert [warning.param for warning in call.warnings] == params
    assert {warning.code for warning in call.warnings} == {"unsupported_parameter"}
    with pytest.raises(UnsupportedParameter):
        read(provider=preference, strict=True)


def test_routing_is_another_name_of_a_sort() -> None:
    for name, sort in (("price", "price"), ("perf", "perf"), ("perf_avg", "perf_avg"), ("perf-avg", "perf_avg")):
        assert routing(routing=name) == Routing(sort=sort)  # type: ignore[arg-type]
        assert routing(routing=name, provider={"sort": sort}).sort == sort
        assert routing(routing=name, provider="a") == Routing(sort=sort, order=("a",))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=r"contradicts provider\.sort") as caught:
        read(routing="perf", provider={"sort": "price"})
    assert caught.value.param == "routing"


def test_fallback_models_cache_key_and_what_was_given() -> None:
    request = read(models=["a", "b"], prompt_cache_key="k", seed=1, foo=1, store=True).request
    assert request.fallback_models == ("a", "b")
    assert request.cache_key == "k"
    assert request.given == {"model", "messages", "models", "prompt_cache_key", "seed"}
    for bad in (["a"] * 17, [""], "a", [1]):
        with pytest.raises(InvalidRequest):
            read(models=bad)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = ("order", "only", "sort", "max_price", "preferred_max_latency", "quantizations", "data_collection", "x")


@given(ANY | st.dictionaries(st.sampled_from(KEYS), ANY))
def test_anything_is_read_or_refused(preference: Any) -> None:
    try:
        read(provider=preference)
    except InvalidRequest as error:
        refused = error
    else:
        return
    assert refused.param
    assert len(refused.message) < 600


class Playing:
    """A provider that plays a script."""

    def __init__(self, name: str, *script: Event | HodiosError, dollars: int = 1, model: str = "maker/model") -> None:
        self.name = name
        self.script = script
        price = Price(prompt=dollars * DOLLAR, completion=dollars * DOLLAR)
        self.card = ModelCard(id=model, context_length=1000, max_output_tokens=500, provider=name, price=price)
        self.requests: list[Request] = []

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def models(self) -> Sequence[ModelCard]:
        return (self.card,)

    def tokenizer(self, model: str) -> None: ...

    def health(self) -> Sequence[Any]:
        return ()

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        for step in self.script:
            if isinstance(step, HodiosError):
                raise step
            yield step


def saying(name: str, model: str = "maker/model") -> tuple[Event, ...]:
    usage = Usage(prompt_tokens=3, completion_tokens=1)
    return (Started(name, model, "fp", 3), Text(0, name, completion_tokens=1), Stopped(0, "stop"), Finish(usage))


@pytest.fixture
def over(call: Any, config: Config) -> Callable[..., Any]:
    """A caller over these providers."""
    return lambda *providers: type(call)(create_app(config, providers))


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_the_answer_says_who_gave_it(over: Any, is_streamed: bool) -> None:
    bad, good = Playing("bad", ProviderError("no")), Playing("good", *saying("good"), dollars=5)
    answer = await over(bad, good).chat(model="maker/model", stream=is_streamed, provider={"sort": "price"})
    assert answer.status == 200
    assert (answer.headers["x-hodios-provider"], answer.headers["x-hodios-attempts"]) == ("good", "2")
    told = answer.chunks() if is_streamed else [answer.json()]
    assert {(part["provider"], part["model"]) for part in told} == {("good", "maker/model")}


async def test_a_fallback_model_is_named_as_itself(over: Any) -> None:
    bad, good = Playing("bad", ProviderError("no")), Playing("good", *saying("good", "other/one"), model="other/one")
    answer = await over(bad, good).chat(model="maker/model", models=["other/one"])
    assert (answer.json()["model"], answer.headers["x-hodios-attempts"]) == ("other/one", "2")
    assert good.requests[0].model == "other/one"


async def test_an_error_says_how_many_were_asked_and_who_was_last(over: Any) -> None:
    one, two = Playing("one", ProviderError("no")), Playing("two", ProviderError("never"), dollars=2)
    answer = await over(one, two).chat(model="maker/model", routing="price")
    assert answer.status == 502
    assert (answer.headers["x-hodios-provider"], answer.headers["x-hodios-attempts"]) == ("two", "2")
    assert [attempt["provider"] for attempt in answer.error["metadata"]["attempts"]] == ["one", "two"]


async def test_nobody_may_answer(over: Any) -> None:
    answer = await over(Playing("one", *saying("one")), Playing("two", *saying("two"))).chat(
        model="maker/model", provider={"only": ["three"]}
    )
    assert (answer.status, answer.error["param"]) == (400, "provider.only")
    assert (answer.headers["x-hodios-provider"], answer.headers["x-hodios-attempts"]) == ("none", "0")
    assert answer.error["metadata"]["excluded"] == ["one is not among provider.only", "two is not among provider.only"]
