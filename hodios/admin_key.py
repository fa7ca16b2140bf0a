"""The one key that opens everything: how it is made, kept (HODIOS_HOME/admin.key, for the owner's eyes) and judged, as
is every secret that the settings name."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from hodios import secret_file
from hodios.errors import ConfigError

_GUESSABLE = (
    "qwertyuiop", "asdfghjkl", "zxcvbnm", "password", "passw0rd", "changeme", "change-me", "change_me", "placeholder",
    "administrator", "supersecret", "secret", "admin", "hodios", "openai", "example", "default", "letmein", "token",
    "apikey", "api-key", "api_key", "master", "your", "test", "demo", "root", "user", "local", "key", "sk-", "the",
)  # fmt: skip
_GOOD = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'


def weakness_of(key: str) -> str | None:
    """Why a key could be guessed, as the end of a sentence; None if nothing speaks against it."""
    if len(key) < 24:
        return f"has {len(key)} characters, fewer than 24"
    rest = key.lower()
    for word in _GUESSABLE:
        rest = rest.replace(word, "")
    steps = [ord(b) - ord(a) for a, b in pairwise(rest)]
    surprises = sum(step not in (-1, 0, 1) for step in steps)
    if len(rest) < 12 or surprises < 8:
        return "is made of well-known words or sequences"
    if len(set(rest)) < 8 or any(rest[:-period] == rest[period:] for period in range(1, len(rest) // 2 + 1)):
        return "repeats the same few characters"
    return None


def check_exposed(host: str, key: str | None) -> None:
    """Raises ConfigError for a key that cannot guard an address which other machines reach."""
    fix = f"Set HODIOS_ADMIN_KEY to a random key, for example from: {_GOOD} — or listen on 127.0.0.1."
    if key is None:
        raise ConfigError(f"host = {host!r} is reachable from other machines, and no admin key is set. {fix}")
    weakness = weakness_of(key)
    if weakness:
        raise ConfigError(f"host = {host!r} is reachable from other machines, and the admin key {weakness}. {fix}")


def check_keys_secret(secret: str | None) -> None:
    """Raises ConfigError for one with which digests of keys could be made by others."""
    weakness = weakness_of(secret) if secret is not None else None
    if weakness:
        raise ConfigError(
            f"keys_secret {weakness}. Set HODIOS_KEYS_SECRET to what another replica's keys.secret holds, or to a "
            f"random text, for example from: {_GOOD}"
        )


class AdminKey(Struct, frozen=True):
    value: str
    path: Path
    is_new: bool = False
    was_exposed: bool = False
    """Others could read the file until now; the mode has been tightened."""


def obtain(home: Path, generate: Callable[[], str] = lambda: secrets.token_urlsafe(32)) -> AdminKey:
    """The key kept under `home`, made at the first call. Two processes that ask at once get the same one.

    Raises ConfigError where the file cannot be used.
    """
    path = home / "admin.key"
    try:
        found = secret_file.obtain(path, lambda: f"sk-hodios-{generate()}")
    except OSError as error:
        raise ConfigError(f"The admin key cannot be kept in {path}: {error.strerror}. Set HODIOS_ADMIN_KEY.") from error
    kept = found.text
    if not all("!" <= c <= "~" for c in kept):
        raise ConfigError(f"{path} holds no key of printable ASCII. Remove it: the next start makes a new one.")
    return AdminKey(kept, path, found.is_new, found.was_exposed)
