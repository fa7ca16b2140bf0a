"""Contracts of other servers: what each of them sends, field by field with its source, and what is to come of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hodios.providers.listing_values import decode

CONTRACTS = Path(__file__).parent.parent / "contracts"


def read(path: Path) -> dict[str, Any]:
    """Numbers as a provider's are read."""
    contract: dict[str, Any] = decode(path.read_bytes())
    return contract


def leaves(value: object, path: str = "") -> Iterator[str]:
    """The path of everything that holds nothing else."""
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from leaves(entry, f"{path}/{key.strip('/')}" if path else key.strip("/"))
    elif isinstance(value, list) and value:
        for entry in value:
            yield from leaves(entry, f"{path}[]")
    else:
        yield path
