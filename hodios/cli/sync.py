"""`hodios sync`: ask providers what they list, and show what became otherwise; and the history of prices."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hodios.cli.console import known_key, program, server_url, stderr, stdout, visible
from hodios.config import Config, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hodios.providers.prices import PriceChange
    from hodios.providers.sync_report import Outcome, Standing, Told

_MOST_SHOWN = 5
_MOST_CHANGES = 1000


def sync(
    providers: Annotated[
        list[str] | None, typer.Argument(help="The providers to ask. [all that are in use]", show_default=False)
    ] = None,
    history: Annotated[
        str | None, typer.Option(help="Ask nobody: show what this model has cost, at each provider.", metavar="MODEL")
    ] = None,
) -> None:
    """Read prices, context lengths and availability from the providers' own lists of models, free of charge.

    The running server asks where there is one. Exit code 1 if a provider could not be asked.
    """
    config = load()
    if history is not None:
        _show_history(config, history)
        return
    outcomes = asyncio.run(_outcomes(config, providers or []))
    if not outcomes:
        stdout().print(f"No provider is in use that lists its models. {program()} models --all says why not.")
        return
    _show(outcomes)
    if any(outcome.state == "failed" for outcome in outcomes):
        raise typer.Exit(1)


async def _outcomes(config: Config, names: Sequence[str]) -> list[Outcome]:
    # Imported here because the catalog and the HTTP client would slow down every other command.
    from hodios.providers.catalog_store import CatalogStore
    from hodios.providers.client import Client
    from hodios.providers.listing_shelf import ListingShelf
    from hodios.providers.prices import PriceHistory
    from hodios.providers.sync import Synchronizer

    async with Client(server_url(config), known_key(config)) as client:
        if await client.answers("/health/live"):
            return await client.sync(names)
    synchronizer = Synchronizer(CatalogStore(config), PriceHistory(config.home), ListingShelf(config.home))
    await synchronizer.start()
    return await synchronizer.sync(names)


def _show(outcomes: Sequence[Outcome]) -> None:
    changes = [change for outcome in outcomes for change in outcome.changes]
    if changes:
        table = Table("provider", "model", "what", "before", "now", box=None, pad_edge=False)
        for change in changes:
            what = change.what.replace("_", " ")
            names = (visible(change.provider), visible(change.model), what)
            table.add_row(*names, _told(change.before), _told(change.after))
        stdout().print(table)
        stdout().print()
    table = Table("provider", "models", "refused", "result", "as of", box=None, pad_edge=False)
    for outcome in outcomes:
        standing = outcome.standing
        counts = (str(standing.num_models), str(standing.num_refused))
        table.add_row(visible(standing.provider), *counts, _result(outcome), _as_of(standing))
    stdout().print(table)
    for outcome in outcomes:
        _show_problems(outcome.standing)


def _result(outcome: Outcome) -> str:
    if outcome.state == "changed":
        return f"{len(outcome.changes)} changes" if len(outcome.changes) > 1 else "1 change"
    return outcome.state


def _as_of(standing: Standing) -> str:
    return f"{standing.read_at:%Y-%m-%d %H:%M} UTC" if standing.read_at else "never"


def _show_problems(standing: Standing) -> None:
    if standing.error:
        stderr().print(visible(standing.error), style="yellow")
    for refusal in standing.refused[:_MOST_SHOWN]:
        stderr().print(f"{visible(standing.provider)}: {visible(refusal.id)} is refused: {visible(refusal.reason)}")
    if standing.num_refused > _MOST_SHOWN:
        stderr().print(f"{visible(standing.provider)}: {standing.num_refused - _MOST_SHOWN} more are refused")


def _show_history(config: Config, model: str) -> None:
    from hodios.providers.catalog_store import CatalogStore
    from hodios.providers.prices import PriceHistory

    row = CatalogStore(config).current.find(model)
    changes = PriceHistory(config.home).changes(model=row.id if row else model, most=_MOST_CHANGES)
    if not changes:
        stdout().print(f"No price of {visible(model)} is known. To ask providers: {program()} sync")
        return
    stdout().print(_history(changes))


def _history(changes: Sequence[PriceChange]) -> Table:
    from hodios.providers.prices import in_dollars

    table = Table("provider", "its id", "since", "source", "before", "price", box=None, pad_edge=False)
    for change in sorted(changes, key=lambda change: (change.provider, change.offer, change.via)):
        provider = f"{change.provider} ({change.via})" if change.via else change.provider
        names = (visible(provider), visible(change.offer), f"{change.at:%Y-%m-%d %H:%M} UTC", change.source)
        table.add_row(*names, _told(in_dollars(change.old)), _told(in_dollars(change.new)))
    return table


def _told(value: Told) -> str:
    """Dollars per million tokens, as `0.14 in, 0.28 out`; a number of tokens as it is."""
    if not isinstance(value, dict):
        return "-" if value is None else str(value)
    words = {"prompt": "in", "completion": "out", "cached": "cached", "request": "per request"}
    shown = [f"${amount} {words[key]}" for key, amount in value.items() if key != "request" or amount != "0"]
    return ", ".join(shown)
