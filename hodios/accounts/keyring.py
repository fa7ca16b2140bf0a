"""Which key a text is: its record and its project, cached, and looked up by a digest that tells nobody the key.

A digest is HMAC-SHA256 under the server's secret. Changes show at the next look at the store's counter of them; without
the store, keys that were good go on for TTL_S since that was last certain, and unknown ones get a 503.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from msgspec import Struct

from hodios.errors import AuthenticationError, Overloaded
from hodios.store.failures import StoreUnavailable
from hodios.store.records import KeyRecord, ProjectRecord

TTL_S = 300.0
POLL_S = 1.5
MOST_KNOWN = 100_000
MOST_UNKNOWN = 10_000
MOST_LOOKUPS = 8
"""At the same time: guesses must not take the store away from others."""
BEGINNING = "sk-hodios-"
SHOWN = len(BEGINNING) + 6
"""Characters by which people know a key."""
RETRY_AFTER_S = 5
_NUM_RANDOM = 24
_NUM_CHECK = 8
_log = logging.getLogger(__name__)


class NewKey(Struct, frozen=True):
    """`text` is shown once and kept nowhere."""

    text: str
    prefix: str
    digest: bytes


class Admitted(Struct, frozen=True):
    key: KeyRecord
    project: ProjectRecord | None


class KeyShelf(Protocol):
    """As `store.keys.Keys`."""

    async def by_digest(self, digest: bytes) -> KeyRecord | None: ...

    async def touch(self, last_used: Mapping[str, float]) -> None: ...


class ProjectShelf(Protocol):
    """As `store.projects.Projects`."""

    async def get(self, id: str) -> ProjectRecord | None: ...


class _Entry(Struct):
    admitted: Admitted | None
    """None: there is no such key."""
    version: int
    certain_s: float
    """When it was the truth, as far as is known."""


class Keyring:
    """Of one process. `clock_s` gives Unix seconds; `version` is the store's counter of changes."""

    def __init__(
        self,
        secret: bytes,
        keys: KeyShelf,
        projects: ProjectShelf,
        version: Callable[[], Awaitable[int]],
        clock_s: Callable[[], float],
    ) -> None:
        self._secret = secret
        self._keys = keys
        self._projects = projects
        self._ask_version = version
        self._clock_s = clock_s
        self._known: OrderedDict[bytes, _Entry] = OrderedDict()
        self._unknown: OrderedDict[bytes, _Entry] = OrderedDict()
        self._version = -1
        self._polled_s = float("-inf")
        self._lookups: dict[bytes, asyncio.Task[_Entry]] = {}
        self._room = asyncio.Semaphore(MOST_LOOKUPS)
        self._marks_secret = hashlib.blake2b(secret, person=b"hodios-marks").digest()
        self._digests: dict[bytes, bytes] = {}
        """Of texts that were good, by marks of them that take a tenth of the time."""
        self._used: dict[str, float] = {}
        self.is_degraded = False
        """Whether the store could not be asked last."""

    async def admit(self, text: str) -> Admitted:
        """Raises AuthenticationError for what is no key, or none any more, and Overloaded where nobody can tell."""
        mark = self._mark(text.encode(errors="surrogateescape"))
        digest = self._digests.get(mark)
        if digest is not None:
            return await self.admit_remembered(digest)
        if not self._is_ours(text):
            raise _rejected("is not known here")
        digest = digest_of(self._secret, text)
        admitted = await self.admit_remembered(digest)
        if len(self._digests) >= MOST_KNOWN:
            self._digests.clear()
        self._digests[mark] = digest
        return admitted

    def remembered(self, text: bytes) -> bytes | None:
        """The digest of a key that was good once, for `admit_remembered`; None of every other text."""
        return self._digests.get(self._mark(text))

    async def admit_current(self, text: str) -> Admitted:
        """As `admit`, but a key that was replaced is good no longer, not even until its old text runs out."""
        if not self._is_ours(text):
            raise _rejected("is not known here")
        return await self.admit_again(digest_of(self._secret, text))

    async def admit_again(self, digest: bytes) -> Admitted:
        """As `admit_current`, for somebody who has shown the key before."""
        admitted = await self.admit_remembered(digest)
        if not hmac.compare_digest(admitted.key.digest, digest):
            raise _rejected("was replaced by a new one")
        return admitted

    async def admit_remembered(self, digest: bytes) -> Admitted:
        """As `admit`, by the digest of a text."""
        now_s = self._clock_s()
        entry = self._known.get(digest) or self._unknown.get(digest)
        if entry is None or not self._is_fresh(entry, now_s):
            entry = await self._look_up_once(digest, entry)
        if entry.admitted is None:
            raise _rejected("is not known here")
        _check(entry.admitted, digest, now_s)
        self._used[entry.admitted.key.id] = now_s
        return entry.admitted

    async def poll(self) -> float:
        """Find out whether something has changed, and say which keys were used. Returns for how many seconds that is
        enough."""
        now_s = self._clock_s()
        try:
            self._version = await self._ask_version()
            self._polled_s = now_s
            used, self._used = self._used, {}
            await self._keys.touch(used)
        except StoreUnavailable as error:
            if not self.is_degraded:
                _log.warning("the store cannot be reached (%s): keys are good as long as they are remembered", error)
            self.is_degraded = True
        else:
            self.is_degraded = False
        return POLL_S

    def _is_fresh(self, entry: _Entry, now_s: float) -> bool:
        if entry.version == self._version:
            entry.certain_s = max(entry.certain_s, self._polled_s)
        return entry.version == self._version and now_s - entry.certain_s < TTL_S

    async def _look_up_once(self, digest: bytes, entry: _Entry | None) -> _Entry:
        """However many ask for it at the same time."""
        task = self._lookups.get(digest)
        if task is None:
            task = self._lookups[digest] = asyncio.create_task(self._look_up(digest))
            task.add_done_callback(lambda done: self._looked_up(digest, done))
        try:
            return await asyncio.shield(task)
        except StoreUnavailable:
            if entry is not None and entry.admitted is not None and self._clock_s() - entry.certain_s < TTL_S:
                return entry
            raise Overloaded("Whether the key is valid cannot be found out.", retry_after=RETRY_AFTER_S) from None

    async def _look_up(self, digest: bytes) -> _Entry:
        async with self._room:
            # What is read after the version was asked for is at least so new.
            version, now_s = self._version, self._clock_s()
            key = await self._keys.by_digest(digest)
            project = await self._projects.get(key.project_id) if key and key.project_id else None
        entry = _Entry(Admitted(key, project) if key else None, version, now_s)
        shelf, most = (self._known, MOST_KNOWN) if key else (self._unknown, MOST_UNKNOWN)
        self._known.pop(digest, None)
        self._unknown.pop(digest, None)
        shelf[digest] = entry
        if len(shelf) > most:
            shelf.popitem(last=False)
        return entry

    def _looked_up(self, digest: bytes, task: asyncio.Task[_Entry]) -> None:
        del self._lookups[digest]
        if not task.cancelled():
            task.exception()

    def _mark(self, text: bytes) -> bytes:
        return hashlib.blake2b(text, key=self._marks_secret).digest()

    def _is_ours(self, text: str) -> bool:
        body = text[:-_NUM_CHECK]
        check = _check_of(self._secret, body).encode()
        return text.startswith(BEGINNING) and hmac.compare_digest(check, text[-_NUM_CHECK:].encode())


