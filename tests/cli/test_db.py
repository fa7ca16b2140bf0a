"""`hodios db` as it is typed, on the SQLite file that is taken without any settings."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hodios.cli.main import main
from hodios.store.migration import head

Db = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def db(hodios_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Db:
    """`db("check")` runs the command in this process: (exit code, stdout, stderr)."""

    def run(command: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hodios", "db", command])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out.strip(), said.err

    return run


def test_tables_are_made_where_nothing_is_set(db: Db, hodios_home: Path) -> None:
    where = f"sqlite:///{hodios_home}/hodios.db"
    assert db("current") == (0, f"{where}: empty, needed: {head()}", "")
    code, out, _ = db("check")
    assert (code, out.startswith("The tables have revision none.")) == (1, True)
    assert db("upgrade") == (0, f"empty -> {head()}", "")
    assert db("upgrade") == (0, f"up to date at {head()}", "")
    assert db("current") == (0, f"{where}: {head()}, needed: {head()}", "")
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
