"""Who pays is asked before each attempt and told of each once; what nobody pays for is not asked, or ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from fake_provider import MODEL, FakeProvider, answer_to, failing, good, hanging, saying, status
from seating import request
from test_router import Asked, line
from virtual_time import now_s, virtually

from hodios.errors import HodiosError, InsufficientQuota, Overloaded
from hodios.events import Event, Finish, Noticed, Started, Stopped, Text, Usage
from hodios.gateway import Seat
from hodios.router.router import Router
from hodios.router.seat import Group
from hodios.router_settings import RouterSettings
from hodios.types import Attempt, ModelCard, Request, Routing


class Purse:
    """Pays for all but those in `refuses`, as long as no more than `most` tokens are generated, and for `later` more of
    them each time that it was waited for."""

    def __init__(self, refuses: dict[str, HodiosError] | None = None, most: int = 10**9, later: int = 0) -> None:
        self.refuses = refuses or {}
        self.most = most
        self.later = later
        self.held: dict[int, str] = {}
        self.counted: dict[int, int | None] = {}
        self.progressed: list[tuple[int, int]] = []
        self.whole: list[tuple[int, int]] = []
        """Of answers that came at once, as `progressed`."""
        self.settled: dict[int, Attempt] = {}

    async def reserve(
        self, number: int, card: ModelCard, request: Request, num_prompt_tokens: int | None = None
    ) -> None:
        if card.provider in self.refuses:
            raise self.refuses[card.provider]
        assert number not in self.held, "an attempt is reserved once"
        self.held[number] = card.provider
        self.counted[number] = num_prompt_tokens

    def progress(self, number: int, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> bool:
        assert number in self.held
        assert number not in self.settled
        self.progressed.append((number, completion_tokens))
        return completion_tokens < self.most

    def came(self, number: int, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> None:
        assert number in self.held
        assert number not in self.settled
        self.whole.append((number, completion_tokens))

    async def more(self, number: int) -> bool:
        assert self.progressed[-1][1] >= self.most, "there was enough"
        await asyncio.sleep(0.01)
        self.most += self.later
        return self.later > 0

    def settle(self, number: int, attempt: Attempt) -> None:
        assert number not in self.settled, "an attempt is settled once"
        self.settled[number] = attempt


def ask(
    providers: list[FakeProvider],
    purse: Purse,
    asked: Request | None = None,
    before: Callable[[], None] | None = None,
    **settings: Any,
) -> Asked:
    """`before` is called after thirty others have asked."""
    found = Asked()
    asked = asked or request()

    async def run() -> None:
        router = Router(
            RouterSettings(**{"policy": "price", **settings}),
            clock=now_s,
            record=lambda *record: found.records.append(record),
        )
        seats = tuple(Seat(provider, card) for provider in providers for card in provider.models())
        groups = [Group(seats, Routing())]
        for _ in range(30 if before else 0):
            async with aclosing(router.generate(asked, groups, lambda seat: None)) as events:
                async for _event in events:
                    pass
        if before is not None:
            before()
        try:
            events = router.generate(asked, groups, lambda seat: found.told.append(seat.provider.name), purse)
            async with aclosing(events):
                async for event in events:
                    found.events.append(event)
        except HodiosError as error:
            found.error = error
        for provider in providers:
            track = router.tracks.of(Seat(provider, provider.models()[0]))
            assert track.load.num_in_flight == 0

    virtually(run())
    return found


def test_each_attempt_is_reserved_and_settled_under_its_number() -> None:
    purse = Purse()
    found = ask(line(failing(status(500)), hanging(2.0), good()), purse)
    assert found.text == answer_to(request())
    assert purse.held == {1: "p0", 2: "p1", 3: "p2"}
    assert {number: attempt.provider for number, attempt in purse.settled.items()} == purse.held
    assert [attempt.outcome for _, attempt in sorted(purse.settled.items())] == ["failed", "failed", "answered"]
    assert purse.settled[3].completion_tokens == purse.progressed[-1][1]


class Counting(FakeProvider):
    """Has the tokenizer."""

    async def read(self, asked: Request) -> Reading:
        await asyncio.sleep(0.01)
        return Reading(self, asked)


class Reading:
    num_prompt_tokens = 10

    def __init__(self, provider: FakeProvider, asked: Request) -> None:
        self._provider = provider
        self._asked = asked

    def answer(self) -> AsyncGenerator[Event, None]:
        return self._provider.generate(self._asked)


def test_who_can_count_does_before_anything_is_reserved() -> None:
    purse = Purse()
    counting = Counting("p0", good(), 1.0)
    found = ask([counting], purse)
    assert found.text == answer_to(request())
    assert purse.counted == {1: 10}
    assert len(counting.asked) == 1
    assert purse.settled[1].prompt_tokens == 10
    other = Purse()
    assert ask(line(good()), other).text == answer_to(request())
    assert other.counted == {1: None}


@pytest.mark.parametrize("error", [InsufficientQuota("spent"), Overloaded("nobody knows", retry_after=5)])
def test_who_is_too_dear_is_passed_over_and_not_to_blame(error: HodiosError) -> None:
    purse = Purse({"p0": error})
    providers = line(good(), good())
    found = ask(providers, purse)
    assert found.text == answer_to(request())
    assert found.attempts == [("p0", "refused"), ("p1", "answered")]
    assert providers[0].asked == []
    assert set(purse.settled) == {1, 2}


def test_where_nobody_is_paid_the_client_is_told() -> None:
    purse = Purse({"p0": InsufficientQuota("spent"), "p1": InsufficientQuota("spent")})
    found = ask(line(good(), good()), purse)
    assert isinstance(found.error, InsufficientQuota)
    assert purse.held == {}


def test_an_answer_ends_where_nothing_is_left_and_says_so() -> None:
    purse = Purse(most=2)
    providers = line(good())
    found = ask(providers, purse)
    assert answer_to(request()).startswith(found.text)
    assert found.text != answer_to(request())
    assert [event.finish_reason for event in found.events if isinstance(event, Stopped)] == ["length"]
    assert [event.warning.code for event in found.events if isinstance(event, Noticed)] == ["budget_spent"]
    finish = found.events[-1]
    assert isinstance(finish, Finish)
    assert finish.usage.completion_tokens == purse.settled[1].completion_tokens == purse.progressed[-1][1]
    assert purse.settled[1].outcome == "answered"


def test_an_answer_goes_on_for_which_more_is_had_later() -> None:
    purse = Purse(most=2, later=1)
    found = ask(line(good()), purse)
    assert found.text == answer_to(request())
    assert not any(isinstance(event, Noticed) for event in found.events)
    assert purse.most > 4


def test_the_last_token_that_is_paid_may_be_the_answers_last() -> None:
    purse = Purse(most=5)
    found = ask(line(good(num_pieces=4)), purse)
    assert found.text == answer_to(request())
    assert not any(isinstance(event, Noticed) for event in found.events)


def test_what_was_thrown_away_is_settled_as_nothing() -> None:
    """An answer that nobody streamed is begun anew."""
    purse = Purse()
    half = saying(Started("p0", MODEL, "fp", 10), Text(0, "half of an", completion_tokens=3))
    found = ask(line(half, good()), purse, request(is_shown_whole=True))
    assert found.text.endswith(answer_to(request()))
    assert purse.settled[1].first_token_s is None
    assert purse.settled[2].first_token_s is not None


def test_a_second_one_who_was_asked_for_nothing_is_settled_too() -> None:
    purse = Purse()
    providers = line(good(wait_s=0.1), good())

    def slow_down() -> None:
        providers[0].script = good(wait_s=3.0)

    found = ask(providers, purse, before=slow_down, hedge_share=1.0)
    assert found.text == answer_to(request())
    assert purse.held == {1: "p0", 2: "p1"}
    assert [purse.settled[number].outcome for number in (1, 2)] == ["cancelled", "answered"]
    assert purse.settled[1].first_token_s is None


def test_an_answer_that_is_there_already_is_told_whole_and_not_cut_short() -> None:
    """It costs what it costs: who has paid for it gets its end too."""
    started = Started("p0", MODEL, "fp", 10, is_whole=True)
    usage = Usage(prompt_tokens=10, completion_tokens=9)
    answer = (started, Text(0, "all of it", completion_tokens=9), Stopped(0, "stop"), Finish(usage))
    purse = Purse(most=5)
    found = ask(line(saying(*answer)), purse)
    assert found.error is None
    assert found.text == "all of it"
    assert (purse.whole, purse.progressed) == ([(1, 9)], [])
    assert purse.settled[1].completion_tokens == 9
    assert [event for event in found.events if isinstance(event, Stopped)] == [Stopped(0, "stop")]
