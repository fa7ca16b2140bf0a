"""A model at the provider that serves it, and the seats among which one request may choose."""

from __future__ import annotations

from typing import NamedTuple

from hodios.providers.base import Provider
from hodios.types import ModelCard, Routing


class Seat(NamedTuple):
    """A model at the provider that serves it."""

    provider: Provider
    card: ModelCard


class Group(NamedTuple):
    """All who serve one model that the client named, and how to choose among them."""

    seats: tuple[Seat, ...]
    routing: Routing
    """The request's, with what the variant of the model's name adds."""
