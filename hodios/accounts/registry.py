"""Keys and projects as operators change them: made, changed, rotated, deleted, and what was spent on them.

What goes wrong is told in words for whoever asked. The text of a key leaves here once, and is kept nowhere.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from msgspec import Struct, structs

from hodios.accounts.budgets import PERIODS, resets_at_s, since
from hodios.accounts.keyring import RETRY_AFTER_S, NewKey, mint
from hodios.errors import Conflict, InvalidRequest, NotFound, Overloaded
from hodios.store.database import Database
from hodios.store.failures import AlreadyStored, NotStored, StaleVersion, StoreUnavailable
from hodios.store.keys import Keys
from hodios.store.leases import Leases
from hodios.store.projects import Projects
from hodios.store.records import AccountId, Balance, KeyRecord, OwnerKind, ProjectRecord
from hodios.store.versioned import Versioned

MOST_IN_PAGE = 500
_MOST_TRIES = 8
"""Of a change that meets others who change the same record."""
ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
"""No record has another one, and not every database can be asked for what is none."""
R = TypeVar("R", KeyRecord, ProjectRecord)


class Spending(Struct, frozen=True):
    """In the present period. Nano-dollars; what is still under way is not among it."""

    spent: int
    left: int | None
    """None: there is no budget."""
    resets_at_s: float | None
    """Unix seconds; None: never."""


class Registry:
    """Of one store. `clock_s` gives Unix seconds. All methods raise Overloaded where the store cannot be reached."""

    def __init__(
        self,
        database: Database,
        secret: bytes,
        *,
        clock_s: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._keys = Keys(database)
        self._projects = Projects(database)
        self._leases = Leases(database)
        self._secret = secret
        self._clock_s = clock_s
        self._random_bytes = random_bytes

    async def create_key(self, filled: Callable[[KeyRecord], KeyRecord]) -> tuple[KeyRecord, str]:
        """`filled` is given a key with nothing but defaults. Returns the record and the key's text. Raises
        InvalidRequest where there is no such project."""
        new = self._mint()
        record = filled(
            KeyRecord(id=self._new_id("key"), prefix=new.prefix, digest=new.digest, created_at_s=self._clock_s())
        )
        with _store():
            try:
                await self._keys.create(record)
            except NotStored:
                raise _no_such_project(record) from None
        return record, new.text

    async def create_project(self, filled: Callable[[ProjectRecord], ProjectRecord]) -> ProjectRecord:
        record = filled(ProjectRecord(id=self._new_id("prj"), created_at_s=self._clock_s()))
        with _store():
            await self._projects.create(record)
        return record

    async def key(self, id: str) -> KeyRecord:
        """Raises NotFound."""
        return await _got(self._keys, "key", id)

    async def project(self, id: str) -> ProjectRecord:
        """Raises NotFound."""
        return await _got(self._projects, "project", id)

    async def keys(self, *, after: str, most: int, project: str | None) -> list[KeyRecord]:
        """Oldest first, those behind the id `after`."""
        with _store():
            if project is None:
                return await self._keys.page(after=after, most=most)
            return await self._keys.of_project(project, after=after, most=most)

    async def projects(self, *, after: str, most: int) -> list[ProjectRecord]:
        """As `keys`."""
        with _store():
            return await self._projects.page(after=after, most=most)

    async def change_key(self, id: str, changed: Callable[[KeyRecord], KeyRecord], version: int | None) -> KeyRecord:
        """`version`: the one that the caller has seen; None: whichever it has. Raises NotFound, Conflict where it has
        another one by now, and InvalidRequest where there is no such project."""

        async def replace(record: KeyRecord) -> KeyRecord:
            wanted = changed(record)
            try:
                return await self._keys.replace(wanted)
            except NotStored:
                if wanted.project_id is not None and await self._projects.get(wanted.project_id) is None:
                    raise _no_such_project(wanted) from None
                raise

        return await _changed(self._keys, "key", id, version, replace)

    async def change_project(
        self, id: str, changed: Callable[[ProjectRecord], ProjectRecord], version: int | None
    ) -> ProjectRecord:
        """As `change_key`."""
        return await _changed(
            self._projects, "project", id, version, lambda record: self._projects.replace(changed(record))
        )

    async def rotate_key(self, id: str, grace_s: float) -> tuple[KeyRecord, str]:
        """The key has a new text, which is returned; the one that it had is good for `grace_s` more. Raises
        NotFound."""
        new = self._mint()

        async def rotate(record: KeyRecord) -> KeyRecord:
            until_s = self._clock_s() + grace_s
            return await self._keys.rotate(id, new.prefix, new.digest, version=record.version, previous_until_s=until_s)

        return await _changed(self._keys, "key", id, None, rotate), new.text

    async def delete_key(self, id: str) -> None:
        """What was spent with it stays in the ledger. Raises NotFound."""
        await _deleted(self._keys, "key", id)

    async def delete_project(self, id: str) -> None:
        """Raises NotFound, and Conflict where it still has keys."""
        try:
            await _deleted(self._projects, "project", id)
        except AlreadyStored:
            raise Conflict(
                f"the project {id} still has keys: delete them, or give them another project, before it"
            ) from None

    async def spending(self, records: Iterable[R]) -> dict[str, dict[str, Spending]]:
        """By id, then by the name of the budget: what was spent in the periods that are now."""
        records, now_s = list(records), self._clock_s()
        accounts = {(record.id, name): _account(record, name, now_s) for record in records for name in PERIODS}
        with _store():
            balances = await self._leases.balances(accounts.values())
        return {record.id: _spending(record, accounts, balances) for record in records}

    def _mint(self) -> NewKey:
        return mint(self._secret, self._random_bytes)

    def _new_id(self, kind: str) -> str:
        """In the order of their making, by the millisecond."""
        return f"{kind}_{int(self._clock_s() * 1000):012x}{self._random_bytes(4).hex()}"


def _account(record: R, name: str, now_s: float) -> AccountId:
    kind: OwnerKind = "key" if isinstance(record, KeyRecord) else "project"
    return AccountId(kind, record.id, PERIODS[name], since(PERIODS[name], now_s))


def _spending(
    record: R, accounts: Mapping[tuple[str, str], AccountId], balances: Mapping[AccountId, Balance]
) -> dict[str, Spending]:
    found = {}
    for name, limit in structs.asdict(record.budgets).items():
        account = accounts[record.id, name]
        spent = balances[account].settled
        found[name] = Spending(spent, None if limit is None else max(0, limit - spent), resets_at_s(account))
    return found


async def _got(shelf: Versioned[R], kind: str, id: str) -> R:
    with _store():
        record = await shelf.get(id) if ID.fullmatch(id) else None
    if record is None:
        raise _no_such(kind, id)
    return record


async def _deleted(shelf: Versioned[R], kind: str, id: str) -> None:
    if not ID.fullmatch(id):
        raise _no_such(kind, id)
    with _store():
        try:
            await shelf.delete(id)
        except NotStored:
            raise _no_such(kind, id) from None


async def _changed(
    shelf: Versioned[R], kind: str, id: str, version: int | None, change: Callable[[R], Awaitable[R]]
) -> R:
    for _ in range(_MOST_TRIES):
        record = await _got(shelf, kind, id)
        if version is not None and version != record.version:
            break
        with _store(), contextlib.suppress(StaleVersion):
            try:
                return await change(record)
            except NotStored:
                raise _no_such(kind, id) from None
    raise Conflict(f"the {kind} {id} was changed by somebody else: read it again, and send its version")


@contextlib.contextmanager
def _store() -> Iterator[None]:
    """What clients are told of its failures."""
    try:
        yield
    except StoreUnavailable as error:
        raise Overloaded("the store of keys cannot be reached now", retry_after=RETRY_AFTER_S) from error


def _no_such(kind: str, id: str) -> NotFound:
    return NotFound(
        f"there is no {kind} with the id {id[:200]!r}; GET /admin/v1/{kind}s and hodios {kind}s list name all"
    )


def _no_such_project(record: KeyRecord) -> InvalidRequest:
    return InvalidRequest(
        f"project: {record.project_id!r} is not known; accepted: the id of a project, or null", param="project"
    )
