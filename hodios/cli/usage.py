"""`hodios usage`: what was asked and what it cost, as sums or request by request, and what that suggests."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from msgspec import Struct
from rich.table import Table

from hodios.accounts.spans import ACCEPTS, moment_s
from hodios.cli.account_tables import print_json, run_on_store
from hodios.cli.console import stdout, visible
from hodios.config import Config, load
from hodios.errors import InvalidRequest
from hodios.money import dollars
from hodios.types import Price

if TYPE_CHECKING:
    from hodios.accounts.recommendation import Recommendation
    from hodios.accounts.registry import Registry
    from hodios.store.database import Database
    from hodios.store.reports import Reports, Spend

DEFAULT_SPAN_S = 30 * 86400.0
_COUNTS = (
    "num_requests",
    "num_errors",
    "num_filtered",
    "num_attempts",
    "num_failed_attempts",
    "num_unpriced",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
)
_OF_USERS = {"num_filtered": "filtered", "most_requests": "most an hour"}
"""By which those are found who ask for what they should not, or too much."""
_SHOWN = {"num_requests": "requests", "num_errors": "errors", "prompt_tokens": "in", "cached_tokens": "of it cached"}
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
_Filter = Annotated[str | None, typer.Option(help="Only this one.", show_default=False)]


class _Asked(Struct, frozen=True, kw_only=True):
    """What the command line says."""

    by: tuple[str, ...]
    since_s: float
    until_s: float
    filters: dict[str, Any]
    """Fields of `Chosen` and `Wanted`."""
    is_csv: bool
    is_json: bool


def usage(
    by: Annotated[
        str, typer.Option(help="What the sums are by: key, project, model, provider, user, day, or several of them.")
    ] = "model,provider",
    since: Annotated[
        str | None, typer.Option("--from", help=f"From when on: {ACCEPTS}. [30 days ago]", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Until when; a day is taken whole. [now]", show_default=False)
    ] = None,
    key: _Filter = None,
    project: _Filter = None,
    model: _Filter = None,
    provider: _Filter = None,
    user: _Filter = None,
    requests: Annotated[
        bool, typer.Option("--requests", help="Every request by itself, the newest first, as CSV.")
    ] = False,
    recommendations: Annotated[
        bool,
        typer.Option(
            "--recommendations",
            help="Who would cost less or be faster, what is nearly spent, what requests could do better.",
        ),
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values, with more columns.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON; of requests one object a line.")] = False,
) -> None:
    """Show what was used and what it cost, in dollars. Works on the store; no server is needed.

    Sums are of whole hours of UTC.
    """
    until_s = _moment(until, "--to", is_end=True) or time.time()
    asked = _Asked(
        by=tuple(dict.fromkeys(by.split(","))),
        since_s=_moment(since, "--from", is_end=False) or max(0.0, until_s - DEFAULT_SPAN_S),
        until_s=until_s,
        filters={"key_id": key, "project_id": project, "model": model, "provider": provider, "user": user},
        is_csv=as_csv,
        is_json=as_json,
    )
    if recommendations:
        _show_recommendations(asked)
    elif requests:
        _show_requests(asked)
    else:
        _show_sums(asked)


def _moment(text: str | None, option: str, *, is_end: bool) -> float | None:
    if text is None:
        return None
    try:
        return moment_s(text, is_end=is_end)
    except ValueError:
        raise InvalidRequest(f"{option}: {text!r} is not accepted; accepted: {ACCEPTS}") from None


def _show_sums(asked: _Asked) -> None:
    # Imported here because the database would slow down every other command.
    from hodios.api.usage_entries import ActivityList, activity_of, day_of
    from hodios.store.reports import Reports

    async def work(registry: Registry, database: Database) -> list[Spend]:
        return await _sums(Reports(database), asked)

    spends = run_on_store(work)
    if asked.is_json:
        print_json(ActivityList([activity_of(spend, asked.by) for spend in spends]))
        return
    counts = (*_COUNTS, "most_requests") if "user" in asked.by else _COUNTS
    rows = [
        {
            name: day_of(value) if type(value) is int else value
            for name, value in zip(asked.by, spend.group, strict=True)
        }
        | {count: getattr(spend, count) for count in counts}
        | {"cost": dollars(spend.cost)}
        for spend in spends
    ]
    if asked.is_csv:
        _write_csv((*asked.by, *counts, "cost"), rows)
    elif rows:
        stdout().print(_table(asked.by, rows, sum(spend.cost for spend in spends)))
    else:
        stdout().print("Nothing was used in this time.")


async def _sums(reports: Reports, asked: _Asked) -> list[Spend]:
    from hodios.api.usage_entries import DIMENSIONS, from_store
    from hodios.store.reports import Chosen

    unknown = [name for name in asked.by if name not in DIMENSIONS]
    if unknown:
        raise InvalidRequest(f"--by: {unknown[0]!r} is not accepted; accepted: {', '.join(DIMENSIONS)}")
    chosen = Chosen(since_s=asked.since_s, until_s=asked.until_s, **asked.filters)
    by = [DIMENSIONS[name][0] for name in asked.by]
    try:
        return await from_store(reports.spend(by, chosen, is_by_cost="day" not in asked.by))
    except ValueError as error:
        raise InvalidRequest(f"--by: {error}") from None


def _table(by: tuple[str, ...], rows: list[dict[str, Any]], cost: int) -> Table:
    shown = {**_SHOWN, "completion_tokens": "out", **(_OF_USERS if "user" in by else {})}
    table = Table(*by, *shown.values(), "$", box=None, pad_edge=False)
    for row in rows:
        counts = (str(row[name]) for name in shown)
        table.add_row(*(visible(str(row[name] or "-")) for name in by), *counts, row["cost"])
    table.add_row(*("",) * (len(by) + len(shown)), dollars(cost))
    return table


def _show_requests(asked: _Asked) -> None:
    """One after the other as they are read, so that there may be any number of them."""
    from hodios.api.usage_entries import Query, query_of
    from hodios.errors import Overloaded
    from hodios.store.failures import StoreUnavailable
    from hodios.store.reports import Reports, Wanted

    columns = Query.__struct_encode_fields__

    async def work(registry: Registry, database: Database) -> None:
        reports, names = Reports(database), dict[str, str]()
        writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
        if not asked.is_json:
            writer.writeheader()
        wanted = Wanted(since_s=asked.since_s, until_s=asked.until_s, **asked.filters)
        try:
            async for logged in reports.all_requests(wanted):
                if logged.key_id not in names:
                    names[logged.key_id] = (await reports.names_of_keys([logged.key_id])).get(logged.key_id, "")
                entry = query_of(logged, names[logged.key_id] or None)
                if asked.is_json:
                    sys.stdout.write(msgspec.json.encode(entry).decode() + "\n")
                else:
                    writer.writerow(_cells(msgspec.structs.asdict(entry)))
        except StoreUnavailable as error:
            raise Overloaded(f"the store cannot be read any further: {error}") from error

    run_on_store(work)


def _show_recommendations(asked: _Asked) -> None:
    from hodios.accounts.recommendations import recommended
    from hodios.api.recommendations import advice_of
    from hodios.api.usage_entries import from_store

    prices = _prices(load())

    async def work(registry: Registry, database: Database) -> list[Recommendation]:
        reading = recommended(database, registry, prices, asked.since_s, asked.until_s)
        return await from_store(reading)

    found = run_on_store(work)
    advice = [advice_of(each) for each in found]
    if asked.is_json:
        print_json(advice)
    elif asked.is_csv:
        rows = [msgspec.structs.asdict(each) for each in advice]
        _write_csv(tuple(advice[0].__struct_fields__) if advice else (), rows)
    else:
        for each in advice or ():
            stdout().print(visible(each.message))
        if not advice:
            stdout().print("Nothing to recommend for what was used in this time.")


def _prices(config: Config) -> dict[str, dict[str, Price]]:
    """Model → provider → price, of all that the settings and the catalog say is asked."""
    from hodios.providers.catalog_remotes import chosen_offers
    from hodios.providers.catalog_store import CatalogStore
    from hodios.providers.listing_shelf import ListingShelf

    store = CatalogStore(config)
    ListingShelf(config.home).lay_out(store)
    prices: dict[str, dict[str, Price]] = {}
    for (provider, model), offer in chosen_offers(store.current).items():
        prices.setdefault(model, {})[provider] = store.current.price(offer)
    for remote in config.remote:
        for row in remote.models:
            prices.setdefault(row.id, {})[remote.name] = row.price
    return prices


def _write_csv(columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> None:
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_cells, rows))


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """Clients name themselves and models: what a spreadsheet would take for a formula is text there with a `'`."""
    return {
        name: f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value
        for name, value in row.items()
    }
