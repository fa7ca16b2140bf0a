"""A server that speaks the hub's protocol, holds what it is given, and breaks on demand."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer

REPOSITORY = "maker/tiny-GGUF"


class FakeHub:
    """A hub and the store it redirects to, with faults."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.served: dict[str, bytes] = {}
        """What the store sends instead of what was listed."""
        self.cut_after: int | None = None
        """Bytes after which the store breaks off, in every answer."""
        self.supports_ranges = True
        self.etags = iter(f'"v{number}"' for number in [0] * 1000)
        self.statuses: list[int] = []
        """Statuses of the store's next answers, before it works."""
        self.token: str | None = None
        self.unlisted_size = False
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.endpoint = ""
        self.store_url = ""
        self.is_slow = False
        """Until it is told to `go`, the store sends a little every tenth of a second."""
        self.go = asyncio.Event()

    async def info(self, request: web.Request) -> web.Response:
        self.requests.append((request.path, dict(request.headers)))
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        if request.match_info["repository"] != REPOSITORY:
            return web.Response(status=404)
        siblings = [
            {"rfilename": name, "size": len(data), "lfs": {"sha256": sha256(data), "size": len(data)}}
            for name, data in self.files.items()
        ]
        return web.json_response({"sha": "c0ffee", "siblings": [*siblings, {"rfilename": "README.md", "size": 3}]})

    async def resolve(self, request: web.Request) -> web.Response:
        self.requests.append((request.path, dict(request.headers)))
        name = request.match_info["file"]
        if name not in self.files:
            return web.Response(status=404)
        headers = {"X-Linked-ETag": f'"{sha256(self.files[name])}"', "X-Linked-Size": str(len(self.files[name]))}
        raise web.HTTPFound(f"{self.store_url}/{name}", headers=headers)

    async def content(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, dict(request.headers)))
        if self.statuses:
            return web.Response(status=self.statuses.pop(0))
        name = request.match_info["file"]
        data = self.served.get(name, self.files[name])
        etag = next(self.etags)
        start, status = 0, 200
        if self.supports_ranges and "Range" in request.headers and request.headers.get("If-Range", etag) == etag:
            start, status = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-")), 206
            if start >= len(data):
                return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
        response = web.StreamResponse(status=status, headers={"ETag": etag})
        if status == 206:
            response.headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if not self.unlisted_size:
            response.content_length = len(data) - start
        await response.prepare(request)
        while self.is_slow and not self.go.is_set() and start < len(data):
            await response.write(data[start : start + 10_000])
            start += 10_000
            await asyncio.sleep(0.1)
        if self.cut_after is None:
            await response.write(data[start:])
            return response
        await response.write(data[start : start + self.cut_after])
        if start + self.cut_after < len(data):
            await asyncio.sleep(0.002)  # so that the client has taken the bytes before the connection goes
            assert request.transport is not None
            request.transport.abort()
        return response

    def ranges(self) -> list[int]:
        asked = [headers.get("Range", "bytes=0-") for path, headers in self.requests if path.startswith("/store/")]
        return [int(value.removeprefix("bytes=").removesuffix("-")) for value in asked]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@asynccontextmanager
async def serving_hub(hub: FakeHub) -> AsyncIterator[FakeHub]:
    front, store = web.Application(), web.Application()
    front.router.add_get("/api/models/{repository:.+}", hub.info)
    front.router.add_get("/{author}/{name}/resolve/{commit}/{file:.+}", hub.resolve)
    store.router.add_get("/store/{file:.+}", hub.content)
    async with TestServer(front) as front_server, TestServer(store) as store_server:
        hub.endpoint = f"http://127.0.0.1:{front_server.port}"
        hub.store_url = f"http://127.0.0.1:{store_server.port}/store"
        yield hub
