"""One file over HTTP: resumed where it broke off, retried with growing pauses, checked before it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec
from msgspec import Struct

from hodios.errors import DownloadFailed
from hodios.providers.files import CHUNK_BYTES, Progress, finish, part_of, require_space

_ATTEMPTS = 6
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class Source(Struct, frozen=True, kw_only=True):
    """What to fetch. `sha256` and `size_bytes` are what the publisher says of it, where it says so."""

    url: str
    headers: dict[str, str] = {}
    """Sent to the URL's own origin only, never to where it redirects."""
    sha256: str | None = None
    size_bytes: int | None = None


class _Begun(Struct, frozen=True):
    """Kept beside a `.part` file: which version of the file it is a piece of."""

    url: str
    etag: str | None
    sha256: str | None


class RetryableError(Exception):
    """This attempt failed, another may not; `pause_s` is what the server asked for."""

    def __init__(self, message: str, pause_s: float | None = None) -> None:
        super().__init__(message)
        self.pause_s = pause_s


async def fetch(
    session: aiohttp.ClientSession,
    source: Source,
    target: Path,
    progress: Progress,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Bring `source` to `target`. An interrupted download continues at the next call. Raises DownloadFailed.

    Attempts that brought nothing new are counted; those that brought something are not.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(target)
    was_resumed = _resumable(source, part)[0] > 0
    failures = 0
    while True:
        before = _size(part)
        try:
            await _attempt(session, source, part, progress)
            await asyncio.to_thread(finish, part, target, source.sha256)
            _forget(part)
            return
        except DownloadFailed:
            if part.exists():
                raise
            _forget(part)
            if not was_resumed:
                raise
            was_resumed = False  # what an earlier call had left was spoilt: once more from the start
        except (RetryableError, aiohttp.ClientError, TimeoutError) as error:
            failures = 1 if _size(part) > before else failures + 1
            if failures >= _ATTEMPTS:
                raise DownloadFailed(
                    f"{source.url} broke off {failures} times in a row: {error or type(error).__name__}. "
                    f"{_size(part)} bytes are kept; the same command continues there."
                ) from error
            asked = error.pause_s if isinstance(error, RetryableError) else None
            await sleep(asked or min(_FIRST_PAUSE_S * 2 ** (failures - 1), _LONGEST_PAUSE_S))
        except OSError as error:
            raise DownloadFailed(f"{target} cannot be written: {error.strerror or error}.") from error


async def _attempt(session: aiohttp.ClientSession, source: Source, part: Path, progress: Progress) -> None:
    """One request that appends to `part`; returns when the part is as long as the server says the file is."""
    have, etag = _resumable(source, part)
    headers = dict(source.headers) | {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if etag:
            headers["If-Range"] = etag
    async with session.get(source.url, headers=headers) as response:
        if response.status == 416 and have:
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return
            _forget(part)
            raise RetryableError("the server has no such range")
        check_status(response)
        if response.status == 206:
            start, total = _content_range(response)
            if start != have or (etag and response.headers.get("ETag", etag) != etag):
                _forget(part)
                raise RetryableError(f"the server sent other bytes than those from {have} of the version begun")
        else:
            have, total = 0, response.content_length
        _check_version(response, source, total)
        if have == 0:
            _begin(response, source, part)
        require_space(part.parent, (total or 0) - have)
        await _append(response, part, have, total, progress)


async def _append(
    response: aiohttp.ClientResponse, part: Path, have: int, total: int | None, progress: Progress
) -> None:
    name = part.name.removesuffix(".part")
    progress(name, have, total)
    with part.open("r+b" if have else "wb") as file:
        file.seek(have)
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            file.write(chunk)
            have += len(chunk)
            progress(name, have, total)
    if total is not None and have != total:
        raise RetryableError(f"{have} of {total} bytes arrived")


def check_status(response: aiohttp.ClientResponse) -> None:
    """Raises DownloadFailed for an answer that will stay as it is, and what `fetch` retries for one that may not."""
    status = response.status
    if status in (200, 206):
        return
    where = f"{response.url.origin()}{response.url.path}"
    if status in (401, 403):
        raise DownloadFailed(
            f"{where} asks for permission ({status}). If the model is gated, accept its terms on its page; "
            "then set HF_TOKEN to an access token of your account and pull again."
        )
    if status in (404, 410):
        raise DownloadFailed(f"{where} does not exist ({status}). Check the spelling, upper and lower case included.")
    if status in (408, 425, 429) or status >= 500:
        asked = response.headers.get("Retry-After", "")
        raise RetryableError(f"the server answers {status}", min(float(asked), 300.0) if asked.isdigit() else None)
    raise DownloadFailed(f"{where} answers {status} {response.reason or ''}".strip() + ".")


def _check_version(response: aiohttp.ClientResponse, source: Source, total: int | None) -> None:
    """The redirecting hub names the content's checksum: another one than was listed means the file has changed."""
    if source.size_bytes is not None and total is not None and total != source.size_bytes:
        raise DownloadFailed(f"{source.url} has {total} bytes, and {source.size_bytes} were announced. Pull again.")
    for answer in (*response.history, response):
        linked = answer.headers.get("X-Linked-ETag", "").strip('"')
        if len(linked) == 64 and source.sha256 and linked.lower() != source.sha256.lower():
            raise DownloadFailed(f"{source.url} has changed while it was looked up. Pull again.")


def _content_range(response: aiohttp.ClientResponse) -> tuple[int, int | None]:
    """First byte and total size, from `bytes 100-199/200`."""
    unit, _, value = response.headers.get("Content-Range", "").partition(" ")
    span, _, total = value.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or not first.isdigit():
        raise RetryableError("the server sent a range without saying which")
    return int(first), int(total) if total.isdigit() else None


def _resumable(source: Source, part: Path) -> tuple[int, str | None]:
    """How many bytes of `part` can be kept, and the entity tag that must still hold.

    Without a strong tag, only a published checksum can tell that two pieces belong together.
    """
    try:
        begun = msgspec.json.decode(_sidecar(part).read_bytes(), type=_Begun)
    except (OSError, msgspec.MsgspecError):
        return 0, None
    etag = begun.etag if begun.etag and not begun.etag.startswith("W/") else None
    if begun.sha256 != source.sha256 or (not source.sha256 and (begun.url != source.url or not etag)):
        return 0, None
    return _size(part), etag


def _begin(response: aiohttp.ClientResponse, source: Source, part: Path) -> None:
    """The note comes before the first byte, so that no byte is ever taken for a piece of something else."""
    part.unlink(missing_ok=True)
    note = _Begun(source.url, response.headers.get("ETag"), source.sha256)
    _sidecar(part).write_bytes(msgspec.json.encode(note))


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _sidecar(part).unlink(missing_ok=True)


def _sidecar(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
