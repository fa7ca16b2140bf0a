"""What has to hold once it is quiet again: of the tables among each other, of what providers counted, and of what
clients were told."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from counting_upstream import CountingUpstream, Generation, length_of
from spenders import Spenders
from sqlalchemy import select

from hodios.store.connection import AsyncConnection
from hodios.store.database import Database
from hodios.store.schema import accounts, attempts, hourly, hourly_users, leases, requests

Row = Mapping[str, Any]
PERIODS = ("total", "day", "week", "month")
_SUMMED = ("prompt_tokens", "completion_tokens", "cost")


@dataclass(frozen=True)
class Books:
    """The tables, all of them."""

    attempts: Sequence[Row]
    requests: Mapping[str, Row]
    accounts: Sequence[Row]
    leases: Sequence[Row]
    hourly: Sequence[Row]
    hourly_users: Sequence[Row]

    @classmethod
    async def read(cls, database: Database) -> Books:
        async def work(connection: AsyncConnection) -> Books:
            tables = (attempts, requests, accounts, leases, hourly, hourly_users)
            found = [[dict(row) for row in (await connection.execute(select(one))).mappings()] for one in tables]
            by_id = {row["request_id"]: row for row in found[1]}
            return cls(found[0], by_id, *found[2:])

        return await database.read(work)

    def by(self, *names: str) -> dict[Any, list[Row]]:
        """Attempts, by the values of those columns."""
        found: dict[Any, list[Row]] = defaultdict(list)
        for row in self.attempts:
            found[tuple(row[name] for name in names)].append(row)
        return found

    def is_exact(self, row: Row) -> bool:
        """Whether the end of this attempt reached us, with the provider's count. What ends with `length` was cut short
        because a budget was spent."""
        logged = self.requests.get(row["request_id"])
        is_whole = logged is not None and logged["finish_reason"] == "stop"
        return is_whole and row["outcome"] == "answered" and not row["is_estimated"]


def check_budgets(books: Books, limits: Mapping[str, int]) -> None:
    """None is exceeded, nothing is reserved any more, and what was settled is the sum of the attempts."""
    settled: Counter[str] = Counter()
    for row in books.accounts:
        kind, id, period, *_ = row["id"].split("/")
        limit = limits.get(f"{kind}/{id}/{period}")
        assert limit is None or row["settled"] <= limit, row
        settled[f"{kind}/{id}/{period}"] += row["settled"]
        assert row["leased"] == 0, row
    assert not any(row["amount"] for row in books.leases), books.leases
    sums: Counter[str] = Counter()
    for row in books.attempts:
        for period in PERIODS:
            sums[f"key/{row['key_id']}/{period}"] += row["cost"]
            if row["project_id"]:
                sums[f"project/{row['project_id']}/{period}"] += row["cost"]
    assert +settled == +sums


def check_sums(books: Books) -> None:
    """The hours have what the attempts and the requests have."""
    for table, *names in ((books.hourly, "key_id", "provider"), (books.hourly_users, "key_id", "user")):
        expected, found = defaultdict[Any, Counter[str]](Counter), defaultdict[Any, Counter[str]](Counter)
        for row in books.attempts:
            expected[tuple(row[name] or "" for name in names)] += Counter(
                num_attempts=1, **{name: row[name] for name in _SUMMED}
            )
        for row in table:
            found[tuple(row[name] for name in names)] += Counter(
                {name: row[name] for name in ("num_attempts", *_SUMMED)}
            )
        assert {name: sums for name, sums in found.items() if sums["num_attempts"]} == expected
    assert sum(row["num_requests"] for row in books.hourly) == len(books.requests)


def check_costs(books: Books, prices: Mapping[str, int]) -> None:
    """Each attempt costs what its provider takes for its tokens, and each request what its attempts do."""
    by_request = books.by("request_id")
    for row in books.attempts:
        num_tokens = row["prompt_tokens"] + row["completion_tokens"] if row["completion_tokens"] else 0
        assert row["cost"] == num_tokens * prices[row["provider"]], row
    for id, logged in books.requests.items():
        rows = by_request.get((id,), [])
        assert logged["cost"] == sum(row["cost"] for row in rows), (logged, rows)


def check_counts(books: Books, upstreams: Sequence[CountingUpstream]) -> str:
    """Whose end reached us is charged what its provider counted; all others no more than that. Returns what is to be
    said of the estimated ones."""
    num_exact = 0
    by_words, by_pieces = Cut(), Cut()
    for upstream in upstreams:
        for (name, provider), rows in books.by("user", "provider").items():
            if provider != upstream.name:
                continue
            generated = upstream.generated.get(name, [])
            for row, counted in _matched(rows, generated):
                num_sent = counted.num_sent if counted else 0
                assert row["completion_tokens"] <= num_sent, (row, generated)
                if row["is_estimated"]:
                    is_packed = counted is not None and counted.is_packed
                    (by_pieces if is_packed else by_words).add(row["completion_tokens"], num_sent)
                elif books.is_exact(row):
                    num_exact += 1
                    ends = [one.num_sent for one in generated if one.has_ended]
                    assert row["completion_tokens"] in ends, (row, generated)
    assert num_exact > 0
    return (
        f"{num_exact} attempts charged as their providers counted; of those cut by a kill, "
        f"with one token in each piece: {by_words}; with several: {by_pieces}"
    )


@dataclass
class Cut:
    """Attempts that a kill has cut."""

    num: int = 0
    num_charged: int = 0
    num_sent: int = 0
    """By their providers."""
    most_missed: int = 0
    """Of one of them."""

    def add(self, num_charged: int, num_sent: int) -> None:
        self.num += 1
        self.num_charged += num_charged
        self.num_sent += num_sent
        self.most_missed = max(self.most_missed, num_sent - num_charged)

    def __str__(self) -> str:
        missed = self.num_sent - self.num_charged
        share, each = (missed / self.num_sent, missed / self.num) if self.num_sent else (0.0, 0.0)
        return (
            f"{self.num} charged {self.num_charged} of {self.num_sent} tokens that were sent "
            f"({share:.1%} missed, {each:.1f} each, {self.most_missed} at most)"
        )


def _matched(rows: Sequence[Row], generated: Sequence[Generation]) -> list[tuple[Row, Generation | None]]:
    """The longest with the longest: nobody else knows which of several for the same name it was."""
    ordered = sorted(rows, key=lambda row: -row["completion_tokens"])
    counted = sorted(generated, key=lambda one: -one.num_sent)
    return [(row, counted[at] if at < len(counted) else None) for at, row in enumerate(ordered)]


def check_told(books: Books, spenders: Spenders, upstreams: Sequence[CountingUpstream]) -> None:
    """What clients were told is what they are charged, once."""
    by_request = books.by("request_id")
    by_name: dict[str, set[str]] = defaultdict(set)
    for row in books.attempts:
        by_name[row["user"]].add(row["request_id"])
    for told in spenders.told:
        rows = by_request.get((told.id,), [])
        num_charged = sum(row["completion_tokens"] for row in rows)
        if not any(one.is_packed for upstream in upstreams for one in upstream.generated.get(told.name, ())):
            # What was on its way when a process was killed may be one piece ahead of its journal.
            assert told.num_words <= num_charged + 1, (told, rows)
        if told.cost is not None:
            assert round(told.cost * 1e9) == sum(row["cost"] for row in rows), (told, rows)
        if told.is_whole and told.finish_reason == "stop":
            assert told.text.split() == [str(at) for at in range(length_of(told.name))], told
            assert any(row["outcome"] == "answered" for row in rows), (told, rows)
    often = Counter(told.name for told in spenders.told)
    assert all(len(ids) <= often[name] for name, ids in by_name.items())
    for again in spenders.twice:
        assert again.is_paid_once
        assert len(by_name[again.name]) == 1, again
