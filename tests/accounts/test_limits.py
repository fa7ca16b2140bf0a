from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.accounts.gcra import MINUTE_NS
from hodios.accounts.limits import (
    LocalLimiter,
    Permit,
    RateState,
    RateTable,
    Refusal,
    Scope,
    Window,
    refused,
    scopes_of,
    shared_out,
)
from hodios.accounts.rate_headers import go_duration, rate_headers, retry_headers
from hodios.store.records import KeyRecord, Limits, ProjectRecord


def scope(name: str, requests: int | None = None, tokens: int | None = None, parallel: int | None = None) -> Scope:
    return Scope(name, Limits(requests_per_minute=requests, tokens_per_minute=tokens, parallel_requests=parallel))


def test_a_refused_request_counts_in_no_scope() -> None:
    table = RateTable()
    key, project = scope("key/a", requests=10, tokens=1000, parallel=5), scope("project/p", requests=1)
    assert isinstance(table.take("1", (key, project), 100, 0), Permit)
    refusal = table.take("2", (key, project), 100, 0)
    assert isinstance(refusal, Refusal)
    assert (refusal.scope, refusal.measure, refusal.limit, refusal.retry_ns) == ("project/p", "requests", 1, MINUTE_NS)
    assert table.num_running == {"key/a": 1, "project/p": 1}
    alone = table.take("3", (key,), 100, 0)
    assert alone.state == RateState(Window(10, 8, 12 * 10**9), Window(1000, 800, 12 * 10**9))


def test_parallel_requests_have_slots_until_they_end() -> None:
    table = RateTable()
    two = (scope("key/a", parallel=2),)
    first, second = table.take("1", two, 0, 0), table.take("2", two, 0, 0)
    assert isinstance(first, Permit)
    assert isinstance(second, Permit)
    assert isinstance(table.take("3", two, 0, 0), Refusal)
    table.release(first)
    table.release(first)
    assert isinstance(table.take("4", two, 0, 0), Permit)
    assert isinstance(table.take("5", two, 0, 0), Refusal)


def test_tokens_are_settled_as_they_were() -> None:
    table = RateTable()
    scopes = (scope("key/a", tokens=100),)
    permit = table.take("1", scopes, 90, 0)
    assert isinstance(permit, Permit)
    assert isinstance(table.take("2", scopes, 20, 0), Refusal)
    table.settle(permit, 10, 0)
    assert isinstance(table.take("3", scopes, 20, 0), Permit)
    table.settle(permit, 500, 0)
    refusal = table.take("4", scopes, 1, 0)
    assert isinstance(refusal, Refusal)
    assert refusal.retry_ns > 4 * MINUTE_NS


def test_a_limit_of_zero_lets_nothing_pass() -> None:
    for none in (scope("key/a", requests=0), scope("key/a", tokens=0), scope("key/a", parallel=0)):
        assert isinstance(RateTable().take("1", (none,), 1, 0), Refusal)


def test_who_is_quiet_is_forgotten() -> None:
    table = RateTable()
    for at in range(5000):
        permit = table.take(str(at), (scope(f"key/{at}", requests=1, parallel=1),), 0, at * MINUTE_NS)
        assert isinstance(permit, Permit)
        table.release(permit)
    assert len(table) < 2100


@given(st.lists(st.tuples(st.sampled_from(["take", "end"]), st.integers(0, 3), st.integers(0, 10**9)), max_size=80))
def test_no_limit_of_any_scope_is_ever_exceeded(steps: list[tuple[str, int, int]]) -> None:
    table, now_ns, running, began = RateTable(), 0, [], []
    project = scope("project/p", requests=12, parallel=4)
    for what, which, elapsed_ns in steps:
        now_ns += elapsed_ns
        if what == "take":
            permit = table.take("x", (scope(f"key/{which}", requests=5, parallel=2), project), 1, now_ns)
            if isinstance(permit, Permit):
                running.append((which, permit))
                began.append((which, now_ns))
        elif running:
            table.release(running.pop(which % len(running))[1])
        assert len(running) <= 4
        assert all(sum(of == key for of, _ in running) <= 2 for key in range(4))
    assert len(began) <= 12 + now_ns * 12 // MINUTE_NS
    assert table.num_running.get("project/p", 0) == len(running)


async def test_processes_that_do_not_know_of_each_other_share_out() -> None:
    limiter = LocalLimiter(lambda: 0, num_sharing=4)
    scopes = (scope("key/a", requests=9, parallel=100),)
    outcomes = [await limiter.take(str(at), scopes, 0) for at in range(3)]
    assert [isinstance(outcome, Permit) for outcome in outcomes] == [True, True, False]
    assert shared_out(Limits(requests_per_minute=2), 4) == Limits(requests_per_minute=1)


def test_only_scopes_with_limits_hold() -> None:
    key = KeyRecord(id="a", prefix="", digest=b"", created_at_s=0)
    project = ProjectRecord(id="p", limits=Limits(requests_per_minute=1), created_at_s=0)
    assert scopes_of(key, None) == ()
    assert [one.name for one in scopes_of(key, project)] == ["project/p"]


def test_a_refusal_names_the_limit_and_when_to_come_back() -> None:
    error = refused(Refusal("key/a", "tokens", 7000, 1_500_000_001, RateState()))
    assert (error.status, error.retry_after) == (429, 2)
    assert error.message == "The limit of 7000 tokens per minute of this key is reached."


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (12 * 10**6, "12ms"),
        (999 * 10**6 + 1, "1s"),
        (10**9, "1s"),
        (59 * 10**9 + 1, "1m0s"),
        (360 * 10**9, "6m0s"),
        (3600 * 10**9, "1h0m0s"),
        (3725 * 10**9, "1h2m5s"),
    ],
)
def test_durations_are_written_as_go_does(ns: int, text: str) -> None:
    assert go_duration(ns) == text


def test_headers_are_those_of_openai() -> None:
    assert rate_headers(RateState()) == []
    assert dict(rate_headers(RateState(Window(60, 59, 10**9), Window(1000, 0, MINUTE_NS)))) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m0s",
    }
    assert retry_headers(1_200_000_001) == [("retry-after", "2"), ("retry-after-ms", "1201")]
