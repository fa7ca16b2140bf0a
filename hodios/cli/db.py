"""`hodios db`: the tables in which keys, budgets and usage are kept: brought up to date, looked at, checked, and
freed of what is old."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from hodios.cli.console import program, stdout, visible
from hodios.config import load
from hodios.errors import Conflict, InvalidRequest, SetupError
from hodios.store_settings import LEAST_ACCOUNTS_DAYS, LEAST_ATTEMPTS_DAYS, KeepDays, default_url, shown

if TYPE_CHECKING:
    from hodios.store.database import Database

T = TypeVar("T")
db = typer.Typer(
    help="The tables in which keys, budgets and usage are kept.", no_args_is_help=True, rich_markup_mode=None
)


def _days(what: str, least: int) -> Any:
    return typer.Option(metavar="DAYS", min=least, help=f"{what} older than that.", show_default=False)


@db.command()
def upgrade() -> None:
    """Bring the tables to the form that this version needs. What is in them stays."""
    from hodios.store import migration, revision

    async def work(database: Database) -> tuple[str | None, str]:
        before = await revision.current(database)
        await migration.upgrade(database)
        return before, revision.NEEDED

    before, after = _run(work)
    stdout().print(f"up to date at {after}" if before == after else f"{before or 'empty'} -> {after}")


@db.command()
def current() -> None:
    """Show where the tables are, which revision they have, and which one this version needs."""
    from hodios.store import revision

    found = _run(revision.current)
    stdout().print(f"{_url_shown()}: {found or 'empty'}, needed: {revision.NEEDED}", soft_wrap=True)


@db.command()
def check() -> None:
    """Check that the tables have the form that this version needs, and that what is leased adds up.

    Exit code 1 if something is not as it should be.
    """
    from hodios.store import migration, revision
    from hodios.store.leases import Leases

    async def work(database: Database) -> list[str]:
        found = await revision.current(database)
        if found != revision.NEEDED:
            return [f"The tables have revision {found or 'none'}. Run: {program()} db upgrade"]
        unequal = await Leases(database).discrepancies()
        changed = [f"not as the program needs it: {difference}" for difference in await migration.differences(database)]
        return [*changed, *(f"more or less is leased than processes have: {account}" for account in unequal)]

    problems = _run(work)
    for problem in problems:
        stdout().print(problem, soft_wrap=True, markup=False)
    if problems:
        raise typer.Exit(1)
    stdout().print("The tables are in order.")


@db.command()
def purge(
    contents: Annotated[int | None, _days("Stored prompts and answers", 1)] = None,
    requests: Annotated[int | None, _days("The log of requests", 1)] = None,
    attempts: Annotated[int | None, _days("The ledger of attempts", LEAST_ATTEMPTS_DAYS)] = None,
    sums: Annotated[int | None, _days("Sums by hour", 1)] = None,
    accounts: Annotated[int | None, _days("What was spent in days, weeks and months", LEAST_ACCOUNTS_DAYS)] = None,
) -> None:
    """Delete what is older than so many days, a little at a time, beside a server that runs.

    What keys and projects have spent in all stays, and so do the budgets of this day, week and month.
    """
    from hodios.accounts.housekeeper import Housekeeper

    keep = KeepDays(contents=contents, requests=requests, attempts=attempts, sums=sums, accounts=accounts)
    if keep == KeepDays():
        raise InvalidRequest(f"Nothing is named that is to go. For example: {program()} db purge --requests 90")
    holder = f"purge-{secrets.token_hex(8)}"
    gone = _run(lambda database: Housekeeper(database, holder, keep).clean())
    if gone is None:
        raise Conflict("Another process is deleting what is old at this moment. Try again in a few minutes.")
    stdout().print(", ".join(f"{table}: {num_rows}" for table, num_rows in gone.items()))


@db.command()
def forget(
    user: Annotated[str, typer.Argument(help="As clients have called the person, in `user`.", show_default=False)],
    project: Annotated[str | None, typer.Option(help="In this project alone.", show_default=False)] = None,
) -> None:
    """Delete a person's name wherever it stands. What was done on his behalf stays, as nobody's."""
    from hodios.store.retention import Retention

    if not user:
        raise InvalidRequest("user: '' is not accepted; accepted: a name")
    num_rows = _run(lambda database: Retention(database).delete_user(user, project))
    stdout().print(f"rows that named {visible(user)}: {num_rows}")


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
