"""`Idempotency-Key`: a request that comes again gets the answer that it had, and costs nothing."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncGenerator, Callable

from hodios.accounts.idempotency import Idempotency, KeptAnswer
from hodios.api.exchange import Exchange

HEADER = b"idempotency-key"
_OK = 200


def is_named(exchange: Exchange) -> bool:
    """Whether the client has given the request a name by which it may come again."""
    return HEADER in exchange.in_headers


class Replays:
    """Of one app. `monotonic` gives seconds from anywhere, and never goes back."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._idempotency = Idempotency()
        self._clock_s = monotonic

    @contextlib.asynccontextmanager
    async def once(self, exchange: Exchange, operation: str, body: bytes) -> AsyncGenerator[KeptAnswer | None, None]:
        """The answer that a request with a name had before, else None; then the answer that is given within the block
        is kept, if it is whole and good. Raises IdempotencyConflict, IdempotencyMismatch, InvalidRequest."""
        name = exchange.in_headers[HEADER]
        digest = hashlib.sha256(operation.encode() + b"\0" + body).digest()
        claim = self._idempotency.begin(exchange.caller, name.decode("latin-1"), digest, self._clock_s())
        if isinstance(claim, KeptAnswer):
            exchange.out_headers.append((b"idempotent-replayed", b"true"))
            yield claim
            return
        is_kept = False

        def keep(status: int, answer: bytes) -> None:
            nonlocal is_kept
            if status == _OK and not is_kept:
                is_kept = True
                self._idempotency.keep(claim, KeptAnswer(status, (), answer), self._clock_s())

        exchange.keep = keep
        try:
            yield None
        finally:
            exchange.keep = None
            if not is_kept:
                self._idempotency.abandon(claim)
