"""The parent of all processes of a server, once everything is prepared: `python -m hodios.cli.parent`. `hodios serve`
becomes it, so that nothing stays of what preparing has loaded. What is large is loaded by its children alone.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from hodios.api import login_codes
from hodios.cli.announcement import lines, state_of_all
from hodios.cli.children import API, children, engine_child, keeper_name
from hodios.cli.console import server_url
from hodios.cli.control import ControlServer
from hodios.cli.local_models import LocalModels, prepared_apart
from hodios.cli.pulls import Pulls
from hodios.config import Config, environment, load
from hodios.errors import SetupError
from hodios.providers.launch import Child, ChildEvent, Pace, Supervisor
from hodios.providers.prepared import Prepared
from hodios.providers.report import Report
from hodios.providers.sockets import socket_path

if TYPE_CHECKING:
    from collections.abc import Sequence

_STOP_S = 45.0
"""A little more than the API gives open requests to finish, and then itself to tell the store what they cost."""
_COLORS = {"red": "31", "yellow": "33"}


class Words:
    """What is told on stderr, as `console.stderr` would tell it."""

    def __init__(self, *, has_colors: bool) -> None:
        self._has_colors = has_colors

    def tell(self, text: str, color: str = "") -> None:
        code = _COLORS[color] if color and self._has_colors else ""
        sys.stderr.write(f"\x1b[{code}m{text}\x1b[0m\n" if code else f"{text}\n")
        sys.stderr.flush()


class Service:
    """One run of the server, from its children's start to their end."""

    def __init__(
        self,
        config: Config,
        prepared: Sequence[Prepared],
        providers: Sequence[str],
        listener: socket.socket,
        words: Words,
    ) -> None:
        """`providers`: as `serve.others` finds them."""
        self._config = config
        self._prepared = prepared
        self._providers = providers
        self._listener = listener
        self._words = words
        self._refused: set[str] = set()
        self._url = server_url(config, listener.getsockname()[1])

    async def run(self) -> int:
        """Exit code: 0 after a stop that was asked for, 2 where nothing could be served."""
        self._supervisor = Supervisor(on_event=self._report, on_output=_pass_on, pace=Pace(stop_s=_STOP_S))
        control = ControlServer(socket_path(self._config.home, "control"), Pulls(environment(self._config)))
        engines = _Engines(self._config, self._supervisor)
        self._models = LocalModels(self._config, self._prepared, engines, control.tell, control.drained, prepared_apart)
        await control.start(self._models)
        loading = self._loading()
        self._words.tell(f"Loading {', '.join(loading)} …" if loading else "Starting …")
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
        is_without_api = any(name.partition(" ")[0] == API for name in self._refused)
        return is_without_api or not (has_more or self._loading())

    def _loading(self) -> list[str]:
        """The local models and the servers to be started, without those that were given up."""
        config = self._config
        return [
            *(model for model in config.models if model not in self._refused),
            *(launch.name for launch in config.launch if keeper_name(launch) not in self._refused),
        ]

    def _report(self, event: ChildEvent) -> None:
        if event.kind == "refused":
            reason = event.message.rpartition("\n")[2] or f"it ended with code {event.code}"
            self._words.tell(f"{event.child.name} is not served: {reason}", "red")
            if self._models.refused(event.child.name, reason):
                return
            self._refused.add(event.child.name)
            if self._is_hopeless():
                self._supervisor.stop()
        elif event.kind == "crashed":
            # A keeper ends itself with all that it holds, and has told why.
            code = "" if event.child.name.startswith("launch/") else f" (code {event.code})"
            self._words.tell(
                f"{event.child.name} ended unexpectedly{code}; starting it again in {event.delay_s:g} s", "yellow"
            )

    async def _announce(self) -> None:
        """Once a model is ready, say who has which, and how to ask them."""
        key = self._config.admin_key or ""
        states = await state_of_all(Report(self._url, key), self._loading)
        cards = [each.card for each in self._prepared if each.card.id not in self._refused]
        page = login_codes.link(self._url, key, time.time())
        told = lines(states, cards, self._providers, url=self._url, key=key, page=page)
        sys.stdout.write("".join(f"{line}\n" for line in told))
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


def _pass_on(child: Child, data: bytes) -> None:
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="hodios.cli.parent")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--program", required=True)
    parser.add_argument("--provider", action="append", default=[])
    parser.add_argument("--colors", action="store_true")
    parser.add_argument("models", nargs="*")
    parsed = parser.parse_args(arguments)
    words = Words(has_colors=parsed.colors)
    prepared = [msgspec.json.decode(model, type=Prepared) for model in parsed.models]
    # So that it calls itself in commands to paste as it was called.
    sys.argv[0] = parsed.program
    try:
        with socket.socket(fileno=parsed.fd) as listener:
            listener.set_inheritable(False)
            return asyncio.run(Service(load(), prepared, parsed.provider, listener, words).run())
    except SetupError as error:
        words.tell(str(error), "red")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
