"""`hodios serve`: a parent that prepares everything, starts the API and one engine per model, and keeps them alive."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from msgspec import structs

from hodios import __version__, admin_key
from hodios.cli.console import download_progress, gigabytes, program, server_url, stderr, stdout
from hodios.config import Config, environment, load, with_overrides
from hodios.errors import ConfigError, SetupError
from hodios.providers.installed import InstalledModel, find, installed
from hodios.providers.launch import Child, ChildEvent, Pace, Supervisor
from hodios.providers.prepared import Prepared, worker_options
from hodios.providers.starter import fetch_starter

if TYPE_CHECKING:
    from collections.abc import Sequence

_POLL_S = 0.05
_STOP_S = 35.0
"""A little more than the API gives open requests to finish."""
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
    """Serve the installed models.

    Where none is installed, the starter model is fetched first.
    """
    config = load(with_overrides(host=host, port=port, models=model or None, threads=threads, exact=exact))
    config = _with_key(config)
    listener = bind(config)
    prepared = prepare_all(chosen(config), config)
    config = structs.replace(config, models=tuple(each.card.id for each in prepared))
    sys.exit(asyncio.run(_Service(config, prepared, listener).run()))


def children(config: Config, prepared: Sequence[Prepared], listener: socket.socket, parent_fd: int) -> list[Child]:
    """The processes to run: an engine worker per model, and the API on the listening socket."""
    engine_environment = environment(config, with_key=False)
    engines = [
        Child(
            name=each.card.id,
            argv=(
                *(sys.executable, "-m", "hodios.engine.worker", "--parent-fd", str(parent_fd)),
                msgspec.json.encode(worker_options(each, config)).decode(),
            ),
            env=engine_environment,
        )
        for each in prepared
    ]
    api = Child(
        name="api",
        argv=(
            *(sys.executable, "-m", "hodios.api"),
            *("--fd", str(listener.fileno()), "--parent-fd", str(parent_fd)),
            *(msgspec.json.encode(each).decode() for each in prepared),
        ),
        env=environment(config),
        pass_fds=(listener.fileno(),),
        stage=_API_STAGE,
        is_essential=True,
    )
    return [*engines, api]


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


def chosen(config: Config) -> list[InstalledModel]:
    """The installed models that `models` names, or all; the starter model is fetched where none is installed."""
    found = installed(config.home)
    if not found and not config.models:
        with download_progress() as progress:
            fetch_starter(config.home, progress)
        found = installed(config.home)
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


def prepare_all(models: list[InstalledModel], config: Config) -> list[Prepared]:
    """Those that can be served; what is wrong with the others is told. Raises SetupError where none is left."""
    # Imported here because it loads what reads GGUF files.
    from hodios.providers.prepare import prepare

    prepared = []
    for model in models:
        try:
            prepared.append(prepare(model, config))
        except SetupError as error:
            if len(models) == 1:
                raise
            stderr().print(f"{model.id} is not served: {error}", style="yellow")
    if not prepared:
        raise SetupError("None of the installed models can be served. Install another: hodios pull author/name")
    return prepared


def example(config: Config, url: str) -> str:
    """A curl line to paste into a terminal."""
    body = {"model": config.models[0], "messages": [{"role": "user", "content": "Hi there!"}], "stream": True}
    return (
        f"curl {url}/v1/chat/completions \\\n"
        f"  -H 'Authorization: Bearer {_quoted(config.admin_key or '')}' \\\n"
        f"  -H 'Content-Type: application/json' \\\n"
        f"  -d '{_quoted(json.dumps(body))}'"
    )


class _Service:
    """One run of the server, from its children's start to their end."""

    def __init__(self, config: Config, prepared: Sequence[Prepared], listener: socket.socket) -> None:
        self._config = config
        self._prepared = prepared
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
        stderr().print(f"Loading {', '.join(self._config.models)} …")
        announcement = asyncio.create_task(self._announce())
        last = await self._supervisor.run(
            tuple(children(self._config, self._prepared, self._listener, self._supervisor.parent_fd))
        )
        announcement.cancel()
        return 2 if any(event.kind == "refused" for event in last.values()) and self._is_hopeless() else 0

    def _is_hopeless(self) -> bool:
        return "api" in self._refused or self._refused >= set(self._config.models)

    def _report(self, event: ChildEvent) -> None:
        console = stderr()
        if event.kind == "refused":
            self._refused.add(event.child.name)
            reason = event.message.rpartition("\n")[2] or f"it ended with code {event.code}"
            console.print(f"{event.child.name} is not served: {reason}", style="red")
            if self._is_hopeless():
                self._supervisor.stop()
        elif event.kind == "crashed":
            console.print(
                f"{event.child.name} ended unexpectedly (code {event.code}); starting it again in {event.delay_s:g} s",
                style="yellow",
            )

    async def _announce(self) -> None:
        """Once a model is ready, say where and how to ask it."""
        address = self._listener.getsockname()
        while not await _is_ready(_connectable(address[0]), address[1]):  # noqa: ASYNC110 - another process is ready
            await asyncio.sleep(_POLL_S)
        out = stdout()
        out.print(f"\nHodios {__version__} serves at {self._url} (OpenAI-compatible; base URL {self._url}/v1):")
        for each in self._prepared:
            if each.card.id not in self._refused:
                out.print(f"  {each.card.id}  {each.card.quantization}  {gigabytes(each.card.size_bytes)}")
        out.print("\nAsk it:\n")
        out.print(example(self._config, self._url))
        out.print(f"\nChat with it: {program()} chat     Stop it: Ctrl-C\n")
        sys.stdout.flush()


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


def _connectable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


async def _is_ready(host: str, port: int) -> bool:
    """By hand, because the parent needs no HTTP client for anything else."""
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    try:
        writer.write(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b" 200 " in await reader.readline()
    except OSError:
        return False
    finally:
        writer.close()


def _pass_on(child: Child, data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


def _quoted(text: str) -> str:
    """For single quotes in a shell."""
    return text.replace("'", "'\\''")
