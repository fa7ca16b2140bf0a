"""`hodios db`: the tables in which keys, budgets and usage are kept: brought up to date, looked at, checked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import typer

from hodios.cli.console import program, stdout
from hodios.config import load
from hodios.errors import SetupError
from hodios.store_settings import default_url, shown

if TYPE_CHECKING:
    from hodios.store.database import Database

T = TypeVar("T")
db = typer.Typer(
    help="The tables in which keys, budgets and usage are kept.", no_args_is_help=True, rich_markup_mode=None
)


@db.command()
def upgrade() -> None:
    """Bring the tables to the form that this version needs. What is in them stays."""
    from hodios.store import migration

    async def work(database: Database) -> tuple[str | None, str]:
        before = await migration.current(database)
        await migration.upgrade(database)
        return before, migration.head()

    before, after = _run(work)
    stdout().print(f"up to date at {after}" if before == after else f"{before or 'empty'} -> {after}")


@db.command()
def current() -> None:
    """Show where the tables are, which revision they have, and which one this version needs."""
    from hodios.store import migration

    revision = _run(migration.current)
    stdout().print(f"{_url_shown()}: {revision or 'empty'}, needed: {migration.head()}", soft_wrap=True)


@db.command()
def check() -> None:
    """Check that the tables have the form that this version needs, and that what is leased adds up.

    Exit code 1 if something is not as it should be.
    """
    from hodios.store import migration
    from hodios.store.leases import Leases

    async def work(database: Database) -> list[str]:
        revision = await migration.current(database)
        if revision != migration.head():
            return [f"The tables have revision {revision or 'none'}. Run: {program()} db upgrade"]
        unequal = await Leases(database).discrepancies()
        changed = [f"not as the program needs it: {difference}" for difference in await migration.differences(database)]
        return [*changed, *(f"more or less is leased than processes have: {account}" for account in unequal)]

    problems = _run(work)
    for problem in problems:
        stdout().print(problem, soft_wrap=True, markup=False)
    if problems:
        raise typer.Exit(1)
    stdout().print("The tables are in order.")


def _url() -> str:
    config = load()
    return config.store_url or default_url(config.home)


def _url_shown() -> str:
    return shown(_url())


def _run(work: Callable[[Database], Awaitable[T]]) -> T:
    # Imported here because the database would slow down every other command.
    from hodios.store.database import Database
    from hodios.store.failures import StoreUnavailable

    async def run() -> T:
        database = Database.open(_url(), is_patient=True)
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except StoreUnavailable as error:
        raise SetupError(f"{_url_shown()} cannot be used: {error}. Start it, or set HODIOS_STORE_URL.") from error
