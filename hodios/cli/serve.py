"""`hodios serve`: a parent that prepares everything, starts the API and one engine per model, and keeps them alive."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from msgspec import structs

from hodios import admin_key, launches
from hodios.cli.announcement import lines, state_of_all
from hodios.cli.console import download_progress, program, server_url, stderr, stdout
from hodios.cli.control import ControlServer
from hodios.cli.local_models import LocalModels
from hodios.cli.pulls import Pulls
from hodios.cli.ui import login_link
from hodios.config import Config, environment, foreign_environment, load, remote_keys, with_overrides
from hodios.errors import ConfigError, SetupError
from hodios.guard_settings import GuardSettings
from hodios.providers.installed import InstalledModel, find, installed
from hodios.providers.launch import Child, ChildEvent, Pace, Supervisor
from hodios.providers.prepared import Prepared, worker_options
from hodios.providers.report import Report
from hodios.providers.sockets import socket_path
from hodios.providers.starter import fetch_starter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hodios.launches import Launch
    from hodios.providers.catalog_store import CatalogStore

_STOP_S = 45.0
"""A little more than the API gives open requests to finish, and then itself to tell the store what they cost."""
_API = "api"
_GUARD = "the content filter"
"""No model's id has a space."""
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_API_STAGE = 1
"""Above the engines: the API lets open requests finish before their engines go."""


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
    config = structs.replace(_with_key(config), launch=placed(config.launch))
    listener = bind(config)
    providers = others(config)
    prepared = prepare_all(chosen(config, providers), config, providers)
    config = structs.replace(config, models=tuple(each.card.id for each in prepared))
    sys.exit(asyncio.run(_Service(config, prepared, providers, listener).run()))


def engine_child(config: Config, prepared: Prepared, parent_fd: int) -> Child:
    return Child(
        name=prepared.card.id,
        argv=(
            *(sys.executable, "-m", "hodios.engine.worker", "--parent-fd", str(parent_fd)),
            msgspec.json.encode(worker_options(prepared, config)).decode(),
        ),
        env=environment(structs.replace(config, launch=(), workers=1), with_key=False),
    )


def children(
    config: Config,
    prepared: Sequence[Prepared],
    listener: socket.socket,
    parent_fd: int,
    control: Path | None = None,
) -> list[Child]:
    """The processes to run: an engine worker per model, the guard, and those of the API on the listening socket, which
    ask for more and fewer models at `control`."""
    engines = [engine_child(config, each, parent_fd) for each in prepared]
    keepers = [_keeper(launch, config, parent_fd) for launch in config.launch]
    guard = socket_path(config.home, "guard") if (config.guard or GuardSettings()).embedded else None
    guards = [_guard(config, guard, parent_fd)] if guard else []
    return [*engines, *keepers, *guards, *_apis(config, prepared, listener, parent_fd, control, guard)]


def _guard(config: Config, path: Path, parent_fd: int) -> Child:
    own = Config(home=config.home, log_level=config.log_level)
    return Child(
        name=_GUARD,
        argv=(sys.executable, "-m", "hodios.guard.worker", "--parent-fd", str(parent_fd), "--socket", str(path)),
        env=environment(own, base=foreign_environment(config, (), _ONE_THREAD)),
    )


def _apis(
    config: Config,
    prepared: Sequence[Prepared],
    listener: socket.socket,
    parent_fd: int,
    control: Path | None,
    guard: Path | None,
) -> list[Child]:
    """They take connections from the same socket, whoever is first."""
    numbers = range(1, config.workers + 1)
    sockets = [socket_path(config.home, f"api-{number}") for number in numbers] if config.workers > 1 else []
    return [
        Child(
            name=f"{_API} {number}" if config.workers > 1 else _API,
            argv=(
                *(sys.executable, "-m", "hodios.api"),
                *("--fd", str(listener.fileno()), "--parent-fd", str(parent_fd), "--number", str(number)),
                *(argument for path in sockets for argument in ("--socket", str(path))),
                *(("--control", str(control)) if control else ()),
                *(("--guard", str(guard)) if guard else ()),
                *(msgspec.json.encode(each).decode() for each in prepared),
            ),
            env=environment(config),
            pass_fds=(listener.fileno(),),
            stage=_API_STAGE,
            is_essential=True,
        )
        for number in numbers
    ]


