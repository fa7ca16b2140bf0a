"""GGUF tensors → the arrays that the graph is built from, kept in one file on disk and mapped into memory.

Two modes. Fast: every matrix as int8 in groups of 64; large 4-bit models keep their own groups, where memory
bandwidth decides. Exact: the file's own codes, scales and minimums, nothing rounded. `docs/decisions/` has the figures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hodios.engine.gguf import Architecture, GGUFFile, Rope, Tensor
from hodios.engine.quantization import Grouped, group_codes, is_four_bit, is_quantized
from hodios.engine.whole_folder import write_durably

PACK_VERSION = 2
FAST_GROUP = 64
"""Columns that share a scale in the fast mode, where the row divides into them; else the row has one scale."""
LARGE_PARAMETERS = 1_000_000_000
"""From here on a decode step is bound by memory bandwidth, and 4-bit groups beat int8 rows twice as large."""

FUSED = {
    "attn_qkv": ("attn_q", "attn_k", "attn_v"),
    "attn_output": ("attn_output",),
    "ffn_gate_up": ("ffn_gate", "ffn_up"),
    "ffn_down": ("ffn_down",),
}
"""Matrices that read the same input are one product: 25–30 % less time per step on small models."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Matrix:
    """`weight [rows, columns] = scales · codes + minimums`, or the codes alone where there are no scales.

    `codes`: int8 [rows, columns]; uint8 [rows, columns / 2] for 4 bits (biased by 8, low half first); or f16, f32,
    or uint16 (bfloat16) values. `scales`, `minimums`: f32 [rows, groups].
    """

    codes: Array
    scales: Array | None = None
    minimums: Array | None = None

    @property
    def is_four_bit(self) -> bool:
        return self.codes.dtype == np.uint8

    @property
    def is_bfloat16(self) -> bool:
        return self.codes.dtype == np.uint16

    @property
    def rows(self) -> int:
        return int(self.codes.shape[0])

    @property
    def columns(self) -> int:
        return int(self.codes.shape[1]) * (2 if self.is_four_bit else 1)

    @property
    def group(self) -> int:
        """Columns that share a scale."""
        return self.columns // int(self.scales.shape[1]) if self.scales is not None else self.columns

    @property
    def label(self) -> str:
        if self.scales is None:
            return "bf16" if self.is_bfloat16 else str(self.codes.dtype).replace("float", "f")
        groups = self.scales.shape[1]
        bits = "4-bit" if self.is_four_bit else "int8"
        return f"{bits} per row" if groups == 1 else f"{bits} in groups of {self.columns // groups}"


@dataclass(frozen=True, slots=True)
class Weights:
    """Everything the graph needs. A fused product may be held in several matrices: they are run one by one."""

    architecture: Architecture
    is_exact: bool
    weights_hash: str
    matrices: Mapping[str, Sequence[Matrix]]
    vectors: Mapping[str, Array]

    @property
    def num_bytes(self) -> int:
        """Size of all arrays, which is that of the packed file."""
        arrays = [array for parts in self.matrices.values() for part in parts for _, array in _roles(part)]
        return sum(array.nbytes for array in [*arrays, *self.vectors.values()])

    @property
    def representation(self) -> str:
        counts: dict[str, int] = {}
        for matrix in (matrix for parts in self.matrices.values() for matrix in parts):
            counts[matrix.label] = counts.get(matrix.label, 0) + 1
        return ", ".join(f"{count} × {label}" for label, count in sorted(counts.items(), key=lambda item: -item[1]))


def pack(model: GGUFFile, folder: Path, *, is_exact: bool, weights_hash: str) -> None:
    """Write `weights.bin` and `weights.json` into the folder, tensor by tensor, so that memory stays small."""
    index: dict[str, list[dict[str, Any]]] = {}
    with (folder / "weights.bin").open("wb") as out:
        for name, parts in _matrices(model, is_exact):
            index[name] = [{role: _write(out, array) for role, array in _roles(part)} for part in parts]
        vectors = {name: _write(out, array) for name, array in _vectors(model)}
        out.flush()
        os.fsync(out.fileno())
    document = {
        "version": PACK_VERSION,
        "architecture": asdict(model.architecture),
        "is_exact": is_exact,
        "weights_hash": weights_hash,
        "matrices": index,
        "vectors": vectors,
    }
    write_durably(folder / "weights.json", json.dumps(document).encode())


