"""Everything is written down once, and the sums are those of what is written down."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from store_entries import DAY, NOON_S, PROJECT, TOTAL, attempt, request

from hodios.store import sums
from hodios.store.database import Database
from hodios.store.leases import Leases
from hodios.store.ledger import MOST_CHARACTERS, MOST_COST, MOST_TOKENS, Ledger
from hodios.store.records import Balance, LoggedRequest, SettledAttempt
from hodios.store.reports import Chosen, Reports, Spend, Wanted
from hodios.store.schema import LATENCY_BOUNDS_S, attempts, requests

DAY_S = 86400
ALWAYS = Chosen(since_s=0, until_s=2 * NOON_S)


async def test_an_attempt_is_settled_once_however_often_it_is_told(database: Database) -> None:
    leases, ledger = Leases(database), Ledger(database)
    first, second = attempt("r1", 0), attempt("r1", 1, cost=7, accounts=(TOTAL,))
    assert await ledger.settle("a", [first]) == [("r1", 0)]
    assert await ledger.settle("a", [second, first, second, attempt("r1", 1, cost=8)]) == [("r1", 1)]
    assert await ledger.settle("b", [first, second]) == []
    assert await leases.balances([TOTAL, DAY, PROJECT]) == {
        TOTAL: Balance(107, 0),
        DAY: Balance(100, 0),
        PROJECT: Balance(100, 0),
    }
    assert [found.cost for found in await Reports(database).attempts_of("r1")] == [100, 7]


async def test_what_was_written_is_read_back(database: Database) -> None:
    told = attempt(user="ann", cost=None, outcome="failed", is_estimated=True, at_s=NOON_S + 0.123456, accounts=())
    logged = request(user="ann", route=b'{"policy":"price"}', first_token_s=None, provider=None, cost=None)
    await Ledger(database).settle("a", [told], [logged])
    reports = Reports(database)
    assert await reports.attempts_of("r1") == [told]
    assert await reports.request("r1") == logged
    assert await reports.request("chat-r1") == logged
    assert await reports.request("r2") is None


async def test_free_and_unpriced_attempts_cost_nothing(database: Database) -> None:
    await Ledger(database).settle("a", [attempt("r1", cost=0), attempt("r2", cost=None)])
    assert await Leases(database).balances([TOTAL]) == {TOTAL: Balance(0, 0)}
    (total,) = await Reports(database).spend([], ALWAYS)
    assert (total.num_attempts, total.num_unpriced, total.cost, total.prompt_tokens) == (2, 1, 0, 20)


async def test_an_account_named_twice_is_charged_once(database: Database) -> None:
    await Ledger(database).settle("a", [attempt(accounts=(TOTAL, TOTAL))])
    assert await Leases(database).balances([TOTAL]) == {TOTAL: Balance(100, 0)}


async def test_no_entry_can_hold_up_the_others(database: Database) -> None:
    bad = attempt("r\0", user="\ud800" + "x" * 5000, prompt_tokens=10**30, completion_tokens=-1, cost=10**40)
    logged = request("q\0", wanted_model="m\0", cost=-5, error_code="\udfff")
    assert set(await Ledger(database).settle("a", [bad, attempt("r2")], [logged])) == {("r2", 0), ("r\ufffd", 0)}
    (kept,) = await Reports(database).attempts_of("r\ufffd")
    assert kept.user is not None
    assert (len(kept.user), kept.user[:2]) == (MOST_CHARACTERS, "?x")
    assert (kept.prompt_tokens, kept.completion_tokens, kept.cost) == (MOST_TOKENS, 0, MOST_COST)
    assert await Ledger(database).settle("a", [bad], [logged]) == []


async def test_a_batch_is_written_whole_or_not_at_all(database: Database) -> None:
    ledger = Ledger(database)
    impossible = request("r1", status=2**40) if not database.is_sqlite else request("r1", status=None)
    with pytest.raises(Exception, match=r"range|NOT NULL"):
        await ledger.settle("a", [attempt("r1")], [impossible])
    assert await Leases(database).balances([TOTAL]) == {TOTAL: Balance(0, 0)}
    assert await Reports(database).attempts_of("r1") == []
    assert await Reports(database).spend([], ALWAYS) == []


async def test_nothing_is_a_batch(database: Database) -> None:
    assert await Ledger(database).settle("a", []) == []


_names = itertools.count()
attempt_lists = st.lists(
    st.builds(
        attempt,
        st.sampled_from(["r1", "r2", "r3", "r4"]),
        st.integers(0, 1),
        cost=st.none() | st.integers(0, 10**9),
        outcome=st.sampled_from(["answered", "cancelled", "failed", "broke_off"]),
        model=st.sampled_from(["m1", "m2"]),
        user=st.sampled_from([None, "ann", "bob"]),
        at_s=st.sampled_from([NOON_S, NOON_S + 3599.9, NOON_S + 3600, NOON_S + DAY_S]),
    ),
    max_size=6,
)
request_lists = st.lists(
    st.builds(
        request,
        st.sampled_from(["r1", "r2", "r3", "r4"]),
        error_code=st.sampled_from([None, "overloaded"]),
        finish_reason=st.sampled_from(["stop", "content_filter", None]),
        latency_s=st.floats(0, 100),
        model=st.sampled_from(["m1", "m2", None]),
        user=st.sampled_from([None, "ann", "bob"]),
        at_s=st.sampled_from([NOON_S, NOON_S + DAY_S]),
    ),
    max_size=4,
)


def summed(
    group: tuple[Any, ...], told: Sequence[SettledAttempt], logged: Sequence[LoggedRequest], apart: Sequence[str]
) -> Spend:
    """Counted by hand; `apart`: what has rows of its own in each hour."""
    rows = Counter((sums.hour_of(entry.at_s), *(getattr(entry, name) for name in apart)) for entry in logged)
    slots = [0] * (len(LATENCY_BOUNDS_S) + 1)
    for entry in logged:
        slots[sum(entry.latency_s > bound_s for bound_s in LATENCY_BOUNDS_S)] += 1
    return Spend(
        group=group,
        num_attempts=len(told),
        num_failed_attempts=sum(entry.outcome in ("failed", "broke_off") for entry in told),
        num_unpriced=sum(entry.cost is None for entry in told),
        prompt_tokens=10 * len(told),
        cached_tokens=4 * len(told),
        completion_tokens=20 * len(told),
        cost=sum(entry.cost or 0 for entry in told),
        num_requests=len(logged),
        num_errors=sum(entry.error_code is not None for entry in logged),
        num_first_tokens=len(logged),
        latency_ms=sum(round(entry.latency_s * 1000) for entry in logged),
        first_token_ms=200 * len(logged),
        num_filtered=sum(entry.finish_reason == "content_filter" for entry in logged),
        latency_slots=tuple(slots),
        most_requests=max(rows.values(), default=0),
    )


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(batches=st.lists(st.tuples(attempt_lists, request_lists), max_size=4))
async def test_sums_are_those_of_what_was_written(
    database: Database, batches: list[tuple[list[SettledAttempt], list[LoggedRequest]]]
) -> None:
    key_id = f"key-{next(_names)}"
    told: dict[tuple[str, int], SettledAttempt] = {}
    logged: dict[str, LoggedRequest] = {}
    for some, others in batches:
        own = [replaced(entry, key_id) for entry in some]
        asked = [replaced(entry, key_id) for entry in others]
        for entry in own:
            told.setdefault((entry.request_id, entry.number), entry)
        for entry in asked:
            logged.setdefault(entry.request_id, entry)
        await Ledger(database).settle("a", own, asked)
    reports, chosen = Reports(database), Chosen(since_s=0, until_s=2 * NOON_S, key_id=key_id)
    for by, group_of in (
        ("model", lambda entry: entry.model),
        ("user", lambda entry: entry.user),
        ("day", lambda entry: int(entry.at_s // DAY_S) * DAY_S),
        ("hour", lambda entry: sums.hour_of(entry.at_s)),
    ):
        found = {spend.group: spend for spend in await reports.spend([by], chosen)}  # type: ignore[list-item]
        groups = {group_of(entry) for entry in (*told.values(), *logged.values())}  # type: ignore[no-untyped-call]
        assert found == {
            (group,): summed(
                (group,),
                [entry for entry in told.values() if group_of(entry) == group],  # type: ignore[no-untyped-call]
                [entry for entry in logged.values() if group_of(entry) == group],  # type: ignore[no-untyped-call]
                ("user",) if by == "user" else ("model",),
            )
            for group in groups
        }


def replaced(entry: Any, key_id: str) -> Any:
    """The entry as one of this example's alone."""
    changes = {"request_id": f"{key_id}-{entry.request_id}", "key_id": key_id}
    return type(entry)(**{name: getattr(entry, name) for name in entry.__struct_fields__} | changes)


async def test_an_export_has_every_row_once(database: Database) -> None:
    told = [attempt(f"r{number:04}", at_s=NOON_S + number % 7) for number in range(2100)]
    logged = [request(f"r{number:04}", at_s=NOON_S + number % 7) for number in range(2100)]
    await Ledger(database).settle("a", told, logged)
    reports = Reports(database)
    exported = [entry.request_id async for entry in reports.all_attempts(Wanted())]
    assert exported == [entry.request_id for entry in sorted(told, key=lambda entry: (entry.at_s, entry.request_id))]
    assert [entry.request_id async for entry in reports.all_requests(Wanted())] == exported[::-1]
    counts = [select(func.count()).select_from(table) for table in (attempts, requests)]
    assert [await database.read(lambda c, query=query: c.scalar(query)) for query in counts] == [2100, 2100]
