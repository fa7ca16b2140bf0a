"""Requests that clients send again under the same Idempotency-Key: they get the same answer, and it is paid once.

Keeps whole answers of this process, in memory, for a day and within a bound on their bytes. Streams are held against
each other while they run and not kept. Has no clock.
"""

from __future__ import annotations

from collections import OrderedDict

from msgspec import Struct

from hodios.errors import IdempotencyConflict, IdempotencyMismatch, InvalidRequest

KEPT_S = 24 * 3600.0
MOST_BYTES = 64 * 2**20
LONGEST_KEY = 255
RETRY_AFTER_S = 1
_ENTRY_BYTES = 512
"""What an answer takes besides its body and headers, about."""


class KeptAnswer(Struct, frozen=True):
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Claim(Struct, frozen=True):
    """Whoever has it answers the request, and says how that ended: `Idempotency.keep` or `Idempotency.abandon`."""

    owner: str
    key: str


class _Entry(Struct):
    digest: bytes
    answer: KeptAnswer | None = None
    until_s: float = float("inf")
    num_bytes: int = 0


class Idempotency:
    """Times are seconds of any clock that never goes back."""

    def __init__(self, most_bytes: int = MOST_BYTES, kept_s: float = KEPT_S) -> None:
        self._most_bytes = most_bytes
        self._kept_s = kept_s
        self._running: dict[tuple[str, str], _Entry] = {}
        self._kept: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        """The oldest first, which also ends first."""
        self.num_bytes = 0

    def begin(self, owner: str, key: str, digest: bytes, now_s: float) -> Claim | KeptAnswer:
        """`owner`: the id of the API key; `digest`: of all that makes the request what it is.

        Raises IdempotencyConflict where the same request is being answered, IdempotencyMismatch where the key has come
        with another one, InvalidRequest for a key that is empty, too long or not printable ASCII.
        """
        if not 1 <= len(key) <= LONGEST_KEY or not (key.isascii() and key.isprintable()):
            raise InvalidRequest(
                f"Idempotency-Key has {len(key)} characters: accepted are 1 to {LONGEST_KEY} printable ones of ASCII.",
                param="Idempotency-Key",
            )
        self._forget(now_s)
        entry = self._running.get((owner, key)) or self._kept.get((owner, key))
        if entry is None:
            self._running[owner, key] = _Entry(digest)
            return Claim(owner, key)
        if entry.digest != digest:
            raise IdempotencyMismatch(
                "This Idempotency-Key has come with another request before. Send a new key with each new request.",
                param="Idempotency-Key",
            )
        if entry.answer is None:
            raise IdempotencyConflict(
                "The request with this Idempotency-Key is being answered.",
                param="Idempotency-Key",
                retry_after=RETRY_AFTER_S,
            )
        return entry.answer

    def keep(self, claim: Claim, answer: KeptAnswer, now_s: float) -> None:
        """The answer is sent again to whoever sends the request again. One that alone is too large is not kept."""
        entry = self._running.pop((claim.owner, claim.key))
        headers = sum(len(name) + len(value) for name, value in answer.headers)
        entry.num_bytes = _ENTRY_BYTES + len(answer.body) + headers
        if entry.num_bytes > self._most_bytes:
            return
        entry.answer, entry.until_s = answer, now_s + self._kept_s
        self._kept[claim.owner, claim.key] = entry
        self.num_bytes += entry.num_bytes
        self._forget(now_s)

    def abandon(self, claim: Claim) -> None:
        """There is no answer to keep: the request may be sent again as if it had never come."""
        del self._running[claim.owner, claim.key]

    def _forget(self, now_s: float) -> None:
        while self._kept:
            entry = next(iter(self._kept.values()))
            if self.num_bytes <= self._most_bytes and entry.until_s > now_s:
                return
            self._kept.popitem(last=False)
            self.num_bytes -= entry.num_bytes
