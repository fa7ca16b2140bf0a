"""Keys and projects whose budgets run out one after the other, and what may be spent on each."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from hodios.accounts.keyring import mint
from hodios.store.database import Database
from hodios.store.keys import Keys
from hodios.store.projects import Projects
from hodios.store.records import Budgets, KeyRecord, Limits, ProjectRecord

SECRET = "0123456789abcdef" * 4
NANO_A_TOKEN = 1000
"""At the cheaper provider."""


@dataclass
class Purses:
    """`cohorts` are spent one after the other, each for as long; `lasting` are keys that do not run out."""

    cohorts: list[list[str]] = field(default_factory=list)
    lasting: list[str] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)
    """By the account's name without a date: `key/poor-0/total`, `key/daily-0/day`."""

    def at(self, share: float) -> Sequence[str]:
        """The keys at that part of the whole time, from 0 to 1."""
        cohort = self.cohorts[min(int(share * len(self.cohorts)), len(self.cohorts) - 1)]
        return [*cohort, *cohort, *self.lasting]


async def fill(database: Database, num_cohorts: int) -> Purses:
    purses = Purses()
    maker = _Maker(database, purses)
    for number in range(num_cohorts):
        shared = await maker.project(f"shared-{number}", Budgets(total=_tokens(5000)))
        purses.cohorts.append(
            [
                await maker.key(f"poor-{number}", Budgets(total=_tokens(600))),
                await maker.key(f"modest-{number}", Budgets(total=_tokens(3000))),
                await maker.key(f"daily-{number}", Budgets(daily=_tokens(2000), total=_tokens(100_000))),
                await maker.key(f"one-{number}", Budgets(), project_id=shared),
                await maker.key(f"two-{number}", Budgets(monthly=_tokens(3000)), project_id=shared),
            ]
        )
    limits = Limits(requests_per_minute=600, tokens_per_minute=100_000, parallel_requests=4)
    crew = await maker.project("crew", Budgets(daily=_tokens(10**7)), Limits(parallel_requests=6))
    purses.lasting += [
        await maker.key("free", Budgets()),
        await maker.key("limited", Budgets(), limits=limits),
        await maker.key("queueing", Budgets(total=_tokens(10**7)), project_id=crew, is_queueing=True),
    ]
    return purses


class _Maker:
    def __init__(self, database: Database, purses: Purses) -> None:
        self._keys = Keys(database)
        self._projects = Projects(database)
        self._purses = purses

    async def key(self, id: str, budgets: Budgets, **more: object) -> str:
        """Its text."""
        new = mint(SECRET.encode(), secrets.token_bytes)
        record = KeyRecord(id=id, prefix=new.prefix, digest=new.digest, budgets=budgets, created_at_s=0, **more)  # type: ignore[arg-type]
        await self._keys.create(record)
        self._note(f"key/{id}", budgets)
        return new.text

    async def project(self, id: str, budgets: Budgets, limits: Limits | None = None) -> str:
        await self._projects.create(ProjectRecord(id=id, budgets=budgets, limits=limits or Limits(), created_at_s=0))
        self._note(f"project/{id}", budgets)
        return id

    def _note(self, owner: str, budgets: Budgets) -> None:
        names = {"total": budgets.total, "day": budgets.daily, "week": budgets.weekly, "month": budgets.monthly}
        found = {f"{owner}/{period}": limit for period, limit in names.items() if limit is not None}
        self._purses.limits.update(found)


def _tokens(num: int) -> int:
    return num * NANO_A_TOKEN