def mint(secret: bytes, random_bytes: Callable[[int], bytes]) -> NewKey:
    """A new key: 192 random bits, and 32 by which guesses are told apart from keys without asking the store."""
    body = BEGINNING + random_bytes(_NUM_RANDOM).hex()
    text = body + _check_of(secret, body)
    return NewKey(text, text[:SHOWN], digest_of(secret, text))


def digest_of(secret: bytes, text: str) -> bytes:
    return hmac.digest(secret, text.encode(errors="surrogateescape"), "sha256")


def _check_of(secret: bytes, body: str) -> str:
    return hmac.digest(secret, b"check " + body.encode(errors="surrogateescape"), "sha256").hex()[:_NUM_CHECK]


def _check(admitted: Admitted, digest: bytes, now_s: float) -> None:
    key, project = admitted.key, admitted.project
    is_current = hmac.compare_digest(key.digest, digest)
    is_previous = key.previous_digest is not None and hmac.compare_digest(key.previous_digest, digest)
    if not is_current and not (is_previous and (key.previous_expires_at_s or 0) > now_s):
        raise _rejected("was replaced by a new one")
    if key.is_disabled or (project is not None and project.is_disabled):
        raise _rejected("is disabled")
    if key.expires_at_s is not None and key.expires_at_s <= now_s:
        raise _rejected("has expired")


def _rejected(why: str) -> AuthenticationError:
    return AuthenticationError(f"the API key {why}; send a valid one as the header `Authorization: Bearer <key>`")
