"""An API process: `python -m hodios.api --fd N --parent-fd M MODEL…`, each MODEL the JSON of a `Prepared`.

Answers on the inherited listening socket `--fd` with the settings of its environment, and ends when its parent does. Of
several it is the one with `--number`, and each of them has a `--socket` for the others.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop
from msgspec import structs

from hodios import config
from hodios.accounts.office import opened
from hodios.api.app import create_app
from hodios.api.guards import guarding_of
from hodios.api.processes import Processes
from hodios.api.server import Bounds, serve
from hodios.errors import NotYetReady, SetupError
from hodios.providers.base import Provider
from hodios.providers.catalog import manual_price
from hodios.providers.catalog_providers import Roster
from hodios.providers.catalog_store import CatalogStore
from hodios.providers.control_client import Control
from hodios.providers.echo import EchoProvider
from hodios.providers.launch import NOT_YET, REFUSED
from hodios.providers.launched import Siblings, launched
from hodios.providers.listing_shelf import ListingShelf
from hodios.providers.local import NAME, LocalModel, LocalProvider, load_local_model
from hodios.providers.prepared import Prepared
from hodios.providers.prices import PriceHistory, quotes_of_cards
from hodios.providers.remote import RemoteProvider
from hodios.providers.sync import Synchronizer
from hodios.store_settings import KeepDays, default_url


async def run(
    settings: config.Config,
    models: list[Prepared],
    sock: socket.socket,
    parent_fd: int | None,
    processes: Processes,
    control_path: Path | None = None,
    guard_path: Path | None = None,
) -> None:
    """Construct everything and answer until told to stop. Without a model the echo answers, for trying out clients."""
    if parent_fd is not None:
        asyncio.get_running_loop().add_reader(parent_fd, _end, parent_fd)
    local = LocalProvider([await _load(model, settings) for model in models])
    control = Control(control_path, local, lambda model: _load(model, settings), models) if control_path else None
    keys = config.remote_keys(settings)
    store = CatalogStore(settings)
    siblings = Siblings(settings.remote)
    providers: list[Provider] = [local] if models or control else []
    providers += launched(settings.launch, store.current, siblings, config.key_in)
    providers += [RemoteProvider(siblings.marked(remote), keys.get(remote.name)) for remote in settings.remote]
    roster = Roster(providers, store)
    if not roster:
        roster = Roster([EchoProvider()], store)
    synchronizer = _synchronizer(settings, store, roster, providers)
    url = settings.store_url or default_url(settings.home)
    accounts = opened(
        settings.home,
        url,
        keep=_keep(settings),
        limits_url=settings.limits_url,
        keys_secret=settings.keys_secret,
        num_processes=processes.num,
    )
    hearing = control.running() if control else contextlib.nullcontext()
    async with accounts as office, roster.watching(), synchronizer.running(), hearing:
        app = create_app(
            settings,
            roster,
            store=store,
            synchronizer=synchronizer,
            office=office,
            processes=processes,
            control=control,
            guarding=guarding_of(settings, guard_path),
        )
        _spare_collector()
        bounds = Bounds(settings.max_connections, settings.client_timeout_s, settings.keep_alive_s)
        await serve(app, sock, bounds=bounds)


def _keep(settings: config.Config) -> KeepDays:
    return KeepDays(
        contents=settings.keep_contents_days,
        requests=settings.keep_requests_days,
        attempts=settings.keep_attempts_days,
        sums=settings.keep_sums_days,
        accounts=settings.keep_accounts_days,
    )


def _synchronizer(
    settings: config.Config, store: CatalogStore, roster: Roster, providers: Sequence[Provider]
) -> Synchronizer:
    return Synchronizer(
        store,
        PriceHistory(settings.home),
        ListingShelf(settings.home),
        interval_s=settings.sync_interval_s,
        applied=roster.sync,
        more_quotes=lambda: [quote for each in providers for quote in quotes_of_cards(each.name, each.models())],
    )


def _spare_collector() -> None:
    """What is there stays to the end, and requests leave hardly a cycle behind: the collector of cycles need not look
    through it all several times a second."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def _load(model: Prepared, settings: config.Config) -> LocalModel:
    names = (model.card.id, *model.card.aliases)
    lower = {name.casefold() for name in names}
    family = next((family for name, family in settings.families if name.casefold() in lower), None)
    section = next((section for section in settings.providers if section.name == NAME), None)
    price = manual_price(section, *names) if section else None
    card = structs.replace(model.card, price=price) if price else model.card
    return await load_local_model(card, model.tokenizer_path, Path(model.socket), family=family)


def _end(parent_fd: int) -> None:
    # It stays readable for as long as open requests may still take.
    asyncio.get_running_loop().remove_reader(parent_fd)
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="hodios.api")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent-fd", type=int)
    parser.add_argument("--number", type=int, default=1)
    parser.add_argument("--socket", type=Path, action="append", default=[])
    parser.add_argument("--control", type=Path)
    parser.add_argument("--guard", type=Path)
    parser.add_argument("models", nargs="*")
    parsed = parser.parse_args(arguments)
    settings = config.load()
    # What libraries say of their own start and end is nobody's concern.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    # Nor what it says of requests that are none: anybody can send those without end.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("hodios").setLevel(settings.log_level.upper())
    models = [msgspec.json.decode(model, type=Prepared) for model in parsed.models]
    try:
        processes = Processes(parsed.number, parsed.socket)
        sock = socket.socket(fileno=parsed.fd)
        uvloop.run(run(settings, models, sock, parsed.parent_fd, processes, parsed.control, parsed.guard))
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return NOT_YET if isinstance(error, NotYetReady) else REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
