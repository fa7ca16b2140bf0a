"""Values outside of what a server accepts: where they are moved to, what is told, and what is done here."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_upstream import Reply, ScriptedUpstream, ask, chat, chunk, completion, piece, said, stream, text_of, usage

from hodios.events import Event, Noticed
from hodios.providers.ranges import fitted, refusal
from hodios.remotes import STANDARD_PARAMETERS
from hodios.types import Range, Sampling

Provide = Callable[..., Any]
ALL = (*STANDARD_PARAMETERS, "top_k", "stop_token_ids", "best_of")


def between(low: str | None = None, high: str | None = None, **more: Any) -> Range:
    return Range(min=None if low is None else Decimal(low), max=None if high is None else Decimal(high), **more)


def strict(**ranges: Range) -> dict[str, Any]:
    return {"parameters": ALL, "ranges": ranges}


def told(events: list[Event]) -> list[tuple[str, str, str]]:
    warnings = [event.warning for event in events if isinstance(event, Noticed)]
    return [(warning.param, warning.code, warning.message) for warning in warnings]


@pytest.mark.parametrize(
    ("value", "accepted", "nearest", "reason"),
    [
        (0.5, between("0", "1"), 0.5, ""),
        (1.5, between("0", "1"), 1.0, "accepts x from 0 to 1, not 1.5"),
        (-1.0, between("-0.5"), -0.5, "accepts x from -0.5, not -1"),
        (0.1, between("0.1"), 0.1, ""),
        (0.0, between("0", "1", is_above_min=True), None, "accepts x above 0 up to 1, not 0"),
        (0, between("0", "9", is_above_min=True), 1, "accepts x above 0 up to 9, not 0"),
        (2**64 - 1, between(None, str(2**63 - 1)), 2**63 - 1, f"accepts x up to {2**63 - 1}, not {2**64 - 1}"),
        (True, between("2"), True, ""),
        ([1, 2, 3], Range(max_items=2), [1, 2], "accepts x with at most 2 entries, not 3"),
        ({"1": -9.0, "2": 1.0}, between("-5", "5"), {"1": -5.0, "2": 1.0}, "accepts x from -5 to 5, not -9"),
        ({"1": 0.0}, between("0", is_above_min=True), None, "accepts x above 0, not 0"),
        ({"1": 1, "2": 2}, Range(max_items=1), {"1": 1}, "accepts x with at most 1 entries, not 2"),
        ("text", between("1"), "text", ""),
    ],
)
def test_the_nearest_value(value: Any, accepted: Range, nearest: Any, reason: str) -> None:
    assert fitted(value, accepted) == nearest
    assert refusal("x", value, accepted) == reason


_BOUNDS = st.none() | st.decimals(-100, 100, places=2)


@given(st.floats(-200, 200), _BOUNDS, _BOUNDS, st.booleans())
def test_what_is_sent_is_accepted(value: float, low: Decimal | None, high: Decimal | None, is_above_min: bool) -> None:
    if low is not None and high is not None and low >= high:
        low, high = None, low
    accepted = Range(min=low, max=high, is_above_min=is_above_min)
    sent = fitted(value, accepted)
    if sent is None:
        assert is_above_min
        assert low is not None
        assert Decimal(str(value)) <= low
    else:
        assert refusal("x", sent, accepted) == ""
        assert fitted(sent, accepted) == sent
    assert (sent == value) == (refusal("x", value, accepted) == "")


async def test_a_value_is_moved_and_told(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [said("Hello")]
    gateway = await provide(strict(temperature=between("0", "1"), max_tokens=between("1", "100"), top_k=between("0")))
    events = await ask(gateway, chat(sampling=Sampling(temperature=1.5, top_k=7), max_tokens=500))
    body = upstream.bodies[0]
    assert (body["temperature"], body["max_tokens"], body["top_k"]) == (1.0, 100, 7)
    assert told(events) == [
        ("temperature", "moved_value", "temperature was sent as 1: acme accepts temperature from 0 to 1, not 1.5"),
        ("max_tokens", "moved_value", "max_tokens was sent as 100: acme accepts max_tokens from 1 to 100, not 500"),
    ]


async def test_a_fraction_that_is_itself_refused_is_left_out(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [said("Hello")]
    gateway = await provide(strict(presence_penalty=between("0", "1", is_above_min=True)))
    events = await ask(gateway, chat(sampling=Sampling(presence_penalty=-1.0)))
    assert "presence_penalty" not in upstream.bodies[0]
    (warning,) = told(events)
    assert warning[2] == "presence_penalty was left out: acme accepts presence_penalty above 0 up to 1, not -1"


async def test_what_nobody_asked_for_is_moved_in_silence(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.script = lambda asked: said("Hello")
    gateway = await provide(strict(temperature=between("0", "0.9")), max_output_tokens=4000)
    assert told(await ask(gateway, chat())) == []
    assert upstream.bodies[0]["temperature"] == 0.9
    (warning,) = told(await ask(gateway, chat(given=frozenset({"temperature"}))))
    assert warning[2] == "temperature was sent as 0.9: acme accepts temperature from 0 to 0.9, not 1"


async def test_lists_and_tables_lose_what_is_too_much(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.replies = [said("Hello")]
    gateway = await provide(strict(stop_token_ids=Range(max_items=2), logit_bias=between("-50", "50")))
    sampling = Sampling(stop_token_ids=(4, 5, 6), logit_bias=((1, -100.0), (2, 3.0)))
    events = await ask(gateway, chat(sampling=sampling))
    assert upstream.bodies[0]["stop_token_ids"] == [4, 5]
    assert upstream.bodies[0]["logit_bias"] == {"1": -50.0, "2": 3.0}
    assert [message.partition(":")[0] for _, _, message in told(events)] == [
        "stop_token_ids was sent in part",
        "logit_bias was sent with other values",
    ]


@pytest.mark.parametrize(("most", "is_sent"), [(2, False), (3, True)])
async def test_stop_strings_that_are_too_many_are_looked_for_here(
    upstream: ScriptedUpstream, provide: Provide, most: int, is_sent: bool
) -> None:
    upstream.replies = [said("one two three four five")]
    events = await ask(await provide(strict(stop=Range(max_items=most))), chat(stop=("x", "y", " thr")))
    assert ("stop" in upstream.bodies[0]) == is_sent
    assert told(events) == ([] if is_sent else [("usage", "estimated_usage", told(events)[0][2])])
    assert text_of(events) == ("one two three four five" if is_sent else "one two")


async def test_choices_that_are_too_many_become_several_requests(upstream: ScriptedUpstream, provide: Provide) -> None:
    def answer(asked: Any) -> Reply:
        n, seed = asked.body.get("n", 1), asked.body["seed"]
        return stream(*(chunk(index, "stop", content=f"{seed + index}") for index in range(n)), usage())

    upstream.script = answer
    events = await ask(await provide(strict(n=between("1", "2"))), chat(n=5, sampling=Sampling(seed=10)))
    assert sorted(body.get("n", 1) for body in upstream.bodies) == [1, 2, 2]
    assert [text_of(events, index) for index in range(5)] == ["10", "11", "12", "13", "14"]
    assert told(events) == []


async def test_each_request_chooses_among_its_own(upstream: ScriptedUpstream, provide: Provide) -> None:
    upstream.script = lambda asked: stream(*(piece("x", index, "stop") for index in range(2)), usage())
    await ask(await provide(strict(n=between("1", "2"))), completion(n=4, best_of=4))
    assert [(body["n"], body.get("best_of")) for body in upstream.bodies] == [(2, None), (2, None)]
