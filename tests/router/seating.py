"""Seats with a track, made in a line."""

from __future__ import annotations

from typing import Any

from fake_provider import MODEL, FakeProvider, card, good

from hodios.router.demand import Demand
from hodios.router.policy import Option, option_of
from hodios.router.seat import Seat
from hodios.router.stats import Average
from hodios.router.track import Track
from hodios.types import Request


def seat(name: str, dollars: float = 1.0, **values: Any) -> Seat:
    return Seat(FakeProvider(name, good(), card=card(name, dollars, **values)), card(name, dollars, **values))


def demand(**values: Any) -> Demand:
    fields = {
        "num_prompt_tokens": 100,
        "num_longest": 100,
        "max_tokens": None,
        "num_answers": 1,
        "needs": {},
        "parameters": frozenset(),
    }
    return Demand(**{**fields, **values})


def option(name: str, dollars: float = 1.0, track: Track | None = None, **values: Any) -> Option:
    return option_of(seat(name, dollars, **values), track or Track(Average()), demand())


def names(options: list[Option]) -> list[str]:
    return [each.seat.provider.name for each in options]


def request(text: str = "hello", **values: Any) -> Request:
    said = ({"role": "user", "content": text},)
    return Request(**{"id": "chat-1", "model": MODEL, "messages": said, **values})
