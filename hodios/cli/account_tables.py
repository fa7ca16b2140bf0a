"""Keys and projects for people to read; what the store says of them is read and changed here, no server needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer
from rich.table import Table

from hodios.cli.console import stdout, visible
from hodios.config import load
from hodios.store_settings import default_url

if TYPE_CHECKING:
    from hodios.accounts.registry import Registry
    from hodios.api.account_answers import KeyDetails, ProjectDetails
    from hodios.store.database import Database

    Details = KeyDetails | ProjectDetails

T = TypeVar("T")
Id = Annotated[str, typer.Argument(help="As `list` shows it.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="As the HTTP API answers it.")]
_PERIODS = {"total": "ever", "daily": "a day", "weekly": "a week", "monthly": "a month"}


def run(work: Callable[[Registry], Awaitable[T]]) -> T:
    """With the store that the settings name. Raises SetupError where it cannot be used."""
    return run_on_store(lambda registry, _: work(registry))


def run_on_store(work: Callable[[Registry, Database], Awaitable[T]]) -> T:
    """As `run`."""
    # Imported here because the database would slow down every other command.
    from hodios.accounts.office import obtain_secret, ready_tables
    from hodios.accounts.registry import Registry
    from hodios.store.database import Database

    config = load()
    url = config.store_url or default_url(config.home)

    async def opened() -> T:
        secret = obtain_secret(config.home, config.keys_secret)
        database = Database.open(url)
        try:
            await ready_tables(database, url)
            return await work(Registry(database, secret), database)
        finally:
            await database.close()

    return asyncio.run(opened())


def print_json(value: object) -> None:
    stdout().print(msgspec.json.format(msgspec.json.encode(value)).decode(), soft_wrap=True)


def show(details: Details, *, as_json: bool) -> None:
    """One record, a line for each field."""
    if as_json:
        print_json(details)
        return
    table = Table("field", "value", box=None, pad_edge=False, show_header=False)
    for name, value in msgspec.structs.asdict(details).items():
        if name == "budget":
            table.add_row(name, budget(details) or "-")
        elif name == "usage":
            for period, usage in msgspec.structs.asdict(value).items():
                left = "" if usage.left is None else f", ${usage.left} left"
                until = "" if usage.resets_at is None else f" until {_shown(usage.resets_at)}"
                table.add_row(f"spent, {period}", f"${usage.spent}{left}{until}")
        elif name != "object":
            table.add_row(name.replace("_", " "), _shown(value))
    stdout().print(table)


def table_of(keys: Sequence[KeyDetails]) -> Table:
    table = Table(
        *("id", "prefix", "name", "owner", "project", "budget", "spent", "left", "state", "last used"),
        box=None,
        pad_edge=False,
    )
    for key in keys:
        names = (key.id, key.prefix, *(visible(text) or "-" for text in (key.name, key.owner)), key.project or "-")
        table.add_row(*names, *_money(key), _state(key), _shown(key.last_used_at))
    return table


def table_of_projects(projects: Sequence[ProjectDetails]) -> Table:
    table = Table("id", "name", "budget", "spent", "left", "state", box=None, pad_edge=False)
    for project in projects:
        state = "disabled" if project.disabled else "good"
        table.add_row(project.id, visible(project.name) or "-", *_money(project), state)
    return table


def budget(details: Details) -> str:
    """`$5 a day, $100 ever`."""
    amounts = msgspec.structs.asdict(details.budget)
    return ", ".join(f"${amounts[name]} {told}" for name, told in _PERIODS.items() if amounts[name] is not None)


def _money(details: Details) -> tuple[str, str, str]:
    """The budgets, what was spent ever, and the least that a budget has left."""
    usages = msgspec.structs.asdict(details.usage).values()
    left = min((usage.left for usage in usages if usage.left is not None), key=float, default=None)
    return budget(details) or "-", f"${details.usage.total.spent}", "-" if left is None else f"${left}"


def _state(key: KeyDetails) -> str:
    if key.disabled:
        return "disabled"
    if key.expires_at is None:
        return "good"
    return "expired" if key.expires_at.timestamp() <= time.time() else f"until {_shown(key.expires_at)}"


def _shown(value: Any) -> str:
    match value:
        case None | "" | {}:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M} UTC"
        case list():
            return visible(", ".join(value)) or "none"
        case dict():
            return visible(", ".join(f"{name}={text}" for name, text in value.items())) or "-"
    return visible(str(value))
