"""Prompt Guard's files: text in, a probability per label out, on the processor. Knows no sides and no categories."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from tokenizers import Tokenizer

from hodios.errors import SetupError

MODEL, TOKENIZER, CONFIG = "model.onnx", "tokenizer.json", "config.json"
WINDOW, OVERLAP = 512, 64
"""Tokens that are read at once, marks included, and how many of them the next window reads again."""
MOST_WINDOWS = 64
MOST_CHARACTERS = MOST_WINDOWS * WINDOW * 8
"""What is longer is not read to its end."""
_BATCH = 8
_STEP = 64
"""Lengths are padded to multiples of it, so that the graph meets few shapes."""
LABELS: Mapping[int, tuple[str, ...]] = {2: ("benign", "malicious"), 3: ("benign", "injection", "jailbreak")}
"""Of Prompt Guard 2 and of Prompt Guard 1, by how many there are."""


class PromptGuardModel:
    """One at a time: not to be shared by threads. Loading takes seconds and the memory of the weights."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds `model.onnx`, `tokenizer.json` and, where its labels have another order, `config.json`.
        Raises SetupError."""
        for name in (MODEL, TOKENIZER):
            if not (folder / name).is_file():
                raise SetupError(f"{folder} has no {name}; a Prompt Guard needs {MODEL} and {TOKENIZER}.")
        self._tokenizer = _tokenizer(folder / TOKENIZER)
        self._tokenizer.enable_truncation(WINDOW, stride=OVERLAP)
        try:
            compiled = openvino.Core().compile_model(folder / MODEL, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
        except RuntimeError as error:
            raise _unloadable(folder / MODEL, error) from None
        self._inputs = _inputs(compiled, folder / MODEL)
        self.labels, self._order = _labels(compiled, folder)
        self._request = compiled.create_infer_request()
        with (folder / MODEL).open("rb") as file:
            self.version = hashlib.file_digest(file, "sha256").hexdigest()[:12]

    def judge(self, texts: Sequence[str], until_s: float) -> list[dict[str, float]]:
        """Of each text the highest probability of each label in any of its windows, `benign` left out. Raises
        TimeoutError once `time.monotonic` is past `until_s`."""
        windows = [(place, ids) for place, text in enumerate(texts) for ids in self._windows(text)]
        windows.sort(key=lambda window: len(window[1]))
        found = [dict.fromkeys(self.labels[1:], 0.0) for _ in texts]
        for start in range(0, len(windows), _BATCH):
            if time.monotonic() > until_s:
                raise TimeoutError
            batch = windows[start : start + _BATCH]
            for (place, _), row in zip(batch, self._infer([ids for _, ids in batch]), strict=True):
                for label, value in zip(self.labels[1:], row[1:], strict=True):
                    found[place][label] = max(found[place][label], float(value))
        return found

    def _windows(self, text: str) -> Iterator[list[int]]:
        encoding = self._tokenizer.encode(text[:MOST_CHARACTERS])
        for window in [encoding, *encoding.overflowing][:MOST_WINDOWS]:
            yield window.ids

    def _infer(self, batch: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """float64[batch, labels], each row in the order of `labels` and 1 in all."""
        longest = -(-max(map(len, batch)) // _STEP) * _STEP
        ids, mask = np.zeros((len(batch), longest), np.int64), np.zeros((len(batch), longest), np.int64)
        for row, window in enumerate(batch):
            ids[row, : len(window)], mask[row, : len(window)] = window, 1
        known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        result = self._request.infer({name: known[name] for name in self._inputs})
        logits = np.asarray(next(iter(result.values())), np.float64)[:, self._order]
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        if type(error) is not Exception:  # tokenizers raises nothing narrower
            raise
        raise _unloadable(path, error) from None


def _unloadable(path: Path, error: Exception) -> SetupError:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return SetupError(f"{path} cannot be loaded: {lines[-1].strip()[:200] if lines else type(error).__name__}")


def _inputs(compiled: Any, path: Path) -> tuple[str, ...]:
    names = tuple(port.any_name for port in compiled.inputs)
    strange = set(names) - {"input_ids", "attention_mask", "token_type_ids"}
    if strange or "input_ids" not in names:
        raise SetupError(
            f"{path} takes {', '.join(names)}; a Prompt Guard takes input_ids, attention_mask and maybe token_type_ids."
        )
    return names


def _labels(compiled: Any, folder: Path) -> tuple[tuple[str, ...], list[int]]:
    """The labels in our order, and at which place the model has each."""
    shape = compiled.outputs[0].partial_shape
    size = shape[1].get_length() if shape.rank.get_length() == 2 and shape[1].is_static else 0
    labels = LABELS.get(size)
    if labels is None:
        raise SetupError(
            f"{folder / MODEL} gives {shape}; a Prompt Guard gives logits per text: "
            f"{' or '.join(', '.join(known) for known in LABELS.values())}."
        )
    names = _config_labels(folder / CONFIG)
    if sorted(names) != sorted(labels):
        return labels, list(range(size))
    return labels, [names.index(label) for label in labels]


def _config_labels(path: Path) -> list[str]:
    """As `config.json` has them, in lower case; many have none but `LABEL_0` and so on, in Meta's order."""
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    told = config.get("id2label") if isinstance(config, dict) else None
    if not isinstance(told, dict) or not all(place.isdecimal() for place in told):
        return []
    return [str(told[place]).lower() for place in sorted(told, key=int)]
