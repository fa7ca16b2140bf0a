"""The processes of one server: how each is started, and what it is told. Starts none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from hodios.config import Config, environment, foreign_environment
from hodios.guard_settings import GuardSettings
from hodios.providers.launch import Child
from hodios.providers.prepared import Prepared, worker_options
from hodios.providers.sockets import socket_path

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from hodios.launches import Launch

API = "api"
GUARD = "the content filter"
"""No model's id has a space."""
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_API_STAGE = 1
"""Above the engines: the API lets open requests finish before their engines go."""


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
        name=GUARD,
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
            name=f"{API} {number}" if config.workers > 1 else API,
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
