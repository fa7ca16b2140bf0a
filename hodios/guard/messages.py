"""The frames between the guard process and those who ask it: msgpack structs over a Unix socket, each after its length
in four bytes, big-endian.

Client → worker: `Assess`, `GiveUp`. Worker → client: `Hello` once, then for each `Assess` one `Scores` or `Shed`.
"""

from __future__ import annotations

from msgspec import Struct

from hodios.types import Category


class Assess(Struct, frozen=True, tag=True, array_like=True):
    id: int
    """Unique on this connection."""
    texts: list[str]
    within_s: float
    """After that nobody waits for it any longer."""


class GiveUp(Struct, frozen=True, tag=True, array_like=True):
    """Nobody waits for it any longer. Unknown ids are ignored."""

    id: int


class Hello(Struct, frozen=True, tag=True, array_like=True):
    version: str
    categories: list[Category]
    pid: int
    load_s: float


class Scores(Struct, frozen=True, tag=True, array_like=True):
    id: int
    scores: list[list[float]]
    """Of each text, in their order: one for each category, in the order of `Hello`."""
    num_waiting: int
    """Characters of everybody that are still to be read."""


class Shed(Struct, frozen=True, tag=True, array_like=True):
    """There is too much to do for it to be judged in time."""

    id: int
    num_waiting: int


FromClient = Assess | GiveUp
FromWorker = Hello | Scores | Shed