def load(folder: Path) -> Weights:
    """Map a packed model. The arrays are views of the file and stay valid while they are referenced."""
    document = json.loads((folder / "weights.json").read_text())
    # copy-on-write, because the runtime takes only writeable memory; it never writes
    data = np.memmap(folder / "weights.bin", mode="c", dtype=np.uint8)
    shape = dict(document["architecture"])
    architecture = Architecture(**shape | {"rope": Rope(**shape["rope"])})
    matrices = {
        name: [Matrix(**{role: _view(data, entry) for role, entry in part.items()}) for part in parts]
        for name, parts in document["matrices"].items()
    }
    vectors = {name: _view(data, entry) for name, entry in document["vectors"].items()}
    return Weights(architecture, document["is_exact"], document["weights_hash"], matrices, vectors)


def packed_bytes(model: GGUFFile, *, is_exact: bool) -> int:
    """How large `weights.bin` will be, but for the padding between arrays."""
    total = sum(4 * tensor.shape[0] for tensor in model.tensors.values() if len(tensor.shape) == 1)
    keeps_groups = _keeps_groups(model, is_exact)
    for name, tensor in model.tensors.items():
        if len(tensor.shape) == 1:
            continue
        rows, columns = tensor.shape
        row = _represent(replace(tensor, shape=(1, columns), data=tensor.data[:1]), keeps_groups, is_exact)
        held = [_unpacked(row)] if name == "token_embd.weight" else [_pack_codes(row)]
        if name == "token_embd.weight" and _needs_own_head(model, keeps_groups):
            held.append(_pack_codes(row))
        total += rows * sum(array.nbytes for matrix in held for _, array in _roles(matrix))
    return total


def _keeps_groups(model: GGUFFile, is_exact: bool) -> bool:
    return is_exact or model.num_parameters >= LARGE_PARAMETERS


def _needs_own_head(model: GGUFFile, keeps_groups: bool) -> bool:
    """Rows are looked up in bytes, but a tied 4-bit head is multiplied by its packed codes."""
    codes = model.tensors["token_embd.weight"]
    return model.architecture.is_tied and keeps_groups and is_four_bit(codes.type)


def _matrices(model: GGUFFile, is_exact: bool) -> Iterator[tuple[str, list[Matrix]]]:
    arch, tensors = model.architecture, model.tensors
    keeps_groups = _keeps_groups(model, is_exact)
    yield "token_embd", [_unpacked(_represent(tensors["token_embd.weight"], keeps_groups, is_exact))]
    for layer in range(arch.num_layers):
        for name, members in FUSED.items():
            parts = [
                _permuted(_represent(tensors[f"blk.{layer}.{member}.weight"], keeps_groups, is_exact), member, arch)
                for member in members
            ]
            yield f"blk.{layer}.{name}", _fuse(parts)
    if not arch.is_tied:
        yield "output", [_pack_codes(_represent(tensors["output.weight"], keeps_groups, is_exact))]
    elif _needs_own_head(model, keeps_groups):
        yield "output", [_pack_codes(_represent(tensors["token_embd.weight"], keeps_groups, is_exact))]


def _vectors(model: GGUFFile) -> Iterator[tuple[str, Array]]:
    arch = model.architecture
    for name, tensor in model.tensors.items():
        if len(tensor.shape) == 1:
            member = name.removesuffix(".bias").rpartition(".")[2]
            values = tensor.dequantize()
            is_rotated = name.endswith(".bias") and member in ("attn_q", "attn_k") and arch.rope.is_interleaved
            yield name, values[_half_rotated(values.size, arch.head_dim)] if is_rotated else values


