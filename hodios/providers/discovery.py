"""Servers of other programs on this machine, found on the ports that they usually have: which kind each of them is, by
routes that no other kind has, and which models it lists. Asks nobody for an answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct, structs

from hodios.errors import HodiosError
from hodios.providers.catalog_rows import Offer, ProviderRow
from hodios.providers.listing_client import ListingClient
from hodios.providers.listing_entries import Tags

KINDS = ("ollama", "lm_studio", "llama_server", "vllm")
_TIMEOUT = aiohttp.ClientTimeout(total=3, sock_connect=1)
_MOST_BYTES = 1 << 20
_MOST_ROWS = 50
_NEEDS_KEY = (401, 403)

Get = Callable[[str], Awaitable[tuple[int, Any]]]
"""The status of a route (0: nobody answers) and what it has as JSON, None where that is none."""


class Found(Struct, frozen=True):
    """One server."""

    kind: str
    title: str
    url: str
    """The base URL, with the version."""
    offers: tuple[Offer, ...] = ()
    needs_key: bool = False
    problem: str = ""
    """Why its models are not known; "" where they are."""


async def discover(
    rows: Mapping[str, ProviderRow], origins: Sequence[str] = (), *, passed_over: Iterable[str] = ()
) -> list[Found]:
    """Whoever answers at `origins`, or on the usual ports of every kind, but not at `passed_over`; both are addresses
    without a path. `rows` are the catalog's. Never raises."""
    kinds = [rows[kind] for kind in KINDS if kind in rows]
    places = dict.fromkeys(origins or (row.usual_url.removesuffix("/v1") for row in kinds))
    left_out = set(passed_over)
    async with aiohttp.ClientSession(timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()) as session:
        found = await asyncio.gather(*(_at(origin, kinds, session) for origin in places if origin not in left_out))
    return [server for server in found if server is not None]


def settings_of(server: Found, taken: Iterable[str] = ()) -> str:
    """The rows of `hodios.toml` that have Hodios serve what it has, under a name that is not among `taken`."""
    names = set(taken)
    name = next(name for number in range(1, len(names) + 3) if (name := _numbered(server.kind, number)) not in names)
    lines = [f"[providers.{name}]"]
    if name != server.kind:
        lines.append(f"kind = {_quoted(server.kind)}")
    lines.append(f"base_url = {_quoted(server.url)}")
    if server.needs_key:
        lines.append(f"api_key_env = {_quoted(f'{server.kind.upper()}_API_KEY')}")
    for offer in server.offers[:_MOST_ROWS]:
        lines += ["", f"[[providers.{name}.models]]", f"id = {_quoted(offer.id)}"]
        if offer.context_length is not None:
            lines.append(f"context_length = {offer.context_length}")
    return "\n".join(lines)


def _numbered(kind: str, number: int) -> str:
    return kind if number == 1 else f"{kind}_{number}"


def _quoted(text: str) -> str:
    """As a string of TOML, of which JSON's are a part."""
    return json.dumps(text).replace("\x7f", "\\u007f")


async def _at(origin: str, kinds: Sequence[ProviderRow], session: aiohttp.ClientSession) -> Found | None:
    async def get(path: str) -> tuple[int, Any]:
        return await _json(session, origin + path)

    if (await get("/"))[0] == 0:
        return None
    for row in kinds:
        if await _SIGNS[row.name](get):
            return await _listed(structs.replace(row, base_url=f"{origin}/v1"))
    return None


async def _listed(row: ProviderRow) -> Found:
    found = Found(row.name, row.title, row.base_url)
    try:
        listed = await ListingClient(row, None, most_s=10.0).read(Tags())
    except HodiosError as error:
        status = (error.metadata or {}).get("status")
        return structs.replace(found, needs_key=status in _NEEDS_KEY, problem=error.message)
    return structs.replace(found, offers=listed.reading.offers if listed else ())


async def _json(session: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    try:
        async with session.get(url, allow_redirects=False) as response:
            body = await response.content.read(_MOST_BYTES)
            try:
                return response.status, msgspec.json.decode(body)
            except ValueError:
                return response.status, None
    except (aiohttp.ClientError, OSError, TimeoutError):
        return 0, None


async def _is_ollama(get: Get) -> bool:
    """`/api/version` is in its API's documentation, and in LM Studio's and llama-server's is not."""
    status, told = await get("/api/version")
    return status == 200 and isinstance(told, dict) and isinstance(told.get("version"), str)


async def _is_lm_studio(get: Get) -> bool:
    """`/api/v0/models` is its own REST API."""
    status, told = await get("/api/v0/models")
    return status == 200 and isinstance(told, dict) and isinstance(told.get("data"), list)


async def _is_llama_server(get: Get) -> bool:
    """`/props` tells of its slots; while it loads, and behind a key, it says no more than a status."""
    status, told = await get("/props")
    return status == 200 and isinstance(told, dict) and "default_generation_settings" in told


async def _is_vllm(get: Get) -> bool:
    """`/version`, which is open to all, and models that say whose they are."""
    status, told = await get("/version")
    if status != 200 or not isinstance(told, dict) or not isinstance(told.get("version"), str):
        return False
    status, told = await get("/v1/models")
    entries = told.get("data") if isinstance(told, dict) else None
    owners = {entry.get("owned_by") for entry in entries or () if isinstance(entry, dict)}
    return status in _NEEDS_KEY or "vllm" in owners


_SIGNS: Mapping[str, Callable[[Get], Awaitable[bool]]] = {
    "ollama": _is_ollama,
    "lm_studio": _is_lm_studio,
    "llama_server": _is_llama_server,
    "vllm": _is_vllm,
}
