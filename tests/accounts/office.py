"""Processes that keep accounts, as tests run and kill them."""

from __future__ import annotations

import os
import random
from pathlib import Path

from book import Book

from hodios.accounts.budgets import Charging, charging_of
from hodios.accounts.drain import Drain
from hodios.accounts.entries import Opening
from hodios.accounts.journal import Journal
from hodios.accounts.purse import Purse
from hodios.accounts.reservations import Reservation, Reservations, Wanted
from hodios.store.records import Budgets, KeyRecord, ProjectRecord, SettledAttempt
from hodios.types import Price

NOW_S = 1_763_740_800.0
PRICE = Price(prompt=200_000_000, completion=1_000_000_000, cached=50_000_000, request=3)
"""200 and 1000 nano-dollars a token."""


def key(id: str = "k", project_id: str | None = None, **budgets: int) -> KeyRecord:
    return KeyRecord(id=id, prefix="", digest=b"", project_id=project_id, budgets=Budgets(**budgets), created_at_s=0)


def project(id: str = "p", **budgets: int) -> ProjectRecord:
    return ProjectRecord(id=id, budgets=Budgets(**budgets), created_at_s=0)


def wanted(
    charging: Charging,
    request_id: str,
    number: int = 1,
    *,
    price: Price = PRICE,
    prompt: int = 100,
    most: int = 1000,
    is_open: bool = False,
    has_progress: bool = True,
) -> Wanted:
    opening = Opening(
        request_id=request_id,
        number=number,
        key_id="k",
        project_id=None,
        user="u",
        model="m",
        provider="x",
        price=price,
        accounts=charging.accounts,
    )
    return Wanted(
        opening=opening,
        budgets=charging.budgets,
        prompt_tokens=prompt,
        most_completion_tokens=most,
        is_open_without_store=is_open,
        has_progress=has_progress,
    )


def charging(key: KeyRecord, project: ProjectRecord | None = None) -> Charging:
    return charging_of(key, project, NOW_S)


class Process:
    """All that one process has of accounts but its background tasks."""

    def __init__(self, home: Path, book: Book, **journal: int) -> None:
        self.journal = Journal(home, num_slots=journal.get("num_slots", 256))
        self.name = self.journal.process
        self.folder = home / "journal"
        self.purse = Purse(self.name, book)
        self.drain = Drain(self.name, book, self.purse, random.Random(0))
        self.reservations = Reservations(self.journal, self.purse, self._settled)
        self.told: list[SettledAttempt] = []

    def _settled(self, reservation: Reservation, attempt: SettledAttempt) -> None:
        self.told.append(attempt)
        self.drain.add(attempt, self.reservations.forget, reservation)

    def die(self) -> None:
        """As far as others can see: its lock is gone, and its files are as it has left them."""
        os.close(self.journal._lock_fd)
        for segment in self.journal._segments:
            segment.close()
