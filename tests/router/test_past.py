from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from passing import NOON_S, add, attempt
from seating import request
from test_histogram import ROUNDING, exact

from hodios.router.histogram import MOST_ERROR, NUM_BINS, SECONDS, TOKENS_PER_SECOND
from hodios.router.history import MOST_PASTS
from hodios.router.past import (
    CAPABILITIES,
    DAY,
    HOUR_S,
    MEASURES,
    MINUTE_S,
    MOST_ENTRIES,
    NUM_HOURS,
    NUM_MINUTES,
    OUTCOMES,
    SHARES,
    SHORT_S,
    SIZES,
    Kind,
    Past,
    Tally,
    kind_of,
)
from hodios.router.versions import MOST_VERSIONS
from hodios.types import Grammar, Tool

MASKS = {"text": 0, "tools": 1, "structured": 2, "vision": 4}


class Happened(NamedTuple):
    at_s: float
    outcome: str
    wait_s: float
    speed: float
    kind: Kind
    version: str


HAPPENED = st.builds(
    Happened,
    st.one_of(st.floats(0, 600), st.floats(0, 2400), st.floats(0, 30 * HOUR_S)).map(lambda ago_s: NOON_S - ago_s),
    st.sampled_from(OUTCOMES),
    st.floats(0.002, 3000),
    st.floats(0.02, 20_000),
    st.builds(Kind, st.integers(0, len(SIZES) - 1), st.integers(0, 7)),
    st.sampled_from(["", "fp_a", "fp_b", "fp_c"]),
)
EVENTS = st.lists(HAPPENED, max_size=80).map(lambda events: sorted(events, key=lambda event: event.at_s))


def past_of(events: list[Happened]) -> Past:
    past = Past()
    for event in events:
        told = attempt(event.outcome, event.wait_s, event.speed, version=event.version)
        past.add(told, event.kind, event.at_s)
    return past


def counted(events: list[Happened]) -> dict[str, int]:
    return {outcome: sum(event.outcome == outcome for event in events) for outcome in OUTCOMES}


def told(tally: Tally) -> dict[str, int]:
    return {outcome: tally.num(outcome) for outcome in OUTCOMES}