def _keeper(launch: Launch, config: Config, parent_fd: int) -> Child:
    """The process that holds a server of others. Of keys it has those alone that the server gets."""
    own = Config(home=config.home, log_level=config.log_level, launch=(launch,))
    kept = (*launch.pass_env, *([launch.api_key_env] if launch.api_key_env else []))
    return Child(
        name=keeper_name(launch),
        argv=(sys.executable, "-m", "hodios.providers.keeper", "--parent-fd", str(parent_fd)),
        env=environment(own, base=foreign_environment(config, kept, {})),
    )


def keeper_name(launch: Launch) -> str:
    """Among the children."""
    return f"launch/{launch.name}"


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


class _Service:
    """One run of the server, from its children's start to their end."""

    def __init__(
        self, config: Config, prepared: Sequence[Prepared], providers: Sequence[str], listener: socket.socket
    ) -> None:
        """`providers`: as `others` finds them."""
        self._config = config
        self._prepared = prepared
        self._providers = providers
        self._listener = listener
        self._refused: set[str] = set()
        self._url = server_url(config, listener.getsockname()[1])

    async def run(self) -> int:
        """Exit code: 0 after a stop that was asked for, 2 where nothing could be served."""
        try:
            self._listener.listen(2048)
        except OSError as error:
            raise _cannot_listen(self._config, error) from error
        self._supervisor = Supervisor(on_event=self._report, on_output=_pass_on, pace=Pace(stop_s=_STOP_S))
        control = ControlServer(socket_path(self._config.home, "control"), Pulls(environment(self._config)))
        engines = _Engines(self._config, self._supervisor)
        self._models = LocalModels(self._config, self._prepared, engines, control.tell, control.drained)
        await control.start(self._models)
        loading = self._loading()
        stderr().print(f"Loading {', '.join(loading)} …" if loading else "Starting …")
        announcement = asyncio.create_task(self._announce())
        last = await self._supervisor.run(
            tuple(children(self._config, self._prepared, self._listener, self._supervisor.parent_fd, control.path))
        )
        announcement.cancel()
        await control.aclose()
        return 2 if any(event.kind == "refused" for event in last.values()) and self._is_hopeless() else 0

    def _is_hopeless(self) -> bool:
        launched = {launch.name for launch in self._config.launch}
        has_more = any(provider not in launched for provider in self._providers)
        # No model's id has a space.
        is_without_api = any(name.partition(" ")[0] == _API for name in self._refused)
        return is_without_api or not (has_more or self._loading())

    def _loading(self) -> list[str]:
        """The local models and the servers to be started, without those that were given up."""
        config = self._config
        return [
            *(model for model in config.models if model not in self._refused),
            *(launch.name for launch in config.launch if keeper_name(launch) not in self._refused),
        ]

    def _report(self, event: ChildEvent) -> None:
        console = stderr()
        if event.kind == "refused":
            reason = event.message.rpartition("\n")[2] or f"it ended with code {event.code}"
            console.print(f"{event.child.name} is not served: {reason}", style="red")
            if self._models.refused(event.child.name, reason):
                return
            self._refused.add(event.child.name)
            if self._is_hopeless():
                self._supervisor.stop()
        elif event.kind == "crashed":
            # A keeper ends itself with all that it holds, and has told why.
            code = "" if event.child.name.startswith("launch/") else f" (code {event.code})"
            console.print(
                f"{event.child.name} ended unexpectedly{code}; starting it again in {event.delay_s:g} s",
                style="yellow",
            )

    async def _announce(self) -> None:
        """Once a model is ready, say who has which, and how to ask them."""
        key = self._config.admin_key or ""
        states = await state_of_all(Report(self._url, key), self._loading)
        cards = [each.card for each in self._prepared if each.card.id not in self._refused]
        page = login_link(self._url, key, time.time())
        for line in lines(states, cards, self._providers, url=self._url, key=key, page=page):
            stdout().print(line)
        sys.stdout.flush()


class _Engines:
    """`local_models.Engines` among the children."""

    def __init__(self, config: Config, supervisor: Supervisor) -> None:
        self._config = config
        self._supervisor = supervisor

    def start(self, prepared: Prepared) -> None:
        self._supervisor.add(engine_child(self._config, prepared, self._supervisor.parent_fd))

    async def stop(self, model: str) -> None:
        await self._supervisor.remove(model)


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


def _pass_on(child: Child, data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()
