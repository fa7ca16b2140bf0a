"""The history of prices: what is a change, and what becomes of it when processes write together and are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from catalog_files import store, write
from hypothesis import given
from hypothesis import strategies as st

from hodios.errors import SetupError
from hodios.providers.catalog_rows import Offer
from hodios.providers.prices import PriceChange, PriceHistory, Quote, quotes_of, quotes_of_cards
from hodios.types import UNKNOWN_PRICE, ModelCard, Price

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def quote(amount: int | None, source: Any = "live", model: str = "Maker/Big-7B", **fields: str) -> Quote:
    price = None if amount is None else Price(prompt=amount, completion=amount)
    return Quote(
        **{"provider": "acme", "model": model, "offer": "maker/big", "price": price, "source": source, **fields}
    )


def amounts(changes: Sequence[PriceChange]) -> list[tuple[int | None, int | None, str]]:
    pairs = (((change.old, change.new), change.source) for change in changes)
    return [(old.prompt if old else None, new.prompt if new else None, source) for (old, new), source in pairs]


def test_every_change_is_kept_and_nothing_else(tmp_path: Path) -> None:
    history = PriceHistory(tmp_path)
    for hours, price in enumerate([quote(1, "offline"), quote(1), quote(2), quote(2), quote(5, "manual"), quote(None)]):
        history.record([price], NOON + timedelta(hours=hours))
    assert amounts(history.changes()) == [(None, 1, "offline"), (1, 2, "live"), (2, 5, "manual"), (5, None, "live")]
    assert [change.at.hour for change in history.changes()] == [12, 14, 16, 17]


def test_what_is_recorded_is_returned(tmp_path: Path) -> None:
    history = PriceHistory(tmp_path)
    assert amounts(history.record([quote(1), quote(7, offer="other")], NOON)) == [(None, 1, "live"), (None, 7, "live")]
    assert history.record([quote(1)], NOON) == []


def test_what_nobody_says_is_no_price(tmp_path: Path) -> None:
    history = PriceHistory(tmp_path)
    assert history.record([quote(None, "offline")], NOON) == []
    assert history.changes() == []


def test_of_a_price_that_is_told_twice_the_first_counts(tmp_path: Path) -> None:
    history = PriceHistory(tmp_path)
    history.record([quote(1), quote(2)], NOON)
    history.record([quote(1), quote(2)], NOON)
    assert amounts(history.changes()) == [(None, 1, "live")]


def test_a_restart_knows_what_was(tmp_path: Path) -> None:
    PriceHistory(tmp_path).record([quote(1)], NOON)
    assert PriceHistory(tmp_path).record([quote(1)], NOON) == []
    assert amounts(PriceHistory(tmp_path).record([quote(2)], NOON)) == [(1, 2, "live")]


def test_defaults_are_no_news_of_a_provider_that_was_heard(tmp_path: Path) -> None:
    """At a start they count until the provider is asked; but a manual price that is taken back is a change."""
    history = PriceHistory(tmp_path)
    for price in (
        quote(1, "offline"),
        quote(2),
        quote(1, "offline"),
        quote(2),
        quote(9, "manual"),
        quote(1, "offline"),
    ):
        history.record([price], NOON)
    assert amounts(history.changes()) == [(None, 1, "offline"), (1, 2, "live"), (2, 9, "manual"), (9, 1, "offline")]


def test_changes_are_found_by_model_and_provider(tmp_path: Path) -> None:
    history = PriceHistory(tmp_path)
    others = [quote(2, model="Maker/Small", offer="maker/small"), quote(3, provider="other", offer="BIG", via="host")]
    history.record([quote(1), *others], NOON)
    assert amounts(history.changes(model="maker/big-7b")) == [(None, 1, "live"), (None, 3, "live")]
    assert amounts(history.changes(model="big", provider="Other")) == [(None, 3, "live")]
    assert amounts(history.changes(provider="acme")) == [(None, 1, "live"), (None, 2, "live")]
    assert amounts(history.changes(most=2)) == [(None, 2, "live"), (None, 3, "live")]
    assert history.changes(most=0) == history.changes(model="nothing") == []


def test_what_others_write_is_known(tmp_path: Path) -> None:
    one, other = PriceHistory(tmp_path), PriceHistory(tmp_path)
    one.record([quote(1)], NOON)
    assert other.record([quote(1)], NOON) == []
    other.record([quote(2)], NOON)
    assert amounts(one.record([quote(3)], NOON)) == [(2, 3, "live")]


def test_a_file_that_is_removed_begins_anew(tmp_path: Path) -> None:
    history = PriceHistory(tmp_path)
    history.record([quote(1)], NOON)
    (tmp_path / "prices.jsonl").unlink()
    assert amounts(history.record([quote(1)], NOON)) == [(None, 1, "live")]


def test_every_place_where_a_write_may_break_off(tmp_path: Path) -> None:
    """Whatever of the last line is missing, the lines before it count, and the next ones are whole."""
    path = tmp_path / "prices.jsonl"
    PriceHistory(tmp_path).record([quote(1)], NOON)
    first = path.read_bytes()
    PriceHistory(tmp_path).record([quote(2)], NOON)
    whole = path.read_bytes()
    for end in range(len(first), len(whole)):
        path.write_bytes(whole[:end])
        history = PriceHistory(tmp_path)
        assert amounts(history.changes()) == [(None, 1, "live")]
        history.record([quote(3)], NOON)
        # A line that lacks nothing but its end counts from now on.
        middle = [(1, 2, "live")] if end == len(whole) - 1 else []
        assert amounts(PriceHistory(tmp_path).changes()) == [(None, 1, "live"), *middle, (1, 3, "live")], end
        assert PriceHistory(tmp_path).record([quote(3)], NOON) == []


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_lines_that_make_no_sense_are_passed_over(tmp_path_factory: pytest.TempPathFactory, junk: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("junk")
    PriceHistory(folder).record([quote(1)], NOON)
    with (folder / "prices.jsonl").open("ab") as file:
        file.write(b"\n".join(junk))
    history = PriceHistory(folder)
    history.record([quote(2)], NOON)
    assert amounts(history.changes()) == [(None, 1, "live"), (1, 2, "live")]


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    PriceHistory(tmp_path / "new").record([quote(1)], NOON)
    assert (tmp_path / "new" / "prices.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_price_is_on_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(os, "fsync", lambda file: sizes.append(os.fstat(file).st_size))
    PriceHistory(tmp_path).record([quote(1)], NOON)
    assert sizes == [(tmp_path / "prices.jsonl").stat().st_size]


def test_no_place_to_write_is_told(tmp_path: Path) -> None:
    (tmp_path / "prices.jsonl").mkdir()
    history = PriceHistory(tmp_path)
    with pytest.raises(SetupError, match="cannot be written"):
        history.record([quote(1)], NOON)
    with pytest.raises(SetupError, match="cannot be read"):
        history.changes()


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from hodios.providers.prices import PriceHistory, Quote
from hodios.types import Price

folder, name, first, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
history = PriceHistory(folder)
for amount in range(first, first + number):
    quotes = [
        Quote(provider=provider, model="m", offer="o", price=Price(prompt=amount), source="live")
        for provider in ("shared", name)
    ]
    history.record(quotes, datetime.now(UTC))
    print(amount, flush=True)
"""


