"""Which web pages may call the API: those served from this machine, and the origins that the operator named."""

from __future__ import annotations

import re
from collections.abc import Collection

from hodios.api.exchange import EXPOSED_HEADERS, Exchange
from hodios.errors import PermissionDenied

_LOOPBACK = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?")
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,2000}")
_VARY = (b"vary", b"Origin")


class Cors:
    """`origins` are exact, besides loopback on any port; "*" stands for all."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origin.lower() for origin in origins)

    def is_allowed(self, origin: bytes) -> bool:
        text = origin.decode("latin-1").lower()
        return "*" in self._origins or text in self._origins or _LOOPBACK.fullmatch(text) is not None

    def dress(self, exchange: Exchange) -> None:
        """Headers for every answer, errors too, so that a page can read them."""
        exchange.out_headers.append(_VARY)
        origin = exchange.in_headers.get(b"origin")
        if origin is not None and self.is_allowed(origin):
            exchange.out_headers += (
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", EXPOSED_HEADERS.encode()),
            )

    def is_preflight(self, exchange: Exchange) -> bool:
        headers = exchange.in_headers
        return (
            exchange.scope["method"] == "OPTIONS"
            and b"origin" in headers
            and b"access-control-request-method" in headers
        )

    async def answer_preflight(self, exchange: Exchange) -> None:
        """Needs no key. Raises PermissionDenied for an origin that may not ask."""
        origin = exchange.in_headers[b"origin"]
        if not self.is_allowed(origin):
            raise PermissionDenied("pages of this origin may not call the API; the operator can add it to cors_origins")
        wanted = exchange.in_headers.get(b"access-control-request-headers", b"")
        exchange.out_headers += (
            (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE, OPTIONS"),
            (b"access-control-allow-headers", wanted if _HEADER_NAMES.fullmatch(wanted) else b"authorization"),
            (b"access-control-max-age", b"600"),
        )
        await exchange.answer(204, b"")
