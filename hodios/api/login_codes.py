"""Codes by which somebody who has the admin key opens the web page once, without the key ever being in an address.

A code is signed with the admin key: whoever has it can make one, and the server needs no list of them. That it is good
once is noted elsewhere.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable

from msgspec import Struct

from hodios.errors import AuthenticationError

LIFE_S = 600
_NUM_RANDOM = 16
_HOW = "make a new link with: hodios ui"


class LoginCode(Struct, frozen=True):
    """One that is genuine, and not too old."""

    nonce: str
    expires_s: int


def mint(admin_key: str, now_s: float, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Letters, digits and dots, fit for an address."""
    said = f"{int(now_s) + LIFE_S}.{random_bytes(_NUM_RANDOM).hex()}"
    return f"{said}.{_signature(admin_key, said)}"


def link(url: str, admin_key: str, now_s: float) -> str:
    """To the page of the server at `url`. What stands behind # is never sent to a server, and so in no log."""
    return f"{url}/ui/login#code={mint(admin_key, now_s)}"


def read(code: str, admin_key: str, now_s: float) -> LoginCode:
    """Raises AuthenticationError, which says what to do."""
    said, _, signature = code.rpartition(".")
    if not hmac.compare_digest(_signature(admin_key, said).encode(), signature.encode(errors="replace")):
        raise AuthenticationError(f"the login code is not one of this server; {_HOW}")
    expires, _, nonce = said.partition(".")
    if int(expires) <= now_s:
        raise AuthenticationError(f"the login code is older than {LIFE_S // 60} minutes; {_HOW}")
    return LoginCode(nonce, int(expires))


def used_up() -> AuthenticationError:
    return AuthenticationError(f"the login code was used already; {_HOW}")


def _signature(admin_key: str, said: str) -> str:
    return hmac.digest(admin_key.encode(), b"login " + said.encode(errors="replace"), "sha256").hex()
