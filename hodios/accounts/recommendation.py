"""One thing that traffic suggests to the operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from hodios.store.records import OwnerKind
from hodios.types import Price

Kind = Literal["cheaper_provider", "faster_provider", "budget_nearly_spent", "repeated_prefix", "max_tokens_too_high"]
Prices = Mapping[str, Mapping[str, Price]]
"""Model → provider → price: of all that may be asked."""


class Recommendation(Struct, frozen=True, kw_only=True):
    kind: Kind
    message: str
    """For people to read."""
    model: str | None = None
    provider: str | None = None
    """Who answers now."""
    instead: str | None = None
    """Which provider to ask."""
    saving: int | None = None
    """Nano-dollars, for the same tokens within the same time."""
    latency_s: float | None = None
    """Of a usual answer, now."""
    latency_instead_s: float | None = None
    owner_kind: OwnerKind | None = None
    owner_id: str | None = None
    spent_share: float | None = None
    num_requests: int | None = None
    """Of which it is said."""
    max_tokens: int | None = None
    """That they allow now, at least."""
    max_tokens_instead: int | None = None
