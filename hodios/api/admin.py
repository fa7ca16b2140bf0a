"""`/admin/v1/`: what the operator does with the catalog: its files, what providers list, and prices as they were."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from hodios.api.admin_schemas import PriceHistory, Reloaded, SyncRequest, SyncStandings, past_price
from hodios.api.auth import ADMIN
from hodios.api.exchange import Exchange
from hodios.api.routes import RouteName
from hodios.errors import InvalidRequest, PermissionDenied
from hodios.providers.catalog_store import CatalogStore
from hodios.providers.sync import Synchronizer
from hodios.providers.sync_report import SyncOutcomes

DEFAULT_LIMIT = 100
MOST_LIMIT = 10_000
PRICE_FILTERS = ("model", "provider", "limit")


class Admin:
    """The handlers of `/admin/v1/`."""

    def __init__(self, store: CatalogStore, synchronizer: Synchronizer, max_body_bytes: int) -> None:
        self._store = store
        self._synchronizer = synchronizer
        self._max_body_bytes = max_body_bytes

    def handlers(self) -> dict[RouteName, Callable[[Exchange], Awaitable[None]]]:
        return {"reload": self.reload, "sync": self.sync, "standings": self.standings, "prices": self.prices}

    async def reload(self, exchange: Exchange) -> None:
        require_admin(exchange)
        if not await self._synchronizer.reload():
            raise InvalidRequest(f"the catalog stays as it was: {self._store.problem}")
        await exchange.answer_json(Reloaded(self._store.current.version))

    async def sync(self, exchange: Exchange) -> None:
        require_admin(exchange)
        names = _names(await exchange.body(self._max_body_bytes))
        with exchange.client():
            outcomes = await self._synchronizer.sync(names)
        await exchange.answer_json(SyncOutcomes(outcomes))

    async def standings(self, exchange: Exchange) -> None:
        require_admin(exchange)
        await exchange.answer_json(SyncStandings(self._synchronizer.standings(), self._synchronizer.interval_s or None))

    async def prices(self, exchange: Exchange) -> None:
        require_admin(exchange)
        model, provider, limit = (exchange.query(name) for name in PRICE_FILTERS)
        if model and (row := self._store.current.find(model)) is not None:
            model = row.id
        changes = await self._synchronizer.changes(
            model=model or None, provider=provider or None, most=limit_in(limit, MOST_LIMIT) if limit else DEFAULT_LIMIT
        )
        await exchange.answer_json(PriceHistory([past_price(change) for change in reversed(changes)]))


def require_admin(exchange: Exchange) -> None:
    """Raises PermissionDenied."""
    if exchange.caller != ADMIN:
        raise PermissionDenied("only the admin key may do this")


def _names(body: bytes) -> list[str]:
    """None are named where there is no body. Raises InvalidRequest."""
    if not body.strip():
        return []
    try:
        return msgspec.json.decode(body, type=SyncRequest).providers or []
    except (ValueError, RecursionError):
        raise InvalidRequest(
            'the request body is not accepted; accepted: none, or {"providers": a list of names}', param="providers"
        ) from None


def limit_in(text: str, most: int) -> int:
    """How many entries a page shall have. Raises InvalidRequest."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise InvalidRequest(f"limit: {text[:60]!r} is not accepted; accepted: 1 to {most}", param="limit")
    return int(text)