@dataclass(slots=True)
class _Part:
    """One tensor in its representation; codes not yet packed to 4 bits, so that rows can still be moved."""

    codes: Array
    scales: Array | None = None
    minimums: Array | None = None
    is_four_bit: bool = False

    def rows(self, order: Array) -> _Part:
        picked = [None if array is None else array[order] for array in (self.codes, self.scales, self.minimums)]
        return _Part(np.asarray(picked[0]), picked[1], picked[2], self.is_four_bit)


def _represent(tensor: Tensor, keeps_groups: bool, is_exact: bool) -> _Part:
    if is_quantized(tensor.type) and keeps_groups:
        grouped: Grouped = group_codes(tensor.type, tensor.data, tensor.shape[1])
        return _Part(grouped.codes, grouped.scales, grouped.minimums, grouped.is_four_bit)
    if is_exact:
        if tensor.type == "BF16":
            return _Part(np.ascontiguousarray(tensor.data).view(np.uint16).reshape(tensor.shape))
        return _Part(np.asarray(tensor.data).reshape(tensor.shape))
    weight = tensor.dequantize()
    rows, columns = weight.shape
    groups = weight.reshape(rows, -1, FAST_GROUP if columns % FAST_GROUP == 0 else columns)
    scales = np.abs(groups).max(axis=2) / 127
    codes = np.rint(groups / np.where(scales == 0, 1, scales)[:, :, None]).astype(np.int8)
    return _Part(codes.reshape(rows, columns), scales.astype(np.float32))


def _permuted(part: _Part, member: str, arch: Architecture) -> _Part:
    if member in ("attn_q", "attn_k") and arch.rope.is_interleaved:
        return part.rows(_half_rotated(part.codes.shape[0], arch.head_dim))
    return part


def _half_rotated(rows: int, head_dim: int) -> NDArray[np.int64]:
    """Row order that turns interleaved heads (pairs 2i, 2i+1 rotate) into half-rotated ones (pairs i, i + d/2)."""
    return np.arange(rows).reshape(-1, head_dim // 2, 2).swapaxes(1, 2).reshape(-1)


def _fuse(parts: list[_Part]) -> list[Matrix]:
    """One matrix of all rows where the parts are of one kind, else each for itself."""

    def kind(part: _Part) -> tuple[object, ...]:
        groups = None if part.scales is None else part.scales.shape[1]
        return (part.codes.dtype, part.is_four_bit, groups, part.minimums is None)

    if len({kind(part) for part in parts}) > 1:
        return [_pack_codes(part) for part in parts]

    def joined(arrays: list[Array | None]) -> Array | None:
        present = [array for array in arrays if array is not None]
        return np.concatenate(present) if present else None

    codes = np.concatenate([part.codes for part in parts])
    scales, minimums = joined([part.scales for part in parts]), joined([part.minimums for part in parts])
    return [_pack_codes(_Part(codes, scales, minimums, parts[0].is_four_bit))]


def _pack_codes(part: _Part) -> Matrix:
    if not part.is_four_bit:
        return _unpacked(part)
    biased = (part.codes + np.int8(8)).astype(np.uint8)
    return Matrix(biased[:, 0::2] | biased[:, 1::2] << 4, part.scales, part.minimums)


def _unpacked(part: _Part) -> Matrix:
    return Matrix(part.codes, part.scales, part.minimums)


def _roles(matrix: Matrix) -> Iterator[tuple[str, Array]]:
    for role in ("codes", "scales", "minimums"):
        array = getattr(matrix, role)
        if array is not None:
            yield role, array


def _write(out: Any, array: Array) -> dict[str, Any]:
    offset = -(-out.tell() // 64) * 64
    out.write(b"\0" * (offset - out.tell()))
    out.write(np.ascontiguousarray(array).data)
    return {"dtype": str(array.dtype), "shape": list(array.shape), "offset": offset}


def _view(data: NDArray[np.uint8], entry: Mapping[str, Any]) -> Array:
    dtype = np.dtype(entry["dtype"])
    size = int(np.prod(entry["shape"])) * dtype.itemsize
    view: Array = data[entry["offset"] : entry["offset"] + size].view(dtype)
    return view.reshape(entry["shape"])
