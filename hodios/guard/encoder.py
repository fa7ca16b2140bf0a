"""Texts into vectors, by a small sentence encoder (all-MiniLM-L6-v2) on one core. Knows no categories."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import openvino
from msgspec import Struct
from numpy.typing import NDArray
from tokenizers import BertWordPieceTokenizer

Vectors = NDArray[np.float32]
WINDOW, OVERLAP = 128, 32
"""Tokens that are read at once, and how many of them the next window reads again."""
SPAN = 40
"""Tokens of a stretch that has a vector of its own."""
DIMENSION = 384
_STEP, _LONGEST_STEPPED = 16, 80
"""Short windows are padded to multiples of the first; those that are longer than the second to a whole window. These
have a graph of their own: one for all is made ready anew whenever the length changes, which takes a fifth of the time
of a long window."""


class Part(Struct, frozen=True):
    """A part of a window with a vector of its own: some tokens on end, and the text that they were."""

    text: str
    start: int
    end: int
    """Positions among the window's ids."""


class Window(Struct, frozen=True):
    """A part of a text that is read at once."""

    ids: tuple[int, ...]
    """`WINDOW` at most, marks included."""
    parts: tuple[Part, ...]
    """The whole window, then, where it is longer than `SPAN`, stretches of it, so that one sentence is not lost among
    others."""


class Encoder:
    """One at a time: not to be shared by threads."""

    def __init__(self, model: Path, vocabulary: Path) -> None:
        self.version = hashlib.sha256(model.read_bytes()).hexdigest()
        self._tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
        self._start, self._end = (self._tokenizer.token_to_id(mark) for mark in ("[CLS]", "[SEP]"))
        core = openvino.Core()
        self._any_length = core.compile_model(model, "CPU", _ONE_CORE).create_infer_request()
        whole = core.read_model(model)
        whole.reshape({each.any_name: [1, WINDOW] for each in whole.inputs})
        self._whole = core.compile_model(whole, "CPU", _ONE_CORE).create_infer_request()

    def windows(self, text: str) -> Sequence[Window]:
        """The text in order. None where there is nothing to read."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        ids, spans = encoded.ids, encoded.offsets
        room = WINDOW - 2
        found: list[Window] = []
        for begin in range(0, max(len(ids) - OVERLAP, 1) if ids else 0, room - OVERLAP):
            own = spans[begin : begin + room]
            cuts = [(0, len(own)), *_stretches(len(own))]
            parts = [Part(text[own[start][0] : own[end - 1][1]], start + 1, end + 1) for start, end in cuts]
            found.append(Window((self._start, *ids[begin : begin + room], self._end), tuple(parts)))
        return found

    def encode(self, window: Window) -> Vectors:
        """float32[parts, 384], each of length 1: the mean over the part's tokens."""
        length = len(window.ids)
        is_long = length > _LONGEST_STEPPED
        padded = WINDOW if is_long else -(-length // _STEP) * _STEP
        ids, mask = np.zeros((1, padded), np.int64), np.zeros((1, padded), np.int64)
        ids[0, :length], mask[0, :length] = window.ids, 1
        request = self._whole if is_long else self._any_length
        hidden = np.asarray(request.infer([ids, mask, np.zeros_like(ids)])[0][0], np.float32)
        means = [hidden[:length].mean(axis=0)]
        means += [hidden[part.start : part.end].mean(axis=0) for part in window.parts[1:]]
        rows = np.stack(means)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _stretches(length: int) -> Sequence[tuple[int, int]]:
    """(start, end) of stretches of `SPAN` that overlap by half; the last one ends where the window does."""
    if length <= SPAN:
        return ()
    starts = [*range(0, length - SPAN, SPAN // 2), length - SPAN]
    return [(start, start + SPAN) for start in starts]


_ONE_CORE: Mapping[str, str | int] = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    # Values that are multiplied as bytes with one scale in common; 32 of them, which is usual, take a fifth longer.
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128,
}
