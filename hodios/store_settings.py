"""Where keys, budgets and usage are kept, as the settings say: the section `[store]`. Refuses what it does not know."""

from __future__ import annotations

from urllib.parse import urlsplit


def url(value: object) -> str:
    """`sqlite:///PATH` or `postgresql://…`. Raises ValueError."""
    if not isinstance(value, str) or any(c.isspace() for c in value):
        raise ValueError
    parts = urlsplit(value)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        return value
    if parts.scheme in ("postgresql", "postgres") and (parts.port or True) and len(parts.path) > 1:
        return value
    raise ValueError
