"""The form of the journal's files: segments of slots of 1 KiB, whose states are written in place. Sans-IO.

A segment begins with a header of one slot: MAGIC, version, a nonce of 8 bytes, the number of slots that follow, and the
CRC-32 of all that. An entry takes one slot or several in a row: two copies of its state (64 bytes each), then its text.
States are written to the copies in turn, each with a number that grows and a checksum that begins with the nonce: of a
state that was cut short by the end of its process, the one before is left. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Literal, get_args
from zlib import crc32

from msgspec import Struct

MAGIC = b"hodios journal\n\0"
VERSION = 3
READABLE = (2, 3)
"""Segments of version 2 have the same form; what differs is the text of attempts (see `entries`)."""
SLOT_BYTES = 1024
COPY_BYTES = 64
TEXT_AT = 2 * COPY_BYTES
MOST_SLOTS = 64
"""Of one entry."""
MOST_TOKENS = 2**32 - 1
_HEADER = struct.Struct("<16sI8sI")
_STATE = struct.Struct("<Q4BHxxIIIIIqd8x")
_pack_state = _STATE.pack
_CRC = struct.Struct("<I")
_UNKNOWN_COST = -1
Outcome = Literal["answered", "refused", "failed", "overloaded", "broke_off", "cancelled"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""As `types.Attempt.outcome`; files have their places in here."""
_PLACES = {outcome: place for place, outcome in enumerate(OUTCOMES)}


class Phase(IntEnum):
    FREE = 0
    HELD = 1
    """An attempt that goes on, or did when its process ended."""
    SETTLED = 2
    LOGGED = 3
    """A request, of which there is nothing but its text."""


class State(Struct):
    """What changes of an entry. The text is written before the state that counts it."""

    phase: Phase = Phase.FREE
    num_slots: int = 1
    text_bytes: int = 0
    text_crc: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: int | None = None
    outcome: Outcome = "answered"
    is_estimated: bool = False
    at_s: float = 0.0


class Entry(Struct, frozen=True):
    """As a file has it."""

    state: State
    text: bytes
    version: int = VERSION
    """Of the file."""


class Contents(Struct, frozen=True):
    entries: tuple[Entry, ...]
    num_torn: int
    """Slots that hold neither an entry nor nothing. Where no more than a process has ended, there are none."""


def packed_header(nonce: bytes, num_slots: int) -> bytes:
    header = _HEADER.pack(MAGIC, VERSION, nonce, num_slots)
    return header + _CRC.pack(crc32(header))


def num_slots_for(text: bytes) -> int:
    """Raises ValueError for a text that no entry can hold."""
    num = -(-(TEXT_AT + len(text)) // SLOT_BYTES)
    if num > MOST_SLOTS:
        raise ValueError(f"{len(text)} bytes are too many: an entry has at most {MOST_SLOTS * SLOT_BYTES - TEXT_AT}")
    return num


def packed_state(state: State, sequence: int, salt: int) -> bytes:
    """`salt`: the CRC-32 of the segment's nonce."""
    cost = state.cost
    body = _pack_state(
        sequence,
        state.phase,
        _PLACES[state.outcome],
        state.is_estimated,
        0,
        state.num_slots,
        state.text_bytes,
        state.text_crc,
        state.prompt_tokens,
        state.cached_tokens,
        state.completion_tokens,
        _UNKNOWN_COST if cost is None else cost,
        state.at_s,
    )
    return body + crc32(body, salt).to_bytes(4, "little")


def read_segment(data: bytes) -> Contents:
    """What a segment holds: nothing, where its process ended while it was made. Raises ValueError for what is none."""
    if not any(data[:SLOT_BYTES]):
        return Contents((), 0)
    if len(data) < _HEADER.size + _CRC.size or not data.startswith(MAGIC):
        raise ValueError("is not a segment of a journal")
    _, version, nonce, num_slots = _HEADER.unpack_from(data)
    if version not in READABLE:
        raise ValueError(f"has the version {version} and none of {', '.join(map(str, READABLE))}")
    if _CRC.unpack_from(data, _HEADER.size)[0] != crc32(data[: _HEADER.size]):
        raise ValueError("has a damaged header")
    if len(data) < (1 + num_slots) * SLOT_BYTES:
        raise ValueError(f"is too short for {num_slots} slots")
    found = list(_entries(data, version, num_slots, crc32(nonce)))
    entries = tuple(entry for entry in found if entry is not None)
    return Contents(entries, len(found) - len(entries))


def _entries(data: bytes, version: int, num_slots: int, salt: int) -> Iterator[Entry | None]:
    """None for a torn slot."""
    number = 0
    while number < num_slots:
        begin = (1 + number) * SLOT_BYTES
        state = _newest(data, begin, salt)
        number += 1 if state is None else max(1, state.num_slots)
        if state is None:
            if any(data[begin : begin + TEXT_AT]):
                yield None
        elif state.phase != Phase.FREE:
            text = data[begin + TEXT_AT : begin + TEXT_AT + state.text_bytes]
            yield Entry(state, text, version) if crc32(text) == state.text_crc else None


def _newest(data: bytes, begin: int, salt: int) -> State | None:
    newest, state = -1, None
    for at in (begin, begin + COPY_BYTES):
        body = data[at : at + _STATE.size]
        if crc32(body, salt) == _CRC.unpack_from(data, at + _STATE.size)[0]:
            sequence, *fields = _STATE.unpack(body)
            if sequence > newest:
                newest, state = sequence, _unpacked(fields)
    return state


def _unpacked(fields: list[int | float]) -> State:
    phase, outcome, is_estimated, _, num_slots, size, crc, prompt, cached, completion, cost, at_s = fields
    return State(
        phase=Phase(int(phase)),
        num_slots=int(num_slots),
        text_bytes=int(size),
        text_crc=int(crc),
        prompt_tokens=int(prompt),
        cached_tokens=int(cached),
        completion_tokens=int(completion),
        cost=None if cost == _UNKNOWN_COST else int(cost),
        outcome=OUTCOMES[int(outcome)],
        is_estimated=bool(is_estimated),
        at_s=at_s,
    )
