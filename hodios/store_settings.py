"""Where keys, budgets and usage are kept, and where limits are counted, as the settings say: the section `[store]`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

_SERVERS = ("postgresql", "postgres")
_COUNTERS = ("redis", "rediss", "unix")


def url(value: object) -> str:
    """`sqlite:///PATH`, or a URL as PostgreSQL's own programs read it. Raises ValueError."""
    if not isinstance(value, str) or not all("!" <= c <= "~" for c in value):
        raise ValueError
    parts = urlsplit(value)
    is_file = parts.scheme == "sqlite" and not (parts.netloc or parts.query or parts.fragment)
    if not (is_file or parts.scheme in _SERVERS) or len(parts.path) < 2:
        raise ValueError
    return value


def limits_url(value: object) -> str:
    """Of a Valkey or Redis. Raises ValueError."""
    if not isinstance(value, str) or not all("!" <= c <= "~" for c in value):
        raise ValueError
    parts = urlsplit(value)
    if parts.scheme == "unix":
        is_place = len(parts.path) > 1 and "/" not in parts.netloc.rpartition("@")[2]
    else:
        number = parts.path.removeprefix("/")
        is_place = bool(parts.hostname) and parts.port != 0 and (not number or number.isdecimal())
    if parts.scheme not in _COUNTERS or not is_place or parts.fragment:
        raise ValueError
    return value


def default_url(home: Path) -> str:
    return f"sqlite:///{quote(str(home / 'hodios.db'))}"


def shown(url: str) -> str:
    """For people to read: without a password, wherever in the URL it stands."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    place = f"{parts.username}@{host}" if parts.username else host
    return f"{parts.scheme}://{place}{parts.path}"
