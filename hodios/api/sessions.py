"""`/ui/session`: logging in to the web page with a key or a one-time link, seeing who one is, and logging out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from hodios.accounts.accounts import Accounts
from hodios.api import login_codes
from hodios.api.auth import ADMIN, is_same
from hodios.api.exchange import Exchange
from hodios.api.guesses import Guesses
from hodios.api.routes import RouteName
from hodios.api.session_keeper import COOKIE, Session, SessionKeeper, check_origin
from hodios.errors import AuthenticationError, InvalidRequest, PermissionDenied

MOST_BYTES = 4096
_ACCEPTED = 'accepted: {"key": an API key} or {"code": that of a one-time link}'


class SessionRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One of them."""

    key: str | UnsetType = UNSET
    code: str | UnsetType = UNSET


class SessionDetails(Struct, frozen=True):
    """Who has logged in. `csrf` goes into the header x-hodios-csrf of all that is no GET."""

    role: Literal["admin", "key"]
    id: str
    name: str
    prefix: str
    expires_at: datetime
    csrf: str


class NoSession(Struct, frozen=True):
    role: None = None


class Sessions:
    """The handlers. `clock` gives Unix seconds."""

    def __init__(
        self,
        keeper: SessionKeeper,
        admin_key: str | None,
        accounts: Accounts | None,
        guesses: Guesses,
        clock: Callable[[], float],
    ) -> None:
        self._keeper = keeper
        self._admin_key = admin_key
        self._accounts = accounts
        self._guesses = guesses
        self._clock = clock

    def handlers(self) -> dict[RouteName, Callable[[Exchange], Awaitable[None]]]:
        return {"open_session": self.open, "show_session": self.show, "end_session": self.end}

    async def open(self, exchange: Exchange) -> None:
        """POST /ui/session."""
        check_origin(exchange.in_headers)
        asked = _asked(await exchange.body(MOST_BYTES))
        client = exchange.scope.get("client")
        address = client[0] if client else ""
        self._guesses.count(address)
        session = await (self._with_key(asked.key) if asked.key else self._with_code(asked.code or ""))
        self._guesses.forgive(address)
        token = self._keeper.signer.token(session.allowed)
        _set_cookie(exchange, token, session.allowed.expires_s - int(self._clock()))
        await self._answer(exchange, session)

    async def show(self, exchange: Exchange) -> None:
        """GET /ui/session."""
        try:
            session = await self._keeper.admit("GET", exchange.in_headers)
        except (AuthenticationError, PermissionDenied):
            session = None
        await self._answer(exchange, session)

    async def end(self, exchange: Exchange) -> None:
        """DELETE /ui/session."""
        check_origin(exchange.in_headers)
        try:
            session = await self._keeper.admit("DELETE", exchange.in_headers)
        except AuthenticationError:
            session = None
        if session is not None:
            await asyncio.to_thread(self._keeper.end, session)
        _set_cookie(exchange, "", 0)
        await self._answer(exchange, None)

    async def _with_key(self, text: str) -> Session:
        """Raises AuthenticationError, Overloaded."""
        if self._admin_key is not None and is_same(text.encode(errors="replace"), self._admin_key.encode()):
            return self._keeper.begin(None)
        if self._accounts is None:
            raise AuthenticationError("the key is not known here; a one-time link needs none: hodios ui")
        return self._keeper.begin(await self._accounts.admit_current(text))

    async def _with_code(self, text: str) -> Session:
        """Raises AuthenticationError, Overloaded."""
        if self._admin_key is None:
            raise AuthenticationError("there is no admin key here that a login code could be made with")
        code = login_codes.read(text, self._admin_key, self._clock())
        if not await asyncio.to_thread(self._keeper.marks.set, f"code-{code.nonce}", code.expires_s):
            raise login_codes.used_up()
        return self._keeper.begin(None)

    async def _answer(self, exchange: Exchange, session: Session | None) -> None:
        await exchange.answer_json(NoSession() if session is None else self._details(session))

    def _details(self, session: Session) -> SessionDetails:
        key = None if session.admitted is None else session.admitted.key
        return SessionDetails(
            role="admin" if key is None else "key",
            id=ADMIN if key is None else key.id,
            name="" if key is None else key.name,
            prefix="" if key is None else key.prefix,
            expires_at=datetime.fromtimestamp(session.allowed.expires_s, UTC),
            csrf=self._keeper.signer.csrf(session.allowed),
        )


def _asked(body: bytes) -> SessionRequest:
    """Raises InvalidRequest, which never repeats what was sent: it may be a key."""
    try:
        asked = msgspec.json.decode(body, type=SessionRequest)
    except (ValueError, RecursionError):
        raise InvalidRequest(f"the request body is not accepted; {_ACCEPTED}") from None
    if bool(asked.key) == bool(asked.code):
        raise InvalidRequest(f"exactly one of key and code is needed; {_ACCEPTED}")
    return asked


def _set_cookie(exchange: Exchange, value: str, age_s: int) -> None:
    secure = "; Secure" if exchange.is_https else ""
    cookie = f"{COOKIE}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}"
    exchange.out_headers.append((b"set-cookie", cookie.encode()))


def session_schemas() -> dict[str, Any]:
    """By name, for the OpenAPI document."""
    kinds = (SessionRequest, SessionDetails, NoSession)
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    either = [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in (SessionDetails, NoSession)]
    return {**components, "SessionState": {"anyOf": either}}
