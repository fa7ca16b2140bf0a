"""What processes may spend without asking: parts of what a budget has left, leased to one process each.

Under any interleaving, settled + leased ≤ limit, as long as nobody settles more than what was leased to him.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import bindparam, delete, func, select, update

from hodios.store.connection import AsyncConnection
from hodios.store.database import Database
from hodios.store.records import AccountId, Balance, Grant
from hodios.store.schema import accounts, leases

_NOTHING = Balance(0, 0)
_MOST = 2**62
"""Nano-dollars that an account can hold, whatever its limit."""


class Leases:
    """All methods raise StoreUnavailable. After it nobody knows whether a change was made, so none is to be repeated:
    take back from the process what it was to give back before the store is asked, and count on no grant that was not
    answered. What is forgotten by both stays leased until `release`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def grant(self, process: str, account: AccountId, limit: int, least: int, wanted: int) -> Grant:
        """`wanted` of the account for this process, or as much as the limit leaves, but no less than `least`."""
        if not 0 < least <= wanted:
            raise ValueError(f"least = {least} and wanted = {wanted} are not accepted: 0 < least <= wanted.")
        limit = min(limit, _MOST)
        # Who asks for what is spent must not stand in the way of those who write.
        seen = (await self.balances([account]))[account]
        if limit - seen.settled - seen.leased < least:
            return Grant(0, seen)

        async def work(connection: AsyncConnection) -> Grant:
            await self._fence(connection, process)
            balances = await lock(self._database, connection, [account])
            balance = balances[account]
            amount = min(wanted, limit - balance.settled - balance.leased)
            if amount < least:
                return Grant(0, balance)
            await self._lease(connection, process, account, amount)
            return Grant(amount, Balance(balance.settled, balance.leased + amount))

        return await self._database.write(work)

    async def give_back(self, process: str, account: AccountId, amount: int) -> None:
        """No more than what is leased to the process."""

        async def work(connection: AsyncConnection) -> None:
            await lock(self._database, connection, [account])
            held = await held_by(connection, process, [account])
            await take(connection, process, {account: min(amount, held.get(account, 0))})

        await self._database.write(work)

    async def release(self, process: str) -> dict[AccountId, int]:
        """All that is leased to a process that has ended, once what it spent is settled. Returns what that was: nothing
        at the second call."""

        async def work(connection: AsyncConnection) -> dict[AccountId, int]:
            await self._fence(connection, process, is_last=True)
            await lock(self._database, connection, await held_by(connection, process))
            gone = delete(leases).where(leases.c.process == process).returning(leases.c.account, leases.c.amount)
            held = {AccountId.parse(row.account): row.amount for row in await connection.execute(gone)}
            await _lower(connection, held)
            return {account: amount for account, amount in held.items() if amount}

        return await self._database.write(work)

    async def held(self, process: str) -> dict[AccountId, int]:
        """What is leased to the process, and was not settled yet."""
        return await self._database.read(lambda connection: held_by(connection, process))

    async def processes(self) -> list[str]:
        """All that something is leased to."""

        async def work(connection: AsyncConnection) -> list[str]:
            return list((await connection.execute(select(leases.c.process).distinct())).scalars())

        return sorted(await self._database.read(work))

    async def balances(self, ids: Iterable[AccountId]) -> dict[AccountId, Balance]:
        """Of each of the accounts, (0, 0) where nothing was ever spent."""
        names = {str(id): id for id in ids}
        query = select(accounts).where(accounts.c.id.in_(names))

        async def work(connection: AsyncConnection) -> dict[AccountId, Balance]:
            rows = await connection.execute(query)
            found = {names[row.id]: Balance(row.settled, row.leased) for row in rows}
            return {id: found.get(id, _NOTHING) for id in names.values()}

        return await self._database.read(work)

    async def discrepancies(self) -> list[str]:
        """Accounts of which more or less is leased than what processes have. There are none, unless there is a bug or
        somebody else has written into the tables."""
        total = func.coalesce(func.sum(leases.c.amount), 0)
        joined = accounts.outerjoin(leases, leases.c.account == accounts.c.id)
        query = select(accounts.c.id).select_from(joined).group_by(accounts.c.id, accounts.c.leased)

        async def work(connection: AsyncConnection) -> list[str]:
            return list((await connection.execute(query.having(total != accounts.c.leased))).scalars())

        return sorted(await self._database.read(work))

    async def _fence(self, connection: AsyncConnection, process: str, *, is_last: bool = False) -> None:
        """What a process has asked PostgreSQL for may be granted after its death: who is last waits until it is."""
        if not self._database.is_sqlite:
            lock_of = func.pg_advisory_xact_lock if is_last else func.pg_advisory_xact_lock_shared
            await connection.execute(select(lock_of(func.hashtextextended(process, 0))))

    async def _lease(self, connection: AsyncConnection, process: str, account: AccountId, amount: int) -> None:
        grown = update(accounts).where(accounts.c.id == str(account))
        await connection.execute(grown.values(leased=accounts.c.leased + amount))
        row = self._database.insert(leases).values(process=process, account=str(account), amount=amount)
        more = {"amount": leases.c.amount + amount}
        await connection.execute(row.on_conflict_do_update(index_elements=["process", "account"], set_=more))


async def lock(database: Database, connection: AsyncConnection, ids: Iterable[AccountId]) -> dict[AccountId, Balance]:
    """The accounts, which nobody else changes until the transaction ends; opened where they are not there yet. Always
    in the order of their names, so that no two wait for each other."""
    names = {str(id): id for id in ids}
    query = select(accounts).where(accounts.c.id.in_(names)).order_by(accounts.c.id).with_for_update()
    rows = (await connection.execute(query)).all() if names else []
    if len(rows) < len(names):
        missing = sorted(set(names) - {row.id for row in rows})
        opened = [{"id": name, "since": names[name].since} for name in missing]
        await connection.execute(database.insert(accounts).on_conflict_do_nothing(), opened)
        rows = (await connection.execute(query)).all()
    return {names[row.id]: Balance(row.settled, row.leased) for row in rows}


async def held_by(
    connection: AsyncConnection, process: str, ids: Iterable[AccountId] | None = None
) -> dict[AccountId, int]:
    """What is leased to the process, of these accounts or of all."""
    query = select(leases.c.account, leases.c.amount).where(leases.c.process == process)
    if ids is not None:
        query = query.where(leases.c.account.in_([str(id) for id in ids]))
    return {AccountId.parse(row.account): row.amount for row in await connection.execute(query)}


async def take(connection: AsyncConnection, process: str, amounts: Mapping[AccountId, int]) -> None:
    """These amounts are not leased to the process any more. Under the accounts' locks, and no more than it has."""
    taken = {account: amount for account, amount in amounts.items() if amount > 0}
    if not taken:
        return
    row = (leases.c.process == process) & (leases.c.account == bindparam("name"))
    fewer = update(leases).where(row).values(amount=leases.c.amount - bindparam("taken"))
    await connection.execute(fewer, _parameters(taken))
    await _lower(connection, taken)


async def _lower(connection: AsyncConnection, amounts: Mapping[AccountId, int]) -> None:
    row = accounts.c.id == bindparam("name")
    lowered = update(accounts).where(row).values(leased=accounts.c.leased - bindparam("taken"))
    if amounts:
        await connection.execute(lowered, _parameters(amounts))


def _parameters(amounts: Mapping[AccountId, int]) -> list[dict[str, object]]:
    return [{"name": str(account), "taken": amount} for account, amount in amounts.items()]
