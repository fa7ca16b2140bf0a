"""Keys, kept: found by the digests of what clients send, and replaced by new ones while the old ones run out."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Double, bindparam, or_, select, update

from hodios.store.connection import AsyncConnection
from hodios.store.database import Database
from hodios.store.records import KeyRecord
from hodios.store.schema import keys
from hodios.store.versioned import Versioned


class Keys(Versioned[KeyRecord]):
    def __init__(self, database: Database) -> None:
        super().__init__(database, keys, KeyRecord)

    async def by_digest(self, digest: bytes) -> KeyRecord | None:
        """The key that has it now, else the one that had it before its last rotation: whoever asks compares times."""
        is_current = keys.c.digest == digest
        query = select(keys).where(or_(is_current, keys.c.previous_digest == digest))
        found = await self._rows(query.order_by(is_current.desc()).limit(1))
        return found[0] if found else None

    async def of_project(self, project_id: str, *, after: str = "", most: int = 100) -> list[KeyRecord]:
        """As `page`."""
        return await self._page(after, most, keys.c.project_id == project_id)

    async def rotate(self, id: str, prefix: str, digest: bytes, *, version: int, previous_until_s: float) -> KeyRecord:
        """The key has a new text from now on; the one that it had is good until `previous_until_s`. The one before
        that is not known any more. Raises NotStored, StaleVersion, AlreadyStored."""
        return await self.change(
            id,
            version,
            {
                "prefix": prefix,
                "digest": digest,
                "previous_digest": keys.c.digest,
                "previous_expires_at_s": previous_until_s,
            },
        )

    async def touch(self, last_used: Mapping[str, float]) -> None:
        """When keys were used last, by their ids. Does not count as a change; keys that are gone are passed over."""
        if not last_used:
            return
        at_s = bindparam("at_s", type_=Double)
        is_older = or_(keys.c.last_used_at_s.is_(None), keys.c.last_used_at_s < at_s)
        touched = update(keys).where(keys.c.id == bindparam("key"), is_older).values(last_used_at_s=at_s)
        rows = [{"key": id, "at_s": used_s} for id, used_s in sorted(last_used.items())]

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(touched, rows)

        await self._database.write(work)
