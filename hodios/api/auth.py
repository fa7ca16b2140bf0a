"""Who may ask: the admin key, the only key there is, and which paths need none."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from hodios.api.routes import PUBLIC_PATHS
from hodios.errors import AuthenticationError

ADMIN = "admin"
_HOW = "send it as the header `Authorization: Bearer <key>`"


class Doorkeeper:
    """Without an admin key nobody but the public paths' visitors comes in."""

    def __init__(
        self, admin_key: str | None, *, is_metrics_public: bool = False, is_status_public: bool = False
    ) -> None:
        self._digest = None if admin_key is None else _digest(admin_key.encode())
        opened = {"/metrics": is_metrics_public, "/status": is_status_public}
        self._public = PUBLIC_PATHS | {path for path, is_open in opened.items() if is_open}

    def admit(self, path: str, headers: Mapping[bytes, bytes]) -> str:
        """The caller's key id, "" on public paths. Raises AuthenticationError."""
        if path in self._public:
            return ""
        authorization = headers.get(b"authorization")
        if authorization is None:
            raise AuthenticationError(f"no API key was given; {_HOW}")
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not key.strip():
            raise AuthenticationError(f"the Authorization header holds no bearer key; {_HOW}")
        if self._digest is None or not hmac.compare_digest(_digest(key.strip()), self._digest):
            raise AuthenticationError(f"the API key is not known here; {_HOW}")
        return ADMIN


def _digest(key: bytes) -> bytes:
    """Equal lengths, so that a comparison takes the same time for every key."""
    return hashlib.sha256(key).digest()
