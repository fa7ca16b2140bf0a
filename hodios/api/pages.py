"""The web page: the files of `hodios/ui`, held in memory and served below /ui/ to anybody. Nothing else of the disk is.

A path that is no file is answered with `index.html` where a browser asks for it: the page knows what belongs there.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Awaitable, Callable
from functools import cached_property
from pathlib import Path

from hodios.api.exchange import Exchange
from hodios.api.routes import RouteName
from hodios.errors import NotFound

FOLDER = Path(__file__).parent.parent / "ui"
INDEX = "index.html"
ENTRY = b"/ui/"
TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".ico": b"image/x-icon",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".mjs": b"text/javascript; charset=utf-8",
    ".png": b"image/png",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
    ".webmanifest": b"application/manifest+json",
    ".woff2": b"font/woff2",
}
"""By the ending of a file's name. Other files are not served."""
_PACKED = frozenset({".ico", ".png", ".woff2"})
"""What gzip makes no smaller."""
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    b"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = (
    (b"cache-control", b"no-cache"),
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_NO_GZIP = re.compile(r"q=0(\.0*)?$")


class Asset:
    """One file in its two encodings. Each has a tag of its own, since their bytes differ."""

    def __init__(self, content_type: bytes, body: bytes, *, is_packed: bool) -> None:
        self.content_type = content_type
        self.body = body
        self.tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        self._is_packed = is_packed

    @cached_property
    def gzipped(self) -> bytes | None:
        """None where that saves nothing."""
        if self._is_packed:
            return None
        packed = gzip.compress(self.body, mtime=0)
        return packed if len(packed) < len(self.body) else None


class Pages:
    """The handlers."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.assets = {
            path.relative_to(folder).as_posix(): Asset(
                TYPES[path.suffix], path.read_bytes(), is_packed=path.suffix in _PACKED
            )
            for path in sorted(folder.rglob("*"))
            if path.suffix in TYPES and path.is_file()
        }

    def handlers(self) -> dict[RouteName, Callable[[Exchange], Awaitable[None]]]:
        return {"root": self.enter, "pages": self.enter, "page": self.show}

    async def enter(self, exchange: Exchange) -> None:
        """GET / and GET /ui."""
        exchange.out_headers.append((b"location", ENTRY))
        await exchange.answer(307, b"")

    async def show(self, exchange: Exchange) -> None:
        """GET /ui/…"""
        asset = self._asset(exchange)
        headers = exchange.in_headers
        gzipped = asset.gzipped if accepts_gzip(headers.get(b"accept-encoding", b"").decode("latin-1")) else None
        tag = asset.tag if gzipped is None else f'{asset.tag[:-1]}-gzip"'
        out = [header for header in exchange.out_headers if header[0] != b"vary"]
        exchange.policy = HEADERS
        exchange.out_headers = [*out, (b"vary", b"Origin, Accept-Encoding"), (b"etag", tag.encode())]
        if has_tag(headers.get(b"if-none-match", b"").decode("latin-1"), tag):
            await exchange.answer(304, b"", asset.content_type)
            return
        if gzipped is not None:
            exchange.out_headers.append((b"content-encoding", b"gzip"))
        await exchange.answer(200, asset.body if gzipped is None else gzipped, asset.content_type)

    def _asset(self, exchange: Exchange) -> Asset:
        """Raises NotFound."""
        name = exchange.scope["path_params"]["file"] or INDEX
        asset = self.assets.get(name)
        if asset is None and b"text/html" in exchange.in_headers.get(b"accept", b"").lower():
            asset = self.assets.get(INDEX)
        if asset is None:
            raise NotFound(f"there is no file {name[:200]!r} below /ui/; the web page begins at /ui/")
        return asset


def accepts_gzip(accepted: str) -> bool:
    """By an Accept-Encoding header. A name counts for more than `*`."""
    wishes = {}
    for part in accepted.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        wishes[name] = not any(_NO_GZIP.match(parameter) for parameter in parameters)
    return wishes.get("gzip", wishes.get("*", False))


def has_tag(wanted: str, tag: str) -> bool:
    """Whether an If-None-Match header names it."""
    tags = {each.strip().removeprefix("W/") for each in wanted.split(",")}
    return "*" in tags or tag in tags
