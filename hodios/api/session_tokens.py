"""What a browser keeps in its cookie: who has logged in, and until when, signed. No server keeps a list of them.

Tokens of the operator are signed with the admin key too, so that a new one ends them all. Tokens of other keys hold the
digest by which the key is found, not the key.
"""

from __future__ import annotations

import base64
import binascii
import hmac

import msgspec
from msgspec import Struct

_NUM_SIGNATURE = 32


class Pass(Struct, frozen=True, array_like=True):
    """`digest` is that of the key; b"" stands for the operator."""

    digest: bytes
    expires_s: int
    nonce: str
    """Nobody else has it."""

    @property
    def is_operator(self) -> bool:
        return not self.digest


class TokenSigner:
    """`secret` is what digests of keys are made with."""

    def __init__(self, secret: bytes, admin_key: str | None) -> None:
        self._key = hmac.digest(secret, b"session", "sha256")
        self._operator_key = None if admin_key is None else hmac.digest(self._key, admin_key.encode(), "sha256")

    def token(self, allowed: Pass) -> str:
        body = msgspec.msgpack.encode(allowed)
        return base64.urlsafe_b64encode(self._sign(allowed, b"token " + body) + body).decode().rstrip("=")

    def read(self, token: str, now_s: float) -> Pass | None:
        """None for what is no token of ours, or none any more."""
        try:
            data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            signature, body = data[:_NUM_SIGNATURE], data[_NUM_SIGNATURE:]
            allowed = msgspec.msgpack.decode(body, type=Pass)
        except (binascii.Error, ValueError):
            return None
        if allowed.is_operator and self._operator_key is None:
            return None
        is_ours = hmac.compare_digest(self._sign(allowed, b"token " + body), signature)
        return allowed if is_ours and allowed.expires_s > now_s else None

    def csrf(self, allowed: Pass) -> str:
        """What a page of ours can learn of its session, and no page of others."""
        return self._sign(allowed, b"csrf " + msgspec.msgpack.encode(allowed)).hex()

    def _sign(self, allowed: Pass, text: bytes) -> bytes:
        key = self._operator_key if allowed.is_operator else self._key
        assert key is not None, "nobody is the operator without an admin key"
        return hmac.digest(key, text, "sha256")
