"""`hodios usage` as it is typed, on the store of SQLite that is taken without any settings."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Said
from store_entries import NOON_S, attempt, request

from hodios.store.database import Database
from hodios.store.ledger import Ledger
from hodios.store.migration import upgrade

Usage = Callable[..., tuple[int, str, str]]
SPAN = ("--from", "2026-11-21", "--to", "2026-11-22")


@pytest.fixture
def usage(hodios_home: Path, command: Callable[..., Said]) -> Usage:
    """`usage("--json")`: (exit code, stdout, stderr)."""

    async def tell() -> None:
        database = Database.open(f"sqlite:///{hodios_home}/hodios.db")
        await upgrade(database)
        entries: list[tuple[str, dict[str, Any]]] = [
            ("r1", {"key_id": "k1", "cost": 1_000_000_007, "user": "ann\x1b[31m"}),
            (
                "r2",
                {
                    "key_id": "k1",
                    "cost": 200,
                    "at_s": NOON_S + 86400,
                    "provider": "v2",
                    "finish_reason": "content_filter",
                },
            ),
            ("r3", {"key_id": "k2", "cost": 400, "model": "m,2"}),
            (
                "r4",
                {"key_id": "k2", "cost": 0, "at_s": NOON_S - 86400, "user": "=cmd|' /C calc'!A0", "model": "@SUM(1)"},
            ),
        ]
        told = [attempt(id, 1, accounts=(), **without_reason(values)) for id, values in entries]
        await Ledger(database).settle("p", told, [request(id, **values) for id, values in entries])
        await database.close()

    asyncio.run(tell())

    def run(*words: str) -> tuple[int, str, str]:
        said = command("usage", *words)
        return said.code, said.out, said.err

    return run


def without_reason(values: dict[str, Any]) -> dict[str, Any]:
    """Only requests have one."""
    return {name: value for name, value in values.items() if name != "finish_reason"}


def rows(told: tuple[int, str, str]) -> list[dict[str, str]]:
    code, out, err = told
    assert (code, err) == (0, "")
    return list(csv.DictReader(io.StringIO(out)))


def test_sums_are_shown_with_what_they_come_to(usage: Usage) -> None:
    code, out, err = usage(*SPAN, "--by", "key")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["key", "requests", "errors", "in", "of", "it", "cached", "out", "$"]
    assert lines[1:] == [
        ["k1", "2", "0", "20", "8", "40", "1.000000207"],
        ["k2", "1", "0", "10", "4", "20", "0.0000004"],
        ["1.000000607"],
    ]


def test_users_are_shown_with_what_abuse_is_found_by(usage: Usage) -> None:
    _, out, _ = usage("--from", "2026-11-21", "--to", "2026-11-23", "--by", "user")
    lines = [line.split() for line in out.splitlines()]
    assert " ".join(lines[0]) == "user requests errors in of it cached out filtered most an hour $"
    assert lines[1:3] == [
        [r"ann\x1b[31m", "1", "0", "10", "4", "20", "0", "1", "1.000000007"],
        ["-", "2", "0", "20", "8", "40", "1", "1", "0.0000006"],
    ]
    (ann, _) = rows(usage(*SPAN, "--by", "user", "--csv"))
    assert (ann["num_filtered"], ann["most_requests"]) == ("0", "1")


def test_what_a_terminal_would_obey_is_spelled_out(usage: Usage) -> None:
    _, out, _ = usage(*SPAN, "--by", "user")
    assert "\x1b" not in out
    assert r"ann\x1b[31m" in out


def test_sums_are_exported(usage: Usage) -> None:
    found = rows(usage(*SPAN, "--by", "day,model", "--csv"))
    assert [(row["day"], row["model"], row["cost"]) for row in found] == [
        ("2026-11-21", "m,2", "0.0000004"),
        ("2026-11-21", "m1", "1.000000007"),
        ("2026-11-22", "m1", "0.0000002"),
    ]
    code, out, _ = usage(*SPAN, "--by", "provider", "--json", "--key", "k1")
    assert code == 0
    assert {entry["provider_name"]: entry["usage"] for entry in json.loads(out)["data"]} == {
        "v1": 1.000000007,
        "v2": 2e-07,
    }


def test_every_request_is_exported(usage: Usage) -> None:
    found = rows(usage(*SPAN, "--requests", "--csv"))
    assert [(row["id"], row["key_id"], row["cost"]) for row in found] == [
        ("r2", "k1", "0.0000002"),
        ("r3", "k2", "0.0000004"),
        ("r1", "k1", "1.000000007"),
    ]
    code, out, _ = usage("--from", "2026-11-21", "--to", "2026-11-21", "--requests", "--json", "--model", "m1")
    assert code == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["r1"]


def test_what_a_spreadsheet_would_run_is_text(usage: Usage) -> None:
    before = ("--from", "2026-11-20", "--to", "2026-11-20")
    assert [row["user"] for row in rows(usage(*before, "--by", "user", "--csv"))] == ["'=cmd|' /C calc'!A0"]
    (row,) = rows(usage(*before, "--requests"))
    assert "'@SUM(1)" in row.values()
    assert not [value for value in row.values() if value.startswith(("=", "+", "-", "@"))]


def test_nothing_is_said_to_be_nothing(usage: Usage) -> None:
    assert usage("--to", "2001-01-01") == (0, "Nothing was used in this time.\n", "")
    code, out, _ = usage("--recommendations", "--to", "2001-01-01")
    assert (code, out.startswith("Nothing to recommend")) == (0, True)


def test_remotes_are_compared(usage: Usage, hodios_home: Path) -> None:
    remotes = "".join(
        f'[remote.{name}]\nbase_url = "http://127.0.0.1:1/v1"\n'
        f'[[remote.{name}.models]]\nid = "m1"\ncontext_length = 100\n'
        f"price = {{ prompt = {price}, completion = {price} }}\n"
        for name, price in (("v1", 3), ("v2", 0.001))
    )
    (hodios_home / "hodios.toml").write_text(remotes)
    code, out, err = usage(*SPAN, "--recommendations")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("m1 at v2 would have cost $0.00000003 instead of $1.000000007 at v1")
    code, out, _ = usage(*SPAN, "--recommendations", "--json")
    assert [(each["kind"], each["instead"]) for each in json.loads(out)] == [("cheaper_provider", "v2")]
    assert rows(usage(*SPAN, "--recommendations", "--csv"))[0]["provider"] == "v1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--by", "colour"), "--by: 'colour' is not accepted; accepted: day, model"),
        (("--by", "user,model"), "--by: What users spend is not known by model"),
        (("--from", "then"), "--from: 'then' is not accepted; accepted: a day"),
    ],
)
def test_mistakes_are_one_sentence(usage: Usage, words: tuple[str, ...], said: str) -> None:
    code, out, err = usage(*words)
    assert (code, out) == (2, "")
    assert err.startswith(said)