def within(events: list[Happened], now_s: float, window_s: float, slice_s: int) -> list[Happened]:
    """Those of the slices that end with the present one; checks that they are what is promised of such a window."""
    newest = now_s // slice_s
    found = [event for event in events if event.at_s // slice_s > newest - window_s / slice_s]
    assert all(event in found for event in events if now_s - event.at_s <= window_s - slice_s)
    assert not any(event in found for event in events if now_s - event.at_s > window_s)
    return found


@given(EVENTS, st.floats(0, 1), st.sampled_from([0, 1, 59, 299, 3599, 90_000]))
def test_outcomes_are_those_of_the_window(events: list[Happened], later: float, still_later: int) -> None:
    past, now_s = past_of(events), NOON_S + later + still_later
    for num in (5, 10, 30):
        assert told(past.minutes(now_s, num)) == counted(within(events, now_s, num * MINUTE_S, MINUTE_S))
    day = within(events, now_s, DAY * HOUR_S, HOUR_S)
    assert told(past.day(now_s)) == counted(day)
    hours = list(past.hours(now_s))
    assert len(hours) == DAY
    assert hours[-1][0] <= now_s < hours[-1][0] + HOUR_S
    for begin_s, tally in hours:
        assert told(tally) == counted([event for event in day if begin_s <= event.at_s < begin_s + HOUR_S])
    assert past.totals == list(counted(events).values())


@given(EVENTS)
def test_uptime_is_what_was_not_the_providers_fault(events: list[Happened]) -> None:
    recent = within(events, NOON_S, 30 * MINUTE_S, MINUTE_S)
    num_failed = sum(event.outcome in ("failed", "broke_off") for event in recent)
    num_answered = sum(event.outcome == "answered" for event in recent)
    tally = past_of(events).minutes(NOON_S, 30)
    assert (tally.num_judged, tally.num_failed) == (num_answered + num_failed, num_failed)
    assert tally.uptime == (num_answered / (num_answered + num_failed) if num_answered + num_failed else None)


@given(EVENTS, st.sampled_from([0, 1, 299, 3599]))
@settings(max_examples=60)
def test_percentiles_are_those_of_the_window(events: list[Happened], later: int) -> None:
    past, now_s = past_of(events), NOON_S + later
    recent = within(events, now_s, 30 * MINUTE_S, SHORT_S)
    for measure in MEASURES:
        spread = past.spread(measure, now_s)
        mine = recent if measure == "latency" else [event for event in recent if event.outcome == "answered"]
        check(spread.overall, mine)
        for number, size in enumerate(SIZES):
            check(spread.by_size[size], [event for event in mine if event.kind.size == number])
        for name, mask in MASKS.items():
            with_it = [event for event in mine if (event.kind.mask & mask if mask else not event.kind.mask)]
            check(spread.by_capability[name], with_it)
        assert set(spread.by_version) == {event.version for event in recent if event.version}
        for version, found in spread.by_version.items():
            check(found, [event for event in mine if event.version == version])


def test_the_versions_that_answered_last_are_told_apart() -> None:
    past = Past()
    for number in range(7):
        add(past, NOON_S, 2, version=f"fp_{number}", wait_s=0.1 * (number + 1))
    add(past, NOON_S, version="fp_3")
    found = past.spread("latency", NOON_S).by_version
    assert {version: each.num for version, each in found.items()} == {"fp_4": 2, "fp_5": 2, "fp_6": 2, "fp_3": 3}
    assert [*found][-1] == "fp_3"
    medians = [(found[version].percentiles() or [0])[0] for version in ("fp_4", "fp_5", "fp_6")]
    assert medians == sorted(medians)
    assert past.spread("latency", NOON_S + HOUR_S).by_version == {}


def check(distribution: Any, events: list[Happened]) -> None:
    field = "wait_s" if distribution.measure == "latency" else "speed"
    samples = [getattr(event, field) for event in events]
    assert distribution.num == len(samples)
    found = distribution.percentiles()
    assert (found is None) == (not samples)
    for share, value in zip(SHARES, found or (), strict=False):
        assert abs(value / exact(samples, share) - 1) <= MOST_ERROR + ROUNDING


@given(EVENTS, st.floats(0, 40 * HOUR_S))
@settings(max_examples=60)
def test_a_restart_changes_nothing(events: list[Happened], gap_s: float) -> None:
    before, after, now_s = past_of(events), Past(), NOON_S + gap_s
    after.restore(before.save("p", "m", NOON_S), now_s)
    assert shown(after, now_s) == shown(before, now_s)
    for past in (before, after):
        add(past, now_s, wait_s=2.0)
    assert shown(after, now_s) == shown(before, now_s)
    assert after.totals == [1, 0, 0, 0, 0, 0], "a counter of the process"


def shown(past: Past, now_s: float) -> list[Any]:
    spreads = [past.spread(measure, now_s) for measure in MEASURES]
    hourly = [past.hourly(measure, now_s, DAY + 1, 0) for measure in MEASURES]
    tallies = [past.minutes(now_s, 30), past.day(now_s), past.before(now_s)]
    return [
        past.last_s,
        spreads,
        hourly,
        *map(told, tallies),
        [(at_s, told(tally)) for at_s, tally in past.hours(now_s)],
    ]


def test_what_was_saved_does_not_change_any_more() -> None:
    past = Past()
    add(past, NOON_S, 3)
    saved = past.save("p", "m", NOON_S)
    add(past, NOON_S, 5)
    assert [counts for _, counts in saved.minutes] == [{0: 3}]


def test_a_clock_that_is_set_back_loses_only_what_has_not_happened_yet() -> None:
    past = Past()
    add(past, NOON_S, 7)
    earlier_s = NOON_S - 2 * HOUR_S
    add(past, earlier_s, 2)
    assert past.minutes(earlier_s, 30).num("answered") == 2
    assert past.day(earlier_s).num("answered") == 2
    for minute in range(6 * 60):
        add(past, earlier_s + minute * 60)
    assert past.minutes(earlier_s + 359 * 60, 30).num("answered") == 30


def test_memory_is_bounded() -> None:
    """Everything there is to count, at all times that are kept."""
    past = Past()

    def fill(now_s: float, masks: int) -> None:
        for bin_, size, mask in itertools.product(range(NUM_BINS), range(len(SIZES)), range(masks)):
            wait_s, speed = SECONDS.value(bin_), TOKENS_PER_SECOND.value(bin_)
            version = f"fp_{size % MOST_VERSIONS}"
            past.add(attempt(wait_s=wait_s, speed=speed, version=version), Kind(size, mask), now_s)

    for hours_ago in range(NUM_HOURS - 1, 0, -1):
        fill(NOON_S - hours_ago * HOUR_S, 1)
        for outcome in OUTCOMES:
            add(past, NOON_S - hours_ago * HOUR_S, outcome=outcome)
    for minutes_ago in range(NUM_MINUTES, 0, -1):
        now_s = NOON_S + HOUR_S - minutes_ago * MINUTE_S
        if not minutes_ago % 5:
            fill(now_s, 8)
        for outcome in OUTCOMES:
            add(past, now_s, outcome=outcome)
    assert past.num_entries == MOST_ENTRIES


@pytest.mark.parametrize(
    ("values", "size", "names"),
    [
        ({"text": "x" * 2000}, "2k", {"text"}),
        ({"text": "x" * 2001}, "4k", {"text"}),
        ({"text": "x" * 16_000}, "16k", {"text"}),
        ({"text": "x" * 16_001}, "32k+", {"text"}),
        ({"tools": (Tool("f"),)}, "2k", {"tools"}),
        ({"tools": (Tool("f"),), "tool_choice": "none"}, "2k", {"text"}),
        ({"grammar": Grammar("json_object"), "tools": (Tool("f"),)}, "2k", {"tools", "structured"}),
        ({"images": ("data:image/png;base64,",)}, "2k", {"vision"}),
        ({"messages": None, "prompts": ("x" * 1500, "y" * 1500)}, "4k", {"text"}),
        ({"messages": None, "prompts": ((1,) * 1001,)}, "8k", {"text"}),
        (
            {"messages": ({"role": "user", "content": [{"type": "image_url"}, {"text": "x" * 5000}, "odd"]},)},
            "8k",
            {"vision"},
        ),
        ({"messages": ({"role": "assistant", "content": None},)}, "2k", {"text"}),
    ],
)
def test_what_a_request_is_counted_under(values: dict[str, Any], size: str, names: set[str]) -> None:
    past = Past()
    past.add(attempt(), kind_of(request(**values)), NOON_S)
    spread = past.spread("latency", NOON_S)
    assert {name for name in SIZES if spread.by_size[name].num} == {size}
    assert {name for name in CAPABILITIES if spread.by_capability[name].num} == names


def test_the_documentation_says_how_much_is_kept(repository: Path) -> None:
    text = (repository / "docs" / "health.md").read_text()
    assert f"at most {MOST_ENTRIES:,} counts" in text
    assert f"at most {MOST_PASTS:,} models" in text
