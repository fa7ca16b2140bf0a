from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from fake_provider import DOLLAR, MODEL, FakeProvider, Script, answer_to, card, failing, good, hanging, saying, status
from msgspec import structs
from seating import request
from virtual_time import now_s, virtually

from hodios.errors import (
    ContextLengthExceeded,
    HodiosError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ProviderError,
    TimedOut,
    UnsupportedParameter,
)
from hodios.events import Event, Finish, Noticed, Started, Stopped, Text, TokenLogprob, Usage
from hodios.gateway import Gateway
from hodios.router.router import Router
from hodios.router_settings import RouterSettings
from hodios.types import Price, Request, Route, Routing, Sampling, Tool, Warning

STARTED = Started("x", MODEL, "fp", 10)
NOTHING = (STARTED, Stopped(0, "stop"), Finish(Usage(prompt_tokens=10, completion_tokens=0)))


class Asked:
    """What became of one request."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.error: HodiosError | None = None
        self.records: list[tuple[Request, Route, Usage | None, HodiosError | None]] = []
        self.told: list[str] = []
        self.took_s = 0.0

    @property
    def route(self) -> Route:
        return self.records[-1][1]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Text))

    @property
    def attempts(self) -> list[tuple[str, str]]:
        return [(attempt.provider, attempt.outcome) for attempt in self.route.attempts]


def ask(
    providers: list[FakeProvider],
    asked: Request | None = None,
    before: Callable[[Gateway], Any] | None = None,
    **more: Any,
) -> Asked:
    """By price, so that the first one is asked first."""
    found = Asked()

    async def run() -> None:
        settings = RouterSettings(**{"policy": "price", **more})
        router = Router(
            settings, clock=now_s, rng=random.Random(0), record=lambda *record: found.records.append(record)
        )
        gateway = Gateway(providers, router)
        if before is not None:
            await before(gateway)
            found.records.clear()
        began_s = now_s()
        try:
            events = gateway.generate(asked or request(), lambda seat: found.told.append(seat.provider.name))
            async with aclosing(events):
                async for event in events:
                    found.events.append(event)
        except HodiosError as error:
            found.error = error
        found.took_s = now_s() - began_s

    virtually(run())
    return found


def line(*scripts: Script, **values: Any) -> list[FakeProvider]:
    """p0, p1, …: each dearer than the one before."""
    return [
        FakeProvider(f"p{at}", script, card=card(f"p{at}", at + 1.0, **values)) for at, script in enumerate(scripts)
    ]


def test_a_route_tells_everything() -> None:
    asked = request(routing=Routing(ignore=("p3",), sort="price"))
    found = ask(line(failing(status(500)), hanging(2.0), good(), good()), asked)
    assert found.text == answer_to(request())
    finish = found.events[-1]
    assert isinstance(finish, Finish)
    assert finish.route == found.route
    assert found.route.policy == "the lowest price first"
    assert [(each.provider, each.excluded) for each in found.route.candidates] == [
        *(("p0", ""), ("p1", ""), ("p2", "")),
        ("p3", "is named in provider.ignore"),
    ]
    assert found.route.candidates[1].price == Price(prompt=2 * DOLLAR, completion=2 * DOLLAR)
    first, second, third = found.route.attempts
    assert (first.outcome, first.status, first.error) == ("failed", 500, "p0 answered with status 500")
    assert (second.outcome, second.status, second.first_token_s) == ("failed", None, None)
    assert (second.began_s, second.ended_s) == pytest.approx((0.005, 2.005))
    assert third.outcome == "answered"
    assert (third.first_token_s, third.ended_s) == pytest.approx((2.105, 2.145))
    assert (third.prompt_tokens, third.completion_tokens, third.price.prompt) == (10, 4, 3 * DOLLAR)
    assert found.told == ["p0", "p1", "p2"]
    assert [(usage, error) for _, _, usage, error in found.records] == [(finish.usage, None)]
    assert [event for event in found.events if isinstance(event, Started)] == [Started("p2", MODEL, "fp_0", 10)]


def test_what_somebody_who_failed_had_said_is_never_shown() -> None:
    notice = Noticed(Warning("a", "b", "c"))
    for early in ((STARTED, notice), (STARTED, Text(0, ""), notice), (STARTED, Stopped(0, "stop"))):
        found = ask(line(saying(*early), good()))
        assert found.text == answer_to(request())
        assert notice not in found.events
        assert [event.provider for event in found.events if isinstance(event, Started)] == ["p1"]


def test_after_the_first_text_the_error_is_the_clients() -> None:
    found = ask(line(saying(STARTED, Text(0, "half", completion_tokens=1)), good()))
    assert isinstance(found.error, ProviderError)
    assert found.text == "half"
    assert found.attempts == [("p0", "broke_off")]
    assert found.route.attempts[0].completion_tokens == 1
    assert found.records[0][2:] == (None, found.error)


def test_logprobs_are_something_to_show() -> None:
    token = TokenLogprob(1, "", b"\xf0", -1.0)
    found = ask(line(saying(STARTED, Text(0, "", (token,))), good()), request(sampling=Sampling(logprobs=0)))
    assert found.attempts == [("p0", "broke_off")]


@pytest.mark.parametrize(
    ("scripts", "kind", "outcomes"),
    [
        ((status(500), status(502)), ProviderError, ["failed", "failed"]),
        ((status(400), status(400)), InvalidRequest, ["refused", "refused"]),
        ((status(400), status(502)), ProviderError, ["refused", "failed"]),
        ((status(502), status(400)), ProviderError, ["failed", "refused"]),
        ((status(503, 7), status(400)), Overloaded, ["overloaded", "refused"]),
        ((status(429, 9), status(503, 7)), Overloaded, ["overloaded", "overloaded"]),
        ((status(503, 7), status(500)), Overloaded, ["overloaded", "failed"]),
    ],
)
def test_what_a_client_is_told_where_nobody_answers(scripts: Any, kind: type[HodiosError], outcomes: list[str]) -> None:
    found = ask(line(*(failing(make) for make in scripts)))
    assert type(found.error) is kind
    assert [outcome for _, outcome in found.attempts] == outcomes
    assert found.error is not None
    assert found.error.metadata is not None
    told = found.error.metadata["attempts"]
    assert isinstance(told, list)
    assert [attempt["provider"] for attempt in told] == ["p0", "p1"]
    if kind is Overloaded:
        assert found.error.retry_after == 7
    assert found.records[0][3] is found.error


def test_a_prompt_too_long_for_one_is_answered_by_another() -> None:
    def too_long(name: str) -> HodiosError:
        return ContextLengthExceeded("too long", param="messages")

    found = ask(line(failing(too_long), good()))
    assert found.attempts == [("p0", "refused"), ("p1", "answered")]


def test_an_empty_answer_is_nobodys_last_word() -> None:
    assert ask(line(saying(*NOTHING), good())).attempts == [("p0", "failed"), ("p1", "answered")]
    alone = ask(line(saying(*NOTHING)))
    assert (alone.attempts, alone.error) == ([("p0", "answered")], None)
    last = ask(line(saying(*NOTHING), saying(*NOTHING)))
    assert (last.attempts, last.error) == ([("p0", "failed"), ("p1", "answered")], None)
    honest = (*NOTHING[:2], Finish(Usage(prompt_tokens=10, completion_tokens=1)))
    assert ask(line(saying(*honest), good())).attempts == [("p0", "answered")]
    scored = Request(id="c", model=MODEL, prompts=("x",), max_tokens=0, echo=True)
    assert ask(line(saying(*NOTHING), good()), scored).attempts == [("p0", "answered")]


def test_attempts_and_time_are_bounded() -> None:
    many = line(*[failing(status(500))] * 9)
    assert len(ask(many, max_attempts=4).attempts) == 4
    found = ask(line(*[hanging(1000.0)] * 9), timeout_s=16.0, max_attempts=9)
    assert isinstance(found.error, TimedOut)
    assert [round(attempt.ended_s - attempt.began_s, 3) for attempt in found.route.attempts] == [
        *(8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125, 0.062),
        0.062,
    ]
    assert found.took_s <= 16.0


def test_the_only_one_is_given_all_the_time_it_needs() -> None:
    found = ask(line(good(900.0)), timeout_s=1.0)
    assert found.text == answer_to(request())


def test_the_only_one_shows_at_once_what_it_has() -> None:
    async def run() -> tuple[Event, float]:
        events = Gateway(line(hanging(50.0, after=(STARTED,)))).generate(request())
        first = await anext(events)
        came_s = now_s()
        await events.aclose()
        return first, came_s

    assert virtually(run()) == (STARTED, 0.0)


def test_the_last_one_is_asked_however_bad_it_is() -> None:
    async def before(gateway: Gateway) -> None:
        for _ in range(20):
            events = gateway.generate(request())
            with pytest.raises(HodiosError):
                await anext(events)
        for provider in gateway._providers:
            provider.script = good()  # type: ignore[attr-defined]

    for makes in ([status(500)], [status(500)] * 2, [status(429, 600)], [status(429, 600)] * 2):
        found = ask(line(*map(failing, makes)), before=before)
        assert found.text == answer_to(request())
        assert [outcome for _, outcome in found.attempts] == ["answered"]


def test_who_has_had_too_much_is_left_alone_until_it_said() -> None:
    async def before(gateway: Gateway) -> None:
        async for _ in gateway.generate(request()):
            pass

    providers = line(failing(status(429, 5)), good())
    found = ask(providers, before=before)
    assert found.attempts == [("p1", "answered")]
    assert found.route.candidates[1].excluded == "asked to be left alone for 5 s more"

    async def later(gateway: Gateway) -> None:
        await before(gateway)
        await asyncio.sleep(5.0)

    assert ask(providers, before=later).attempts[0] == ("p0", "overloaded")


def test_nobody_left_says_why() -> None:
    routing = Routing(max_price=Price(prompt=0, completion=0))
    found = ask(line(good(), good()), request(routing=routing))
    assert isinstance(found.error, UnsupportedParameter)
    assert found.error.param == "provider.max_price"
    assert "p0 costs more than max_price; p1 costs more than max_price" in found.error.message
    assert found.records == []
    found = ask(line(good(), good()), request(routing=Routing(ignore=("p0",), only=("p0",))))
    assert found.error is not None
    assert found.error.param == "provider"


def test_who_cannot_is_passed_over_but_asked_where_nobody_can() -> None:
    tooled = request(tools=(Tool("f"),))
    providers = line(good(), good())
    providers[1].card = structs.replace(providers[1].card, features=("tools",))
    found = ask(providers, tooled)
    assert found.attempts == [("p1", "answered")]
    assert found.route.candidates[1].excluded == "cannot call tools"
    assert ask(line(good(), good()), tooled).attempts == [("p0", "answered")]
    strict = structs.replace(tooled, routing=Routing(requires_parameters=True))
    error = ask(line(good(), good()), strict).error
    assert isinstance(error, UnsupportedParameter)
    assert error.param == "tools"


def test_a_long_prompt_goes_to_who_has_room() -> None:
    providers = line(good(), good())
    providers[0].card = structs.replace(providers[0].card, context_length=1000)
    assert ask(providers, request("word " * 2000)).attempts == [("p1", "answered")]
    assert ask(providers, request("word " * 200)).attempts == [("p0", "answered")]


def served(name: str, model: str, script: Script, *aliases: str, dollars: float = 1.0) -> FakeProvider:
    return FakeProvider(name, script, card=structs.replace(card(name, dollars), id=model, aliases=aliases))


def test_fallback_models_are_asked_after_all_who_serve_the_first() -> None:
    providers = [
        served("b", "other/model", good(), "spare", dollars=0.1),
        served("a", MODEL, failing(status(500)), dollars=5.0),
        served("c", MODEL, failing(status(400)), dollars=6.0),
    ]
    found = ask(providers, request(fallback_models=("spare",)))
    assert found.attempts == [("a", "failed"), ("c", "refused"), ("b", "answered")]
    assert found.route.attempts[-1].model == "other/model"


def test_fallback_models_are_asked_where_nobody_serves_the_first() -> None:
    """Providers come and go. Whoever is missing is told; where all are, nobody is asked."""
    providers = [served("a", MODEL, good()), served("b", "other/model", failing(status(500)), "spare", dollars=0.1)]
    found = ask(providers, request(model="gone/model", fallback_models=("spare", "spar", MODEL)))
    assert found.attempts == [("b", "failed"), ("a", "answered")]
    told = [event.warning for event in found.events if isinstance(event, Noticed)]
    assert [(warning.param, warning.code) for warning in told] == [
        ("model", "model_not_found"),
        ("models[1]", "model_not_found"),
    ]
    assert "'gone/model' does not exist" in told[0].message
    error = ask(providers, request(model="gone/model", fallback_models=("spar",))).error
    assert isinstance(error, ModelNotFound)
    assert error.param == "model"


def test_a_fallback_model_comes_before_who_is_out_of_order() -> None:
    async def before(gateway: Gateway) -> None:
        for _ in range(6):
            async for _ in gateway.generate(request(fallback_models=("spare",))):
                pass

    providers = [served("a", MODEL, failing(status(500))), served("b", "other/model", good(), "spare")]
    assert ask(providers, request(fallback_models=("spare",)), before=before).attempts == [("b", "answered")]


def test_names_and_variants() -> None:
    providers = [
        served("a", MODEL, good(), "small", dollars=3.0),
        served("b", MODEL, good(), dollars=0.0),
        served("c", "c/other-name", good(), "small", dollars=2.0),
    ]

    def asked(model: str) -> list[str]:
        return [each.provider for each in ask(providers, request(model=model)).route.candidates if not each.excluded]

    assert asked(MODEL) == ["b", "a"]
    assert asked("SMALL") == ["b", "c", "a"], "b has the id of what a calls small"
    assert asked("a/small") == asked(f"A/{MODEL}") == ["a"]
    assert asked("small:free") == ["b"]
    assert ask(providers, request(model="small:floor")).route.policy == "the lowest price first"
    assert ask(providers, request(model="small:nitro")).route.policy == "the highest throughput first"


class Broken(FakeProvider):
    """With a mistake of ours in it."""

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        raise KeyError("oops")
        yield


def test_our_own_mistakes_are_not_hidden() -> None:
    records: list[Any] = []
    router = Router(clock=lambda: 0.0, record=lambda *record: records.append(record))
    gateway = Gateway([Broken("a", good()), FakeProvider("b", good())], router)

    async def run() -> None:
        for _ in range(3):
            with pytest.raises(KeyError):
                async for _ in gateway.generate(request(routing=Routing(order=("a",)))):
                    pass

    virtually(run())
    assert [[attempt.outcome for attempt in record[1].attempts] for record in records] == [["failed"]] * 3
    assert all(track.load.num_in_flight == 0 for track in router.tracks.all().values())


def replicas(num: int, script: Script | None = None) -> list[FakeProvider]:
    return [FakeProvider(f"r{at}", script or good(), card=card(f"r{at}", 1.0, is_replica=True)) for at in range(num)]


def test_a_conversation_stays_with_its_replica_and_moves_when_that_fails() -> None:
    said = "a long conversation about everything " * 100

    async def before(gateway: Gateway) -> None:
        async for _ in gateway.generate(request(said)):
            pass

    for seed in range(3):
        providers = replicas(4)
        found = ask(providers, request(said + f" and then {seed} more"), before=before)
        [first] = [provider for provider in providers if provider.asked[:1] == [(0.0, "chat-1")] and provider.asked]
        assert found.attempts == [(first.name, "answered")]
        assert found.route.policy.startswith("the replica that has the prefix")
        first.script = failing(status(500))
        moved = ask(providers, request(said), before=before)
        assert moved.attempts[-1][1] == "answered"
        assert moved.attempts[-1][0] != first.name


def test_replicas_are_one_among_others_and_their_own_fallbacks() -> None:
    cheap = FakeProvider("cheap", failing(status(500)), 0.5)
    found = ask([*replicas(3, failing(status(502))), cheap, FakeProvider("dear", good(), 9.0)])
    assert found.attempts[0] == ("cheap", "failed")
    assert sorted(provider for provider, _ in found.attempts[1:4]) == ["r0", "r1", "r2"]
    assert found.attempts[4] == ("dear", "answered")
    named = ask([*replicas(3), cheap], request(routing=Routing(order=("r2", "r0"))))
    assert named.attempts == [("r2", "answered")]
