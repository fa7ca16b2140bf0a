"""`hodios serve`: prepares everything, and then becomes the parent that starts the processes and keeps them alive."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, NoReturn

import msgspec
import typer
from msgspec import structs

from hodios import admin_key, launches
from hodios.cli.console import download_progress, program, stderr
from hodios.config import Config, environment, exposed_file, load, remote_keys, with_overrides
from hodios.errors import ConfigError, SetupError
from hodios.providers.installed import InstalledModel, find, installed
from hodios.providers.starter import fetch_starter
from hodios.store.revision import is_needed
from hodios.store_settings import default_url, sqlite_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hodios.launches import Launch
    from hodios.providers.catalog_store import CatalogStore
    from hodios.providers.prepared import Prepared


def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on.", show_default=False)] = None,
    port: Annotated[int | None, typer.Option(help="The port to listen on.", show_default=False)] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="An installed model to serve; may be repeated. [all]", show_default=False)
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads per model.", show_default=False)] = None,
    exact: Annotated[
        bool | None, typer.Option("--exact/--fast", help="Hold weights exactly as in the file.", show_default=False)
    ] = None,
) -> None:
    """Serve the installed models, those of other servers that the settings name or have started, and those of providers
    whose keys are set.

    Where there is nothing of all that, the starter model is fetched first.
    """
    config = load(with_overrides(host=host, port=port, models=model or None, threads=threads, exact=exact))
    remote_keys(config)
    if (exposed := exposed_file()) is not None:
        stderr().print(f"{exposed.sentence}. {exposed.fix}", style="yellow")
    config = structs.replace(_with_key(config), launch=placed(config.launch))
    listener = bind(config)
    providers = others(config)
    prepared = prepare_all(chosen(config, providers), config, providers)
    ready_store(config)
    _become_parent(
        structs.replace(config, models=tuple(each.card.id for each in prepared)), prepared, providers, listener
    )


def _become_parent(
    config: Config, prepared: Sequence[Prepared], providers: Sequence[str], listener: socket.socket
) -> NoReturn:
    """This very process, by its number, goes on as `cli.parent`."""
    try:
        listener.listen(2048)
    except OSError as error:
        raise _cannot_listen(config, error) from error
    listener.set_inheritable(True)
    console = stderr()
    command = [
        *(sys.executable, "-m", "hodios.cli.parent", "--fd", str(listener.fileno()), "--program", sys.argv[0]),
        *(f"--provider={name}" for name in providers),
        *(("--colors",) if console.color_system and not console.no_color else ()),
        *(msgspec.json.encode(each).decode() for each in prepared),
    ]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, environment(config))


def ready_store(config: Config) -> None:
    """SQLite's tables are brought up to date here, so that no process that stays loads what does that. Raises
    SetupError."""
    path = sqlite_path(config.store_url or default_url(config.home))
    if path is None or is_needed(path):
        return
    # Imported here because the database would slow down every other start.
    from hodios.accounts.office import ready_tables
    from hodios.store.database import Database

    url = config.store_url or default_url(config.home)

    async def ready() -> None:
        database = Database.open(url)
        try:
            await ready_tables(database, url)
        finally:
            await database.close()

    asyncio.run(ready())


def placed(wanted: Sequence[Launch]) -> tuple[Launch, ...]:
    """Each with a port of its own, which is free at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in wanted]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        ports = [held.getsockname()[1] for held in sockets]
    return tuple(launches.placed(launch, port, sys.executable) for launch, port in zip(wanted, ports, strict=True))


def bind(config: Config) -> socket.socket:
    """A socket on the configured address, not yet listening: nobody shall wait for a model that is still coming."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_listen(config, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _cannot_listen(config, error) from error
    return listener


def others(config: Config) -> list[str]:
    """From whom models come beside the engine: servers to be started, those that the settings name, and those of the
    catalog that may be asked and may have something to offer."""
    # Imported here because it loads the dialogs of all families.
    from hodios.providers.catalog_remotes import chosen_offers
    from hodios.providers.listing_shelf import ListingShelf

    store = _catalog_store(config)
    ListingShelf(config.home).lay_out(store)
    catalog = store.current
    offering = {provider for provider, _ in chosen_offers(catalog)}
    return [
        *(launch.name for launch in config.launch),
        *(remote.name for remote in config.remote),
        *(
            name
            for name, row in catalog.providers.items()
            if name in offering or (catalog.is_active(name) and row.has_unlisted)
        ),
    ]


def chosen(config: Config, providers: Sequence[str]) -> list[InstalledModel]:
    """The installed models that `models` names, or all. Where there are none, the starter model is fetched, unless
    models come from `providers`."""
    found = installed(config.home)
    if not found and not config.models:
        found = [] if providers else _starter(config)
        if providers:
            stderr().print(
                f"No model is installed here; others serve theirs: {', '.join(providers)}. "
                f"To add the starter model (98 MB): {program()} pull starter"
            )
    if not config.models:
        return found
    wanted = {}
    for name in config.models:
        model = find(found, name)
        if model is None:
            there = ", ".join(each.id for each in found) or "none"
            raise ConfigError(f"The model {name!r} is not installed (there: {there}). Run: {program()} pull {name}")
        wanted[model.id] = model
    return list(wanted.values())


def _catalog_store(config: Config) -> CatalogStore:
    from hodios.providers.catalog_store import CatalogStore

    return CatalogStore(config)


def _starter(config: Config) -> list[InstalledModel]:
    """The starter model, fetched because nobody else has anything to serve."""
    if config.providers:
        inactive = _catalog_store(config).current.inactive
        for section in config.providers:
            if section.enabled is not False and section.name in inactive:
                stderr().print(f"{section.name} is not asked: {inactive[section.name]}.", style="yellow")
    with download_progress() as progress:
        fetch_starter(config.home, progress)
    return installed(config.home)


def prepare_all(models: list[InstalledModel], config: Config, providers: Sequence[str]) -> list[Prepared]:
    """Those that can be served; what is wrong with the others is told. Raises SetupError where nothing is left, and
    `providers` have nothing either."""
    if not models and providers:
        return []
    # Imported here because it loads what reads GGUF files.
    from hodios.providers.prepare import prepare

    prepared = []
    for model in models:
        try:
            prepared.append(prepare(model, config))
        except SetupError as error:
            if len(models) == 1 and not providers:
                raise
            stderr().print(f"{model.id} is not served: {error}", style="yellow")
    if not prepared and not providers:
        raise SetupError("None of the installed models can be served. Install another: hodios pull author/name")
    return prepared


def _with_key(config: Config) -> Config:
    if config.admin_key is not None:
        return config
    key = admin_key.obtain(config.home)
    if key.is_new:
        stderr().print(f"A new admin key is kept in {key.path}")
    if key.was_exposed:
        told = f"{key.path} was readable by others and is no more. If others use this machine, remove it for a new key."
        stderr().print(told, style="yellow")
    return structs.replace(config, admin_key=key.value)


def _cannot_listen(config: Config, error: OSError) -> SetupError:
    return SetupError(
        f"Cannot listen on {config.host} port {config.port}: {error.strerror}. "
        f"If another program has the port, choose another one: {program()} serve --port {config.port + 1}"
    )
