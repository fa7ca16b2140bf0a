"""The API process: `python -m hodios.api --fd N --parent-fd M MODEL…`, each MODEL the JSON of a `Prepared`.

Answers on the inherited listening socket `--fd` with the settings of its environment, and ends when its parent does.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import msgspec
import uvloop

from hodios import config
from hodios.api.app import create_app
from hodios.api.server import serve
from hodios.providers.base import Provider
from hodios.providers.echo import EchoProvider
from hodios.providers.local import LocalProvider, load_local_model
from hodios.providers.prepared import Prepared


async def run(settings: config.Config, models: list[Prepared], sock: socket.socket, parent_fd: int | None) -> None:
    """Construct everything and answer until told to stop. Without a model the echo answers, for trying out clients."""
    if parent_fd is not None:
        asyncio.get_running_loop().add_reader(parent_fd, _end, parent_fd)
    loaded = [await load_local_model(model.card, model.tokenizer_path, Path(model.socket)) for model in models]
    provider: Provider = LocalProvider(loaded) if loaded else EchoProvider()
    await serve(create_app(settings, [provider]), sock)


def _end(parent_fd: int) -> None:
    # It stays readable for as long as open requests may still take.
    asyncio.get_running_loop().remove_reader(parent_fd)
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="hodios.api")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent-fd", type=int)
    parser.add_argument("models", nargs="*")
    parsed = parser.parse_args(arguments)
    settings = config.load()
    # What libraries say of their own start and end is nobody's concern.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("hodios").setLevel(settings.log_level.upper())
    models = [msgspec.json.decode(model, type=Prepared) for model in parsed.models]
    uvloop.run(run(settings, models, socket.socket(fileno=parsed.fd), parsed.parent_fd))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
