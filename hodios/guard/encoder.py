"""Texts into vectors, by a small sentence encoder (all-MiniLM-L6-v2) on one core. Knows no categories."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino
from msgspec import Struct
from numpy.typing import NDArray
from tokenizers import BertWordPieceTokenizer

Vectors = NDArray[np.float32]
WINDOW, OVERLAP = 128, 32
"""Tokens that are read at once, and how many of them the next window reads again."""
DIMENSION = 384
_STEP = 16
"""Lengths are padded to multiples of it, so that the graph meets few shapes."""


class Window(Struct, frozen=True):
    """A part of a text that is read at once."""

    text: str
    ids: tuple[int, ...]
    """`WINDOW` at most, marks included."""


class Encoder:
    """One at a time: not to be shared by threads."""

    def __init__(self, model: Path, vocabulary: Path) -> None:
        self.version = hashlib.sha256(model.read_bytes()).hexdigest()
        self._tokenizer = BertWordPieceTokenizer(str(vocabulary), lowercase=True)
        self._start, self._end = (self._tokenizer.token_to_id(mark) for mark in ("[CLS]", "[SEP]"))
        self._request = openvino.Core().compile_model(model, "CPU", _ONE_CORE).create_infer_request()

    def windows(self, text: str) -> Sequence[Window]:
        """The text in order. None where there is nothing to read."""
        encoded = self._tokenizer.encode(text, add_special_tokens=False)
        ids, spans = encoded.ids, encoded.offsets
        room = WINDOW - 2
        found: list[Window] = []
        for start in range(0, max(len(ids) - OVERLAP, 1) if ids else 0, room - OVERLAP):
            part = spans[start : start + room]
            inside = text[part[0][0] : part[-1][1]]
            found.append(Window(inside, (self._start, *ids[start : start + room], self._end)))
        return found

    def encode(self, window: Window) -> Vectors:
        """float32[384] of length 1: the mean over the window's tokens."""
        length = len(window.ids)
        padded = -(-length // _STEP) * _STEP
        ids, mask = np.zeros((1, padded), np.int64), np.zeros((1, padded), np.int64)
        ids[0, :length], mask[0, :length] = window.ids, 1
        hidden = self._request.infer([ids, mask, np.zeros_like(ids)])[0][0]
        mean = np.asarray(hidden[:length], np.float32).mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)


_ONE_CORE = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
