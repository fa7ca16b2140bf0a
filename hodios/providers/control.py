"""What API processes and their parent say to each other of the models on this machine, in frames of msgpack.

The parent tells what is served, whenever that changes. API processes ask it to load, unload and pull, and say when they
have no more use for a model that goes. Only the owner can reach the socket.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from hodios.errors import Conflict, HodiosError, InvalidRequest, NotFound
from hodios.providers.prepared import Prepared

Action = Literal["load", "unload", "pull", "cancel", "pulls"]
PullState = Literal["running", "done", "failed", "cancelled"]
Refusal = Literal["not_found", "conflict", "invalid"]
_LENGTH_BYTES = 4
_MOST_BYTES = 2**24
_REFUSALS: dict[str, type[HodiosError]] = {"not_found": NotFound, "conflict": Conflict, "invalid": InvalidRequest}
M = TypeVar("M")


class PullStanding(Struct, frozen=True, kw_only=True):
    """One download, or what became of it."""

    id: str
    source: str
    state: PullState = "running"
    bytes: int = 0
    total_bytes: int | None = None
    bytes_per_s: float | None = None
    error: str | None = None


class PullProgress(Struct, frozen=True):
    """What a download says of itself: of all its files together, as far as they are known."""

    bytes: int
    total_bytes: int | None


class Served(Struct, frozen=True, tag=True):
    """From the parent: what is to be served from now on."""

    models: list[Prepared]
    leaving: list[str]
    """Ids of models whose engines end as soon as nobody needs them."""
    problems: dict[str, str]
    """Why models could not be loaded, by their ids."""


class Answered(Struct, frozen=True, tag=True):
    """From the parent: what became of what was asked."""

    id: int
    pulls: list[PullStanding] = []
    refusal: Refusal | None = None
    message: str = ""

    def check(self) -> None:
        """Raises what the parent said no with."""
        if self.refusal is not None:
            raise _REFUSALS[self.refusal](self.message)


class Asked(Struct, frozen=True, tag=True):
    """To the parent. `name`: of a model, a source, or a pull."""

    id: int
    action: Action
    name: str = ""


class Drained(Struct, frozen=True, tag=True):
    """To the parent: nobody here needs the engine of this model any more."""

    model: str


FromParent = Served | Answered
ToParent = Asked | Drained


async def read_frame(reader: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[M]) -> M:
    """Raises asyncio.IncompleteReadError at the end, ValueError for what is none."""
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "little")
    if length > _MOST_BYTES:
        raise ValueError(f"a frame of {length} bytes")
    return decoder.decode(await reader.readexactly(length))


def write_frame(writer: asyncio.StreamWriter, message: Any) -> None:
    data = msgspec.msgpack.encode(message)
    writer.write(len(data).to_bytes(_LENGTH_BYTES, "little") + data)
