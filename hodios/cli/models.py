"""`hodios models`: what is installed, what others offer, and what it costs; and loading and unloading."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from hodios.cli.console import gigabytes, known_key, program, server_url, stderr, stdout, visible
from hodios.config import Config, load
from hodios.errors import HodiosError, SetupError
from hodios.money import dollars
from hodios.providers.installed import InstalledModel, installed
from hodios.types import Price

if TYPE_CHECKING:
    from hodios.providers.catalog import Catalog
    from hodios.providers.catalog_rows import Offer
    from hodios.providers.client import LocalState

_PRICES = ("$/M in", "$/M out")
_STATES = {
    "ready": "ready",
    "loading": "still loading; hodios models shows when it is served",
    "installed": "not served any more",
}


models = typer.Typer(name="models", rich_markup_mode=None)
_Name = Annotated[str, typer.Argument(help="Id or alias of an installed model.", show_default=False)]


@models.callback(invoke_without_command=True)
def _list(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="The whole catalog, also what is neither installed nor offered here.")
    ] = False,
) -> None:
    """List the installed models, and those that providers offer, with prices in dollars per million tokens."""
    if context.invoked_subcommand is not None:
        return
    # Imported here because the catalog is not read for other commands.
    from hodios.providers.catalog_store import CatalogStore
    from hodios.providers.listing_shelf import ListingShelf

    config = load()
    store = CatalogStore(config)
    ListingShelf(config.home).lay_out(store)
    _show_installed(config)
    offers = _offers(store.current, everything=everything)
    if offers.row_count:
        stdout().print()
        stdout().print(offers)
    if store.problem:
        stderr().print(store.problem, style="yellow")


@models.command("load")
def _load(model: _Name) -> None:
    """Serve an installed model too, until the running server stops.

    What a start serves, the setting engine.models says.
    """
    _turn(model, "load")


@models.command("unload")
def _unload(model: _Name) -> None:
    """Serve a model no more.

    Answers under way have 30 seconds to end. The model stays installed.
    """
    _turn(model, "unload")


def _turn(model: str, action: Literal["load", "unload"]) -> None:
    config = load()
    with stderr().status(Text(f"{visible(model)}: {action}ing …")):
        told = asyncio.run(_turned(config, model, action))
    stdout().print(f"{visible(told.id)}: {_STATES.get(told.state, told.state)}")


async def _turned(config: Config, model: str, action: Literal["load", "unload"]) -> LocalState:
    # Imported here because the HTTP client would slow down every other command.
    from hodios.providers.client import Client

    async with Client(server_url(config), known_key(config)) as client:
        return await client.turn(model, action)


def _show_installed(config: Config) -> None:
    found = installed(config.home)
    if not found:
        stdout().print(f"No model is installed in {config.home}. To fetch the starter model: {program()} pull starter")
        return
    served = asyncio.run(_served(config))
    table = Table("model", "quantization", "size", "context", *_PRICES, "served", box=None, pad_edge=False)
    problems = []
    for model in found:
        context, problem = _context(model, config)
        problems += [problem] if problem else []
        row = (model.id, model.quantization or "?", gigabytes(model.size_bytes), context)
        table.add_row(*row, *_amounts(_local_price(model, config)), served.get(model.id.lower(), "no"))
    stdout().print(table)
    for problem in problems:
        stderr().print(problem, style="yellow")


def _local_price(model: InstalledModel, config: Config) -> Price:
    from hodios.providers.catalog import manual_price

    section = next((section for section in config.providers if section.name == "local"), None)
    return (manual_price(section, model.id, *model.aliases) if section else None) or Price()


def _offers(catalog: Catalog, *, everything: bool) -> Table:
    """One row per offer; with `everything` also of providers that are not asked, and models that nobody offers."""
    from hodios.providers.catalog_remotes import chosen_offers, context_length

    asked = {id(offer) for offer in chosen_offers(catalog).values()}
    shown = [offer for offer in catalog.offers if everything or id(offer) in asked]
    table = Table(
        "model", "provider", "its id", "context", "answer", *_PRICES, "as of", "asked", box=None, pad_edge=False
    )
    for offer in sorted(shown, key=lambda offer: (offer.model.casefold(), offer.provider)):
        context, answer = (str(number or "-") for number in (context_length(catalog, offer), offer.max_output_tokens))
        date = offer.as_of.isoformat() if offer.as_of else "-"
        provider = f"{offer.provider} ({offer.via})" if offer.via else offer.provider
        state = "yes" if id(offer) in asked else _why_not(catalog, offer)
        table.add_row(offer.model, provider, offer.id, context, answer, *_amounts(catalog.price(offer)), date, state)
    offered = {offer.model for offer in catalog.offers}
    for row in catalog.models.values() if everything else ():
        if row.id not in offered:
            state = "no: it can be pulled" if row.hub.gguf else "no: nobody offers it"
            table.add_row(row.id, "-", "-", str(row.context_length), *("-",) * 4, state)
    return table


def _why_not(catalog: Catalog, offer: Offer) -> str:
    if offer.provider in catalog.inactive:
        return f"no: {catalog.inactive[offer.provider]}"
    return "no: another offer is" if offer.is_available else "no: it is no longer listed"


def _amounts(price: Price) -> tuple[str, str]:
    return (dollars(price.prompt), dollars(price.completion)) if price.is_known else ("?", "?")


def _context(model: InstalledModel, config: Config) -> tuple[str, str]:
    """The context length to show, and what is wrong with the file where it cannot be served."""
    # Imported here because it loads what reads GGUF files.
    from hodios.providers.prepare import prepare

    try:
        return str(prepare(model, config).card.context_length), ""
    except SetupError as error:
        return "-", f"{model.id} cannot be served: {error}"


async def _served(config: Config) -> dict[str, str]:
    """Status of each model that a running server offers; empty where none runs."""
    from hodios.providers.client import Client

    try:
        async with Client(server_url(config), known_key(config)) as client:
            return {model.id.lower(): model.status or "yes" for model in await client.models(is_probe=True)}
    except (SetupError, HodiosError):
        return {}