def writer(folder: Path, name: str, first: int, number: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITER, str(folder), name, str(first), str(number)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def check_chains(changes: Sequence[PriceChange]) -> dict[str, list[int]]:
    """Of each price every change begins where the one before it ended. Returns the prices."""
    chains: dict[str, list[int]] = defaultdict(list)
    for change in changes:
        assert change.new is not None
        chain = chains[change.provider]
        assert (change.old.prompt if change.old else None) == (chain[-1] if chain else None)
        chain.append(change.new.prompt)
    return chains


def test_two_processes_write_at_the_same_time(tmp_path: Path) -> None:
    writers = [writer(tmp_path, "a", 1000, 60), writer(tmp_path, "b", 2000, 60)]
    assert [each.communicate() and each.returncode for each in writers] == [0, 0]
    changes = PriceHistory(tmp_path).changes()
    lines = (tmp_path / "prices.jsonl").read_bytes().splitlines()
    assert len(changes) == len(lines) == 240
    chains = check_chains(changes)
    assert chains["a"] == list(range(1000, 1060))
    assert chains["b"] == list(range(2000, 2060))
    assert sorted(chains["shared"]) == chains["a"] + chains["b"]


@pytest.mark.parametrize("seed", range(4))
def test_kill_9_in_the_middle_of_writing(tmp_path: Path, seed: int) -> None:
    """Whatever was told to be written is there, in whole lines, and who comes next goes on with it."""
    rng = random.Random(seed)
    after = rng.randrange(1, 40)
    process = writer(tmp_path, "a", 1, 100_000)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    told += [int(line) for line in process.communicate()[0].splitlines() if line]
    history = PriceHistory(tmp_path)
    chains = check_chains(history.changes())
    assert chains["a"][: len(told)] == told
    assert len(told) <= len(chains["a"]) <= len(told) + 1
    history.record([Quote(provider="a", model="m", offer="o", price=Price(prompt=10**6), source="live")], NOON)
    assert check_chains(PriceHistory(tmp_path).changes())["a"] == [*chains["a"], 10**6]


def test_the_catalog_quotes_what_counts(tmp_path: Path) -> None:
    catalog = store(write(tmp_path))
    (quoted,) = quotes_of(catalog.current)
    assert (quoted.provider, quoted.model, quoted.offer, quoted.source) == (
        "acme",
        "Maker/Big-7B",
        "maker/big",
        "offline",
    )
    catalog.put_live("acme", [Offer(id="maker/big", price=Price(prompt=7))])
    (quoted,) = quotes_of(catalog.current)
    assert (quoted.price, quoted.source) == (Price(prompt=7), "live")
    prices = {"acme": {"prices": {"big": {"prompt": "1", "completion": "1"}}}}
    manual = store(tmp_path, prices)
    manual.put_live("acme", [Offer(id="maker/big", price=Price(prompt=7))])
    (quoted,) = quotes_of(manual.current)
    assert (quoted.price, quoted.source) == (Price(prompt=10**9, completion=10**9), "manual")


def test_models_without_a_row_are_quoted_as_far_as_their_price_is_known() -> None:
    cards = [
        ModelCard(id="a", context_length=1, max_output_tokens=1),
        ModelCard(id="b", context_length=1, max_output_tokens=1, price=UNKNOWN_PRICE),
    ]
    assert [(quote.model, quote.price, quote.source) for quote in quotes_of_cards("local", cards)] == [
        ("a", Price(), "manual")
    ]
