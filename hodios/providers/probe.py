"""Is a server up: one GET, of which nothing but the status is read. By hand, so that it is light to import."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from urllib.parse import urlsplit

TIMEOUT_S = 5.0
NOBODY = 0
"""Instead of a status: nobody answers at all."""
_NOT_HERE = (404, 405, 501)
"""Of a server that has no such route."""


async def status_of(url: str, key: str | None = None, *, timeout_s: float = TIMEOUT_S) -> int:
    """The status of `GET url`, or NOBODY. Raises TimeoutError where somebody takes the call and says nothing."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", "Accept: */*", "Connection: close"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    is_secure = parts.scheme == "https"
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or (443 if is_secure else 80), ssl=is_secure or None
            )
            try:
                writer.write("\r\n".join((*lines, "", "")).encode())
                return _status(await reader.readline())
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        raise
    except (OSError, ValueError):
        return NOBODY


async def status_of_first(urls: Sequence[str], key: str | None = None) -> int:
    """The status of the first of `urls` that the server knows. Raises TimeoutError."""
    status = NOBODY
    for url in urls:
        status = await status_of(url, key)
        if status not in _NOT_HERE:
            break
    return status


def _status(line: bytes) -> int:
    words = line.split()
    return int(words[1]) if len(words) > 1 and words[0].startswith(b"HTTP/") and words[1].isdigit() else NOBODY
