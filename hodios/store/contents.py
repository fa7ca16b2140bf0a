"""What was asked and answered, of keys whose policy says that it is stored. Apart from the log of requests, so that no
report reads it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import select

from hodios.store.bulk import insert_new
from hodios.store.connection import AsyncConnection
from hodios.store.database import Database
from hodios.store.ledger import clean_text
from hodios.store.records import StoredContent
from hodios.store.schema import contents


class Contents:
    """All methods raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, told: Iterable[StoredContent]) -> None:
        """What is told twice is kept once."""
        found = {content.request_id: content for content in told}
        columns = [*zip(*(_row(found[id]) for id in sorted(found)), strict=True)]

        async def work(connection: AsyncConnection) -> None:
            await insert_new(connection, contents, columns)

        await self._database.write(work)

    async def of(self, request_id: str) -> StoredContent | None:
        query = select(contents).where(contents.c.request_id == request_id)

        async def work(connection: AsyncConnection) -> StoredContent | None:
            row = (await connection.execute(query)).mappings().one_or_none()
            return None if row is None else StoredContent(**row)

        return await self._database.read(work)


def _row(content: StoredContent) -> tuple[object, ...]:
    """Records have their fields in the order of the columns."""
    user = None if content.user is None else clean_text(content.user)
    return msgspec.structs.astuple(msgspec.structs.replace(content, user=user))
