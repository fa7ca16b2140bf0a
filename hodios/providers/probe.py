"""Is a server up, and what it says of itself: one GET. By hand, so that it is light to import."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit

TIMEOUT_S = 5.0
_MOST_BYTES = 2**20
NOBODY = 0
"""Instead of a status: nobody answers at all."""
_NOT_HERE = (404, 405, 501)
"""Of a server that has no such route."""


async def status_of(url: str, key: str | None = None, *, timeout_s: float = TIMEOUT_S) -> int:
    """The status of `GET url`, or NOBODY. Raises TimeoutError where somebody takes the call and says nothing."""
    try:
        async with asyncio.timeout(timeout_s), _asked(url, key, "1.1") as reader:
            return _status(await reader.readline())
    except TimeoutError:
        raise
    except (OSError, ValueError):
        return NOBODY


async def answer_of(url: str, key: str | None = None, *, timeout_s: float = TIMEOUT_S) -> tuple[int, bytes]:
    """The same, and the body. For servers whose answers are short."""
    try:
        # In this version a body is never sent in chunks.
        async with asyncio.timeout(timeout_s), _asked(url, key, "1.0") as reader:
            head, _, body = (await reader.read(_MOST_BYTES)).partition(b"\r\n\r\n")
            while more := await reader.read(_MOST_BYTES - len(body)):
                body += more
            return _status(head.partition(b"\r\n")[0]), body
    except TimeoutError:
        raise
    except (OSError, ValueError):
        return NOBODY, b""


@contextlib.asynccontextmanager
async def _asked(url: str, key: str | None, version: str) -> AsyncIterator[asyncio.StreamReader]:
    """Within the block what is answered to a GET can be read."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"GET {target} HTTP/{version}", f"Host: {parts.netloc}", "Accept: */*", "Connection: close"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    is_secure = parts.scheme == "https"
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port or (443 if is_secure else 80), ssl=is_secure or None
    )
    try:
        writer.write("\r\n".join((*lines, "", "")).encode())
        yield reader
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


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
