"""Who has logged in to the web page: sessions begin, are known again by their cookies, and end.

Browsers send cookies along with whatever any page asks of this host, on every port. So a session counts only for
requests that pages of this very server make, and changes need a token besides that no other page can read.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Mapping

from msgspec import Struct

from hodios.accounts.accounts import Accounts
from hodios.accounts.keyring import Admitted
from hodios.api.marks import Marks
from hodios.api.session_tokens import Pass, TokenSigner
from hodios.errors import AuthenticationError, PermissionDenied

COOKIE = "hodios_session"
CSRF_HEADER = b"x-hodios-csrf"
LIFE_S = 12 * 3600
ENDED = "session_ended"
"""The code of the error."""
_SAFE = frozenset({"GET", "HEAD"})
_OWN_SITES = (b"same-origin", b"none")
_FOUND = re.compile(rf"(?:^|;)\s*{COOKIE}=([^;]*)")
_NUM_RANDOM = 16


class Session(Struct, frozen=True):
    """`admitted` is None for the operator."""

    allowed: Pass
    admitted: Admitted | None


class SessionKeeper:
    """`clock` gives Unix seconds; `marks` keep which sessions were ended before their time."""

    def __init__(
        self,
        signer: TokenSigner,
        accounts: Accounts | None,
        marks: Marks,
        clock: Callable[[], float],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.signer = signer
        self._accounts = accounts
        self.marks = marks
        self._clock = clock
        self._random_bytes = random_bytes

    def begin(self, admitted: Admitted | None) -> Session:
        """Of a key, or None: the operator's. Ends no later than the key."""
        expires_s = int(self._clock()) + LIFE_S
        if admitted is not None and admitted.key.expires_at_s is not None:
            expires_s = min(expires_s, int(admitted.key.expires_at_s))
        digest = b"" if admitted is None else admitted.key.digest
        return Session(Pass(digest, expires_s, self._random_bytes(_NUM_RANDOM).hex()), admitted)

    def end(self, session: Session) -> None:
        """Raises Overloaded where that cannot be noted."""
        self.marks.set(_mark(session.allowed), session.allowed.expires_s)

    async def admit(self, method: str, headers: Mapping[bytes, bytes]) -> Session | None:
        """None where there is no cookie. Raises AuthenticationError for one that is good no longer, PermissionDenied
        for requests of pages of others, Overloaded where nobody can tell."""
        found = _FOUND.search(headers.get(b"cookie", b"").decode("latin-1"))
        if found is None:
            return None
        check_origin(headers)
        allowed = self.signer.read(found[1], self._clock())
        if allowed is None or self.marks.has(_mark(allowed), allowed.expires_s):
            raise _ended("it was ended, or is too old")
        admitted = None
        if not allowed.is_operator:
            admitted = await self._admitted(allowed)
        given = headers.get(CSRF_HEADER, b"")
        if method not in _SAFE and not hmac.compare_digest(self.signer.csrf(allowed).encode(), given):
            raise PermissionDenied(
                f"the header {CSRF_HEADER.decode()} is not that of the session; GET /ui/session tells its value"
            )
        return Session(allowed, admitted)

    async def _admitted(self, allowed: Pass) -> Admitted:
        if self._accounts is None:
            raise _ended("there are no keys here but the operator's")
        try:
            return await self._accounts.admit_again(allowed.digest)
        except AuthenticationError as error:
            raise _ended(error.message.partition(";")[0]) from error


def check_origin(headers: Mapping[bytes, bytes]) -> None:
    """Raises PermissionDenied for what a page asks that is not this server's own. What no browser sends, sends neither
    header.

    Two schemes of the same address are told apart by Sec-Fetch-Site: behind a proxy the server does not know its own.
    """
    origin, host = headers.get(b"origin"), headers.get(b"host", b"")
    is_own = origin is None or origin.lower() in (b"http://" + host.lower(), b"https://" + host.lower())
    if not is_own or headers.get(b"sec-fetch-site", _OWN_SITES[0]) not in _OWN_SITES:
        raise PermissionDenied(
            "a session of the web page is for pages of this server alone; programs and other pages send a key as the "
            "header `Authorization: Bearer <key>`. A proxy before the server has to pass the header Host on"
        )


def _mark(allowed: Pass) -> str:
    return f"session-{allowed.nonce}"


def _ended(why: str) -> AuthenticationError:
    return AuthenticationError(f"the session has ended: {why}; log in again at /ui/", code=ENDED)
