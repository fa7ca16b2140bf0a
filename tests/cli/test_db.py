"""`hodios db` as it is typed, on the SQLite file that is taken without any settings."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted_server import Said
from store_entries import attempt, request

from hodios.store.database import Database
from hodios.store.ledger import Ledger
from hodios.store.revision import NEEDED

Db = Callable[..., tuple[int, str, str]]


@pytest.fixture
def db(hodios_home: Path, command: Callable[..., Said]) -> Db:
    """`db("check")`: (exit code, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        said = command("db", *words)
        return said.code, said.out.strip(), said.err

    return run


def test_tables_are_made_where_nothing_is_set(db: Db, hodios_home: Path) -> None:
    where = f"sqlite:///{hodios_home}/hodios.db"
    assert db("current") == (0, f"{where}: empty, needed: {NEEDED}", "")
    code, out, _ = db("check")
    assert (code, out.startswith("The tables have revision none.")) == (1, True)
    assert db("upgrade") == (0, f"empty -> {NEEDED}", "")
    assert db("upgrade") == (0, f"up to date at {NEEDED}", "")
    assert db("current") == (0, f"{where}: {NEEDED}, needed: {NEEDED}", "")
    assert db("check") == (0, "The tables are in order.", "")


def test_what_is_wrong_is_told(db: Db, hodios_home: Path) -> None:
    db("upgrade")
    with sqlite3.connect(hodios_home / "hodios.db") as connection:
        connection.execute("INSERT INTO accounts (id, leased) VALUES ('key/k1/total', 5)")
        connection.execute("DROP INDEX ix_leases_account")
    connection.close()
    code, out, _ = db("check")
    assert code == 1
    assert "ix_leases_account" in out
    assert "more or less is leased than processes have: key/k1/total" in out


def test_what_is_old_goes_and_names_do(db: Db, hodios_home: Path) -> None:
    db("upgrade")

    async def tell() -> None:
        database = Database.open(f"sqlite:///{hodios_home}/hodios.db")
        old, new = [{"at_s": time.time() - days * 86400, "user": "ann"} for days in (40, 1)]
        told = [attempt("r1", 1, **old), attempt("r2", 1, **new)]
        await Ledger(database).settle("p", told, [request("r1", **old), request("r2", **new)])
        await database.close()

    asyncio.run(tell())
    assert db("purge", "--requests", "30") == (0, "contents: 0, requests: 1", "")
    assert db("purge", "--attempts", "31", "--sums", "31", "--accounts", "400")[:2] == (
        0,
        "attempts: 1, hourly: 1, hourly_users: 1, accounts: 0, leases: 0",
    )
    assert db("forget", "ann") == (0, "rows that named ann: 3", "")
    assert db("forget", "ann") == (0, "rows that named ann: 0", "")
    assert db("check") == (0, "The tables are in order.", "")


def test_one_process_at_a_time_deletes_what_is_old(db: Db, hodios_home: Path) -> None:
    db("upgrade")
    with sqlite3.connect(hodios_home / "hodios.db") as connection:
        connection.execute(
            "INSERT INTO chores (name, holder, until_s) VALUES ('retention', 'another', ?)", [time.time() + 60]
        )
    connection.close()
    code, _, err = db("purge", "--contents", "1")
    assert (code, "Another process is deleting what is old" in err) == (2, True)


def test_purging_has_bounds(db: Db) -> None:
    db("upgrade")
    code, _, err = db("purge")
    assert (code, err.startswith("Nothing is named that is to go.")) == (2, True)
    assert db("purge", "--attempts", "30")[0] == 2
    assert db("purge", "--accounts", "30")[0] == 2
    assert db("forget", "")[0] == 2


def test_a_database_that_is_away_is_one_sentence_without_its_password(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HODIOS_STORE_URL", "postgresql://ann:hunter2@127.0.0.1:1/hodios?password=hunter2")
    code, out, err = db("current")
    assert (code, out) == (2, "")
    assert "postgresql://ann@127.0.0.1:1/hodios cannot be used" in err
    assert "hunter2" not in err


def test_the_setting_has_a_section_of_its_own(db: Db, hodios_home: Path) -> None:
    (hodios_home / "hodios.toml").write_text(f'[store]\nurl = "sqlite:///{hodios_home}/elsewhere.db"\n')
    assert db("upgrade")[0] == 0
    assert (hodios_home / "elsewhere.db").exists()
