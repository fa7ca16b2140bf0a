"""Who may ask: the admin key for everything, other keys for answers and for what concerns themselves, and which paths
need none."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from hodios.accounts.accounts import Accounts
from hodios.accounts.keyring import Admitted
from hodios.api.routes import ADMIN_PATHS, PUBLIC_PATHS, PUBLIC_PREFIX
from hodios.api.session_keeper import SessionKeeper
from hodios.errors import AuthenticationError, PermissionDenied
from hodios.setting_values import is_loopback
from hodios.store.records import KeyRecord

ADMIN = "admin"
_ADMIN_PREFIX = "/admin/"
_HOW = "send it as the header `Authorization: Bearer <key>`"
_OPERATOR = Admitted(KeyRecord(id=ADMIN, prefix="", digest=b"", created_at_s=0.0), None)


class Caller(Struct, frozen=True):
    """`id` is that of a key, ADMIN, or "" on public paths."""

    id: str
    admitted: Admitted | None = None
    """Whose account pays; None where there are no accounts."""


_NOBODY = Caller("")


class Doorkeeper:
    """Without an admin key and accounts nobody but the public paths' visitors comes in. Who has logged in to the web
    page needs to send no key: `sessions` know him."""

    def __init__(
        self,
        admin_key: str | None,
        *,
        sessions: SessionKeeper,
        accounts: Accounts | None = None,
        is_metrics_public: bool = False,
        is_status_public: bool = False,
        is_local: bool = False,
    ) -> None:
        self._digest = None if admin_key is None else _digest(admin_key.encode())
        self._accounts = accounts
        self._sessions = sessions
        self._operator = Caller(ADMIN, None if accounts is None else _OPERATOR)
        opened = {"/metrics": is_metrics_public, "/status": is_status_public}
        self._opened = {path for path, is_open in opened.items() if is_open}
        self._is_local = is_local

    async def admit(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> Caller:
        """Raises AuthenticationError, PermissionDenied, and Overloaded where nobody can tell whether a key is good."""
        if path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIX):
            return _NOBODY
        if path in self._opened and not (self._is_local and _is_foreign(headers.get(b"host", b""))):
            return _NOBODY
        authorization = headers.get(b"authorization")
        if authorization is None:
            session = await self._sessions.admit(method, headers)
            if session is None:
                raise AuthenticationError(f"no API key was given; {_HOW}")
            return self._operator if session.admitted is None else _with_key(session.admitted, path)
        key = _key_in(authorization)
        if self._accounts is not None and (digest := self._accounts.remembered(key)) is not None:
            # Known by its mark, so that the common case needs no look at the admin key.
            return _with_key(await self._accounts.admit_remembered(digest), path)
        if self._digest is not None and hmac.compare_digest(_digest(key), self._digest):
            return self._operator
        if self._accounts is None:
            raise AuthenticationError(f"the API key is not known here; {_HOW}")
        return _with_key(await self._accounts.admit(key.decode("latin-1")), path)


def _with_key(admitted: Admitted, path: str) -> Caller:
    """Raises PermissionDenied."""
    if path.startswith(_ADMIN_PREFIX) or path in ADMIN_PATHS:
        raise PermissionDenied(f"{path[:200]} is for the admin key alone")
    return Caller(admitted.key.id, admitted)


def _is_foreign(host: bytes) -> bool:
    """Whether a Host header names another machine: a browser then shows a page of that name, whose owner has had the
    name lead here."""
    try:
        name = urlsplit(f"//{host.decode('latin-1')}").hostname or ""
    except ValueError:
        return True
    return not is_loopback(name)


def _key_in(authorization: bytes) -> bytes:
    scheme, _, key = authorization.partition(b" ")
    if scheme.lower() != b"bearer" or not key.strip():
        raise AuthenticationError(f"the Authorization header holds no bearer key; {_HOW}")
    return key.strip()


def is_same(key: bytes, other: bytes) -> bool:
    return hmac.compare_digest(_digest(key), _digest(other))


def _digest(key: bytes) -> bytes:
    """Equal lengths, so that a comparison takes the same time for every key."""
    return hashlib.sha256(key).digest()
