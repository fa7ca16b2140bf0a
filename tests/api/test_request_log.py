"""Whatever becomes of a request, it is logged once, and answer, ledger and account say the same of its cost."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from bureau import CARD, Bureau, Scripted, bureau
from msgspec import structs

from hodios.api.request_log import MOST_CANDIDATES, KeptAttempt, KeptRoute
from hodios.config import Config
from hodios.errors import Overloaded, ProviderError
from hodios.events import Finish, Started, Stopped, Text, Usage
from hodios.money import nanodollars
from hodios.router_settings import RouterSettings
from hodios.store.leases import Leases
from hodios.store.records import AccountId, Budgets, Limits
from hodios.store.reports import Chosen

DOLLAR = 10**9
STARTED = Started("scripted", "maker/model", "fp_0", 101, 32)
USAGE = Usage(prompt_tokens=101, completion_tokens=7, cached_tokens=32)
ANSWER = (STARTED, Text(0, "abc", completion_tokens=3), Text(0, "d", completion_tokens=7), Stopped(0, "stop"))
WHOLE = (*ANSWER, Finish(USAGE))
ALWAYS = Chosen(since_s=0, until_s=1e10)
SAID = [{"role": "user", "content": "x" * 101}]
TOTAL = AccountId("key", "k1", "total")


def provider(*script: Any, **values: Any) -> Scripted:
    return Scripted(script, **values)


async def told(desk: Bureau) -> tuple[int, int]:
    """What ledger and account say."""
    (entry,) = await desk.logged()
    attempts = await desk.attempts(entry.request_id)
    balance = (await Leases(desk.database).balances([TOTAL]))[TOTAL]
    assert sum(attempt.cost or 0 for attempt in attempts) == balance.settled
    (spend,) = await desk.reports.spend([], ALWAYS)
    assert (spend.cost, spend.num_requests, spend.num_attempts) == (balance.settled, 1, len(attempts))
    return entry.cost or 0, balance.settled


def usage_of(answer: Any, *, is_streamed: bool) -> dict[str, Any]:
    body = answer.chunks()[-1] if is_streamed else answer.json()
    usage: dict[str, Any] = body["usage"]
    return usage


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_answer_log_ledger_and_account_agree(
    config: Config, caller_of: Callable[..., Any], is_streamed: bool
) -> None:
    async with bureau(config, [provider(*WHOLE)]) as desk:
        call = caller_of(desk.app)
        call.key = await desk.key(budgets=Budgets(total=DOLLAR))
        options = {"stream": True, "stream_options": {"include_usage": True}} if is_streamed else {}
        answer = await call.chat(model="model", user="ann", messages=SAID, **options)
        assert answer.status == 200
        told_cost = nanodollars(Decimal(repr(usage_of(answer, is_streamed=is_streamed)["cost"])))
        assert await told(desk) == (told_cost, told_cost)
        assert told_cost > 0
        (entry,) = await desk.logged()
        assert (entry.answer_id, entry.request_id[:5]) == (entry.request_id, "chat-")
        assert (entry.key_id, entry.user, entry.status, entry.is_streamed) == ("k1", "ann", 200, is_streamed)
        assert (entry.wanted_model, entry.model, entry.provider) == ("model", "maker/model", "scripted")
        assert (entry.prompt_tokens, entry.cached_tokens, entry.completion_tokens) == (101, 32, 7)
        assert (entry.finish_reason, entry.error_code) == ("stop", None)
        kept = msgspec.json.decode(entry.route, type=KeptRoute)
        assert [attempt["provider"] for attempt in kept.attempt_fields()] == ["scripted"]
        assert b"xxx" not in entry.route


async def test_a_client_that_leaves_pays_what_it_has(config: Config, caller_of: Callable[..., Any]) -> None:
    leave = asyncio.Event()

    async def wait() -> None:
        leave.set()
        await asyncio.Event().wait()

    async with bureau(config, [provider(*ANSWER[:2], wait)]) as desk:
        call = caller_of(desk.app)
        call.key = await desk.key()
        body = {"model": "model", "messages": SAID, "stream": True}
        with pytest.raises(AssertionError):
            # What came of the answer has no end.
            await call("POST", "/v1/chat/completions", body, leave=leave)
        cost, settled = await told(desk)
        assert cost == settled > 0
        (entry,) = await desk.logged()
        assert (entry.status, entry.error_code, entry.finish_reason) == (499, None, None)
        assert (entry.prompt_tokens, entry.completion_tokens) == (101, 3)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_failure_costs_nothing(config: Config, caller_of: Callable[..., Any], is_streamed: bool) -> None:
    async with bureau(config, [provider(ProviderError("it said: secret", metadata={"status": 500}))]) as desk:
        call = caller_of(desk.app)
        call.key = await desk.key()
        assert (await call.chat(model="model", stream=is_streamed)).status == 502
        assert await told(desk) == (0, 0)
        (entry,) = await desk.logged()
        assert (entry.status, entry.upstream_status, entry.error_code) == (502, 500, "provider_error")
        assert entry.answer_id is None
        assert b"secret" not in entry.route


async def test_a_stream_that_breaks_off_costs_what_came(config: Config, caller_of: Callable[..., Any]) -> None:
    broken = provider(*ANSWER[:2], ProviderError("it broke"), card=structs.replace(CARD, continues=False))
    async with bureau(config, [broken]) as desk:
        call = caller_of(desk.app)
        call.key = await desk.key()
        assert (await call.chat(model="model", stream=True)).status == 200
        cost, settled = await told(desk)
        assert cost == settled > 0
        (entry,) = await desk.logged()
        assert (entry.status, entry.error_code, entry.completion_tokens) == (502, "provider_error", 3)


async def test_a_continued_answer_is_paid_in_parts(config: Config, caller_of: Callable[..., Any]) -> None:
    first = provider(*ANSWER[:2], ProviderError("it broke"), name="first")
    second = provider(
        Started("second", "maker/model", "fp_0", 104, 0),
        Text(0, "d", completion_tokens=1),
        Stopped(0, "stop"),
        Finish(Usage(prompt_tokens=104, completion_tokens=4)),
        name="second",
    )
    settings = structs.replace(config, router=RouterSettings(probe_interval_s=0))
    async with bureau(settings, [first, second]) as desk:
        call = caller_of(desk.app)
        call.key = await desk.key(budgets=Budgets(daily=DOLLAR))
        options = {"stream": True, "stream_options": {"include_usage": True}, "provider": {"order": ["first"]}}
        answer = await call.chat(model="model", **options)
        told_cost = nanodollars(Decimal(repr(usage_of(answer, is_streamed=True)["cost"])))
        assert await told(desk) == (told_cost, told_cost)
        (entry,) = await desk.logged()
        attempts = await desk.attempts(entry.request_id)
        assert [(attempt.provider, attempt.outcome) for attempt in attempts] == [
            ("first", "broke_off"),
            ("second", "answered"),
        ]
        assert all(attempt.cost for attempt in attempts)
        assert (entry.status, entry.provider) == (200, "second")


async def test_an_answer_that_begins_anew_is_paid_once(config: Config, caller_of: Callable[..., Any]) -> None:
    alone = structs.replace(CARD, continues=False)
    first = provider(*ANSWER[:2], ProviderError("it broke"), name="first", card=alone)
    second = provider(*WHOLE, name="second", card=alone)
    async with bureau(config, [first, second]) as desk:
        call = caller_of(desk.app)
        call.key = await desk.key(budgets=Budgets(weekly=DOLLAR))
        answer = await call.chat(model="model", provider={"order": ["first"]})
        told_cost = nanodollars(Decimal(repr(usage_of(answer, is_streamed=False)["cost"])))
        assert await told(desk) == (told_cost, told_cost)
        (entry,) = await desk.logged()
        attempts = await desk.attempts(entry.request_id)
        assert [(attempt.provider, attempt.cost) for attempt in attempts] == [("first", 0), ("second", told_cost)]
        assert (entry.status, entry.prompt_tokens, entry.completion_tokens) == (200, 101, 7)


async def test_what_never_reached_anybody_is_logged(config: Config, caller_of: Callable[..., Any]) -> None:
    async with bureau(config, [provider(*WHOLE)]) as desk:
        call = caller_of(desk.app)
        call.key = await desk.key(budgets=Budgets(total=1), limits=Limits(requests_per_minute=2))
        assert (await call.chat(model="model", temperature="hot")).status == 400
        assert (await call.chat(model="nobody")).status == 404
        assert (await call.chat(model="model")).status == 402
        assert (await call.chat(model="model")).status == 429
        statuses = {entry.status: entry for entry in await desk.logged()}
        assert {status: entry.error_code for status, entry in statuses.items()} == {
            400: "invalid_value",
            404: "model_not_found",
            402: "insufficient_quota",
            429: "rate_limit_exceeded",
        }
        assert statuses[404].wanted_model == "nobody"
        assert all(entry.cost == 0 for entry in statuses.values())


async def test_one_client_may_send_the_same_id_again(config: Config, caller_of: Callable[..., Any]) -> None:
    async with bureau(config, [provider(*WHOLE)]) as desk:
        call = caller_of(desk.app)
        call.key = await desk.key()
        body = {"model": "model", "messages": SAID}
        for _ in range(2):
            await call("POST", "/v1/chat/completions", body, headers={"x-request-id": "mine"})
        entries = await desk.logged()
        assert len({entry.request_id for entry in entries}) == len(entries) == 2
        assert {json.loads(entry.route)["request_id"] for entry in entries} == {"mine"}
        (spend,) = await desk.reports.spend([], ALWAYS)
        assert spend.cost == sum(entry.cost or 0 for entry in entries) > 0


async def test_what_comes_again_is_logged_with_what_it_asked_for(config: Config, caller_of: Callable[..., Any]) -> None:
    async with bureau(config, [provider(*WHOLE)]) as desk:
        call = caller_of(desk.app)
        call.key = await desk.key()
        body = {"model": "model", "messages": SAID, "user": "ann"}
        headers = {"idempotency-key": "n1"}
        assert (await call("POST", "/v1/chat/completions", body, headers=headers)).status == 200
        assert (await call("POST", "/v1/chat/completions", body, headers=headers)).status == 200
        other = {**body, "model": "maker/model"}
        assert (await call("POST", "/v1/chat/completions", other, headers=headers)).status == 422
        entries = await desk.logged()
        assert [(entry.wanted_model, entry.user, entry.status) for entry in entries] == [
            ("maker/model", "ann", 422),
            ("model", "ann", 200),
            ("model", "ann", 200),
        ]
        assert [entry.cost for entry in entries[:2]] == [0, 0]
        assert entries[2].cost


async def test_long_prompts_that_begin_the_same_are_known_again(config: Config, caller_of: Callable[..., Any]) -> None:
    async with bureau(config, [provider(*WHOLE)]) as desk:
        call = caller_of(desk.app)
        call.key = await desk.key(default_max_tokens=40)
        for text in ("x" * 5000, "x" * 5000 + "y", "y" + "x" * 5000, "x"):
            await call.chat(model="model", messages=[{"role": "user", "content": text}])
        await call.complete(model="model", prompt="x" * 5000, max_tokens=7)
        raw, short, other, second, first = await desk.logged()
        assert first.prefix == second.prefix is not None
        assert len({first.prefix, other.prefix, raw.prefix}) == 3
        assert short.prefix is None
        assert (first.max_tokens, raw.max_tokens) == (40, 7)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_key_whose_policy_says_so_is_told_details_of_filters(
    config: Config, caller_of: Callable[..., Any], is_streamed: bool
) -> None:
    async with bureau(config, [provider(*WHOLE)]) as desk:
        call = caller_of(desk.app)
        for policy in (None, "details"):
            call.key = await desk.key(f"k-{policy}", content_filter=policy)
            answer = await call.chat(model="model", stream=is_streamed)
            choices = [choice for chunk in answer.chunks() for choice in chunk["choices"]] if is_streamed else None
            for choice in choices or answer.json()["choices"]:
                assert ("content_filter_details" in choice) == (policy is not None)


async def test_the_operator_is_logged_and_other_routes_are_not(config: Config, caller_of: Callable[..., Any]) -> None:
    async with bureau(config, [provider(*WHOLE)]) as desk:
        call = caller_of(desk.app)
        assert (await call("GET", "/v1/models")).status == 200
        await call.complete(model="model")
        (entry,) = await desk.logged()
        assert (entry.key_id, entry.request_id[:5]) == ("admin", "cmpl-")
        assert await desk.attempts(entry.request_id)


async def test_an_answer_outlives_its_log_entry(
    config: Config, caller_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with bureau(config, [provider(*WHOLE)]) as desk:
        call = caller_of(desk.app)
        accounts = desk.office.accounts

        def refuse(request: Any) -> None:
            raise Overloaded("the journal is full")

        monkeypatch.setattr(accounts, "log", refuse)
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                assert (await call.chat(model="model")).status == 200
        assert [record.message for record in caplog.records].count(
            "requests cannot be logged: the journal is full"
        ) == 1
        metrics = (await call("GET", "/metrics")).body.decode()
        assert "hodios_unlogged_requests_total 3.0" in metrics


async def test_a_long_route_is_kept_in_part(config: Config, caller_of: Callable[..., Any]) -> None:
    many = [provider(*WHOLE, name=f"p{number}") for number in range(MOST_CANDIDATES + 1)]
    async with bureau(config, many) as desk:
        await caller_of(desk.app).chat(model="model")
        (entry,) = await desk.logged()
        assert len(json.loads(entry.route)["candidates"]) == MOST_CANDIDATES
        assert entry.cost


def test_routes_of_earlier_versions_are_shown_as_they_were() -> None:
    """Attempts were fields of JSON, and are rows now."""
    attempt = KeptAttempt("p", "m", "answered", 0.0012, 0.5, 1.25, None, 101, 32, 7, 1_048_500)
    fields = {
        **{"provider": "p", "model": "m", "outcome": "answered", "began_ms": 1, "first_token_ms": 500},
        **{"ended_ms": 1250, "status": None, "error": None, "prompt_tokens": 101, "cached_tokens": 32},
        **{"completion_tokens": 7, "cost": 0.0010485},
    }
    written = [msgspec.json.encode({"policy": "default", "attempts": each}) for each in ([fields], [attempt])]
    for text in written:
        assert msgspec.json.decode(text, type=KeptRoute).attempt_fields() == [fields]
    assert len(written[1]) < len(written[0]) / 2
