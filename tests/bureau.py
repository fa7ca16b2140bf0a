"""An API with real accounts in SQLite, keys of the test's own, and providers that play scripts at a price."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from hodios.accounts.keyring import mint
from hodios.accounts.office import Office, opened
from hodios.api.app import create_app
from hodios.config import Config
from hodios.events import Event
from hodios.providers.base import ModelHealth, Provider
from hodios.store.database import Database
from hodios.store.records import KeyRecord, LoggedRequest, SettledAttempt
from hodios.store.reports import Reports, Wanted
from hodios.types import ModelCard, Price, Request

PRICE = Price(prompt=39_000_001, completion=390_000_007, cached=1_000_001, request=3)
"""Of which no count of tokens is a whole number of nano-dollars."""
CARD = ModelCard(
    id="maker/model", aliases=("model",), context_length=100_000, max_output_tokens=50, price=PRICE, continues=True
)


@dataclass
class Bureau:
    app: Any
    office: Office
    database: Database

    @property
    def reports(self) -> Reports:
        return Reports(self.database)

    async def key(self, id: str = "k1", **values: Any) -> str:
        """Makes a key and returns its text."""
        new = mint(self.office.secret, secrets.token_bytes)
        await self.office.keys.create(
            KeyRecord(id=id, prefix=new.prefix, digest=new.digest, created_at_s=0.0, **values)
        )
        return new.text

    async def settled(self) -> None:
        """Waits until the store has everything."""
        while True:
            figures = self.office.accounts.figures()
            if not (figures.num_held or figures.num_undrained or len(self.office.contents)):
                return
            await asyncio.sleep(0.02)

    async def logged(self) -> list[LoggedRequest]:
        """The newest first."""
        await self.settled()
        return (await self.reports.page(Wanted())).requests

    async def attempts(self, request_id: str) -> list[SettledAttempt]:
        return await self.reports.attempts_of(request_id)


@asynccontextmanager
async def bureau(config: Config, providers: Sequence[Provider], **options: Any) -> AsyncIterator[Bureau]:
    url = f"sqlite:///{config.home}/hodios.db"
    async with opened(config.home, url) as office:
        database = Database.open(url)
        try:
            yield Bureau(create_app(config, providers, office=office, **options), office, database)
        finally:
            await database.close()


@dataclass
class Scripted:
    """Yields the events of its script; an error in it is raised, a callable is awaited."""

    script: Sequence[Event | Exception | Callable[[], Awaitable[None]]]
    name: str = "scripted"
    card: ModelCard = CARD

    async def start(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    def models(self) -> Sequence[ModelCard]:
        return (structs.replace(self.card, provider=self.name),)

    def tokenizer(self, model: str) -> None:
        return None

    def health(self) -> Sequence[ModelHealth]:
        return (ModelHealth(model=self.card.id, state="ready"),)

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        for step in self.script:
            if isinstance(step, Exception):
                raise step
            if callable(step):
                await step()
            else:
                yield step
