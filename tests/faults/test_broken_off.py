"""Answers that break off where nobody can go on with them, or not for ever: what the client is told, and what is begun
anew for clients that have seen nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest
from fake_provider import DOLLAR, MODEL, FakeProvider, Script, card
from virtual_time import now_s, virtually

from hodios.errors import HodiosError, InvalidRequest, ProviderError
from hodios.events import Event, Finish, Noticed, Started, Stopped, Text, Usage
from hodios.gateway import Gateway
from hodios.money import cost_of
from hodios.router.router import Router
from hodios.router_settings import RouterSettings
from hodios.types import Request, Route, Sampling

ANSWER = "the whole answer"


def saying(num_characters: int | None = None, wait_s: float = 0.0, error: type[HodiosError] = ProviderError) -> Script:
    """All that is left of the answer, or so many characters of it and then a break."""

    async def script(provider: FakeProvider, request: Request) -> AsyncGenerator[Event, None]:
        begun = request.beginning.text if request.beginning else ""
        rest = ANSWER[len(begun) :][:num_characters]
        num_choices = request.n * len(request.prompts or ("",))
        yield Started(provider.name, MODEL, "fp", 10)
        for number, character in enumerate(rest, start=1):
            for index in range(num_choices):
                yield Text(index, character, completion_tokens=number)
            await asyncio.sleep(wait_s / len(rest))
        if num_characters is not None:
            raise error(f"{provider.name} broke off")
        for index in range(num_choices):
            yield Stopped(index, "stop")
        yield Finish(Usage(prompt_tokens=10, completion_tokens=len(rest) * num_choices))

    return script


@dataclass
class Heard:
    events: list[Event] = field(default_factory=list)
    error: HodiosError | None = None
    routes: list[Route] = field(default_factory=list)

    @property
    def last(self) -> list[Event]:
        """From the last start on: what counts for a client that sees the answer whole."""
        starts = [place for place, event in enumerate(self.events) if isinstance(event, Started)]
        return self.events[starts[-1] :]

    @property
    def attempts(self) -> list[tuple[str, str]]:
        (route,) = self.routes
        return [(attempt.provider, attempt.outcome) for attempt in route.attempts]


def text_of(events: list[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Text) and event.index == index)


def codes_of(events: list[Event]) -> list[str]:
    return [event.warning.code for event in events if isinstance(event, Noticed)]


def ask(scripts: list[Script], *, closed: Sequence[int] = (), **fields: Any) -> Heard:
    """Providers of one model, each dearer than the one before, that can go on with each other's answers but for those
    that are `closed`."""
    heard = Heard()
    said: dict[str, Any] = {} if "prompts" in fields else {"messages": ({"role": "user", "content": "Hello!"},)}
    cards = [card(f"p{at}", at + 1.0, continues=at not in closed) for at in range(len(scripts))]
    providers = [FakeProvider(each.provider, script, card=each) for each, script in zip(cards, scripts, strict=True)]

    async def run() -> None:
        router = Router(
            RouterSettings(policy="price"), clock=now_s, record=lambda asked, route, *_: heard.routes.append(route)
        )
        events = Gateway(providers, router).generate(Request(**{"id": "chat-1", "model": MODEL, **said, **fields}))
        try:
            async with aclosing(events):
                async for event in events:
                    heard.events.append(event)
        except HodiosError as error:
            heard.error = error
        assert not any(provider.num_open for provider in providers)

    virtually(run())
    return heard


IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "two choices": {"n": 2},
    "the best of two": {"prompts": ("x",), "best_of": 2},
    "two prompts": {"prompts": ("x", "y")},
    "log-probabilities": {"sampling": Sampling(logprobs=0)},
    "nobody who goes on": {"closed": (1, 2)},
}


@pytest.mark.parametrize("why", IMPOSSIBLE)
def test_what_nobody_can_go_on_with_ends_in_an_error(why: str) -> None:
    heard = ask([saying(5), saying()], **IMPOSSIBLE[why])
    assert isinstance(heard.error, ProviderError)
    assert heard.error.message == "p0 broke off"
    assert text_of(heard.events) == ANSWER[:5]
    assert heard.attempts == [("p0", "broke_off")]


@pytest.mark.parametrize("why", IMPOSSIBLE)
def test_it_is_begun_anew_for_whoever_has_seen_nothing(why: str) -> None:
    heard = ask([saying(5), saying(7), saying()], is_shown_whole=True, **IMPOSSIBLE[why])
    assert heard.error is None
    finish = heard.events[-1]
    assert isinstance(finish, Finish)
    indices = {event.index for event in heard.last if isinstance(event, Text)}
    assert {text_of(heard.last, index) for index in indices} == {ANSWER}
    assert codes_of(heard.last) == []
    assert finish.usage == Usage(prompt_tokens=10, completion_tokens=len(ANSWER) * len(indices))
    assert heard.attempts == [("p0", "failed"), ("p1", "failed"), ("p2", "answered")]
    # Nobody pays for what nobody has.
    assert cost_of(heard.routes[0].attempts) == round((10 + len(ANSWER) * len(indices)) * 3 * DOLLAR / 10**6)


@pytest.mark.parametrize("is_shown_whole", [False, True])
def test_somebody_goes_on_twice_and_no_more(is_shown_whole: bool) -> None:
    heard = ask([saying(2), saying(2), saying(2), saying()], is_shown_whole=is_shown_whole)
    broken = [("p0", "broke_off"), ("p1", "broke_off"), ("p2", "broke_off")]
    if is_shown_whole:
        assert (heard.error, text_of(heard.last), codes_of(heard.last)) == (None, ANSWER, [])
        assert heard.attempts == [*((name, "failed") for name, _ in broken), ("p3", "answered")]
    else:
        assert heard.error is not None
        assert (heard.error.message, text_of(heard.events)) == ("p2 broke off", ANSWER[:6])
        assert codes_of(heard.events) == ["continued", "continued"]
        assert heard.attempts == broken


def test_an_answer_that_is_shown_whole_is_gone_on_with_too() -> None:
    heard = ask([saying(5), saying()], is_shown_whole=True)
    assert (heard.error, text_of(heard.last), codes_of(heard.last)) == (None, ANSWER, ["continued"])
    assert heard.attempts == [("p0", "broke_off"), ("p1", "answered")]


def test_whoever_goes_on_is_asked_out_of_turn() -> None:
    heard = ask([saying(5), saying(), saying(5)], is_shown_whole=True, closed=(1,))
    assert (heard.error, text_of(heard.last)) == (None, ANSWER)
    assert heard.attempts == [("p0", "failed"), ("p2", "failed"), ("p1", "answered")]


def test_nobody_is_left_to_begin_anew() -> None:
    heard = ask([saying(5), saying(5)], is_shown_whole=True, n=2)
    assert heard.error is not None
    assert heard.error.message == "p1 broke off"
    assert [each["provider"] for each in (heard.error.metadata or {})["attempts"]] == ["p0", "p1"]


def test_a_long_answer_may_begin_anew_too() -> None:
    heard = ask([saying(5, wait_s=1000.0), saying(wait_s=1000.0)], is_shown_whole=True, n=2)
    assert (heard.error, text_of(heard.last)) == (None, ANSWER)


def test_nobody_is_blamed_for_what_the_client_did() -> None:
    heard = ask([saying(5, error=InvalidRequest), saying()])
    assert isinstance(heard.error, InvalidRequest)
    assert heard.attempts == [("p0", "refused")]


def test_an_answer_that_is_as_long_as_it_may_be_needs_nobody() -> None:
    heard = ask([saying(5), saying()], max_tokens=5)
    assert (heard.error, text_of(heard.events)) == (None, ANSWER[:5])
    assert [event for event in heard.events if isinstance(event, Stopped)] == [Stopped(0, "length")]
    assert heard.attempts == [("p0", "broke_off")]
    finish = heard.events[-1]
    assert isinstance(finish, Finish)
    assert finish.usage == Usage(prompt_tokens=10, completion_tokens=5)
