"""The door of the application: every request comes in here, and every error leaves as JSON."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from hodios.api.auth import Doorkeeper
from hodios.api.cors import Cors
from hodios.api.exchange import CLIENT_GONE, ClientGone, Exchange
from hodios.api.metrics import Metrics
from hodios.api.request_log import RequestLog
from hodios.errors import AuthenticationError, HodiosError, MethodNotAllowed, NotFound, Overloaded

EXCHANGE = "hodios.exchange"
Handler = Callable[[Exchange], Awaitable[None]]
_log = logging.getLogger(__name__)


class Endpoint:
    """A route's end as an ASGI app: hands the exchange to its handler."""

    def __init__(self, name: str, handler: Handler) -> None:
        self.name = name
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handler(scope[EXCHANGE])


class Door:
    """Around all routes: request id, key, CORS, errors, metrics. Busy paths lead straight from here to their ends."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        endpoints: Mapping[str, Endpoint],
        doorkeeper: Doorkeeper,
        cors: Cors,
        metrics: Metrics,
        request_log: RequestLog | None,
        monotonic: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._app = app
        self._endpoints = endpoints
        self._doorkeeper = doorkeeper
        self._cors = cors
        self._metrics = metrics
        self._request_log = request_log
        self._monotonic = monotonic
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, monotonic=self._monotonic, new_id=self._new_id)
        scope[EXCHANGE] = exchange
        self._metrics.num_in_progress += 1
        try:
            await self._serve(exchange, scope, receive, send)
        except ClientGone:
            exchange.status = CLIENT_GONE
        except asyncio.CancelledError:
            exchange.status, exchange.error_code = Overloaded.status, Overloaded.code
            raise
        except HodiosError as error:
            if isinstance(error, AuthenticationError):
                exchange.out_headers.append((b"www-authenticate", b"Bearer"))
            await exchange.fail(error)
        except Exception:  # noqa: BLE001 - the one place where a bug becomes an answer
            _log.exception("request %s failed", exchange.request_id)
            await exchange.fail(HodiosError(f"internal error; the request id is {exchange.request_id}"))
        finally:
            self._metrics.num_in_progress -= 1
            endpoint = scope.get("endpoint")
            self._metrics.record(exchange, endpoint.name if isinstance(endpoint, Endpoint) else "none")
            if self._request_log is not None:
                self._request_log.end(exchange)
            # Or they would hold each other, and all they know, until the collector of cycles comes by.
            del scope[EXCHANGE]
            exchange.epilogue = None

    async def _serve(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        self._cors.dress(exchange)
        if self._cors.is_preflight(exchange):
            await self._cors.answer_preflight(exchange)
            return
        caller = await self._doorkeeper.admit(scope["method"], scope["path"], exchange.in_headers)
        exchange.caller, exchange.admitted = caller.id, caller.admitted
        endpoint = self._endpoints.get(scope["path"]) if scope["method"] == "POST" else None
        if endpoint is None:
            await self._app(scope, receive, send)
        else:
            scope["endpoint"] = endpoint
            await endpoint(scope, receive, send)


async def refuse(request: Request, error: Exception) -> NoReturn:
    """What the router has no route for, as one of our own errors."""
    assert isinstance(error, HTTPException)
    exchange: Exchange = request.scope[EXCHANGE]
    method, path = request.scope["method"], request.scope["path"][:200]
    if error.status_code == MethodNotAllowed.status:
        # Several routes may have the path, each with methods of its own.
        routes = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
        allowed = ", ".join(sorted({method for route in routes for method in route.methods}))
        exchange.out_headers.append((b"allow", allowed.encode()))
        raise MethodNotAllowed(f"{method} is not possible on {path}; accepted: {allowed}")
    raise NotFound(f"there is no route {method} {path}; GET /openapi.json lists all routes")
