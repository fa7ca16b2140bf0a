"""Asking for lists over real HTTP: tags, refusals, redirects, silence, and answers that are too much."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from scripted_upstream import CUT, HANG, KEY, Asked, Reply, ScriptedUpstream, document

from hodios.errors import HodiosError, Overloaded, ProviderError, TimedOut
from hodios.providers.catalog_rows import ProviderRow
from hodios.providers.listing_client import Listed, ListingClient
from hodios.providers.listing_entries import Tags

ENTRY = {"id": "a/b", "context_length": 4096, "pricing": {"prompt": "0.000001", "completion": "0.000002"}}
LIST = {"data": [ENTRY]}


def row(upstream: ScriptedUpstream, **fields: Any) -> ProviderRow:
    values = {"name": "acme", "title": "Acme", "is_hosted": True, "listing": "openrouter"}
    return ProviderRow(**{**values, "base_url": f"{upstream.url}/v1", **fields})


async def read(upstream: ScriptedUpstream, tags: Tags = Tags(), **fields: Any) -> Listed | None:  # noqa: B008 - frozen
    bounds = {name: fields.pop(name) for name in ("most_s", "most_bytes") if name in fields}
    return await ListingClient(row(upstream, **fields), KEY, **bounds).read(tags)


async def test_the_list_is_asked_for_with_the_key(upstream: ScriptedUpstream) -> None:
    upstream.replies = [document(LIST)]
    listed = await read(upstream)
    assert listed is not None
    assert [offer.id for offer in listed.reading.offers] == ["a/b"]
    (asked,) = upstream.asked
    assert asked.path == "/v1/models"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.raw == b""


async def test_no_key_is_sent_where_there_is_none(upstream: ScriptedUpstream) -> None:
    upstream.replies = [document(LIST)]
    await ListingClient(row(upstream), None).read(Tags())
    assert "Authorization" not in upstream.asked[0].headers


async def test_tags_come_back_and_an_unchanged_list_is_none(upstream: ScriptedUpstream) -> None:
    upstream.replies = [document(LIST, ETag='W/"1"', **{"Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"})]
    listed = await read(upstream)
    assert listed is not None
    assert listed.tags == Tags('W/"1"', "Sat, 21 Nov 2026 10:00:00 GMT")
    upstream.replies = [Reply(status=304)]
    assert await read(upstream, listed.tags) is None
    assert upstream.asked[1].headers["If-None-Match"] == 'W/"1"'
    assert upstream.asked[1].headers["If-Modified-Since"] == "Sat, 21 Nov 2026 10:00:00 GMT"


async def test_unchanged_since_nothing_is_no_answer(upstream: ScriptedUpstream) -> None:
    upstream.replies = [Reply(status=304)]
    with pytest.raises(ProviderError, match="status 304"):
        await read(upstream)


async def test_tags_that_cannot_be_sent_back_are_dropped(upstream: ScriptedUpstream) -> None:
    upstream.replies = [document(LIST, ETag='"é"')]
    listed = await read(upstream)
    assert listed is not None
    assert listed.tags == Tags()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(upstream: ScriptedUpstream, status: int) -> None:
    """The key would go along."""
    upstream.replies = [Reply(status=status, headers={"Location": f"{upstream.url}/elsewhere"})]
    with pytest.raises(ProviderError, match="redirects are not followed"):
        await read(upstream)
    assert len(upstream.asked) == 1


async def test_too_many_requests_say_when_to_come_again(upstream: ScriptedUpstream) -> None:
    upstream.replies = [document({"error": {"message": "slow down"}}, status=429, **{"Retry-After": "77"})]
    with pytest.raises(Overloaded) as refused:
        await read(upstream)
    assert refused.value.retry_after == 77


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 500, 502, 503])
async def test_refusals_are_told_without_the_key(upstream: ScriptedUpstream, status: int) -> None:
    upstream.replies = [document({"error": {"message": f"the key {KEY} is bad"}}, status=status)]
    with pytest.raises(HodiosError) as refused:
        await read(upstream)
    assert "acme" in refused.value.message
    assert KEY not in refused.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html><html><body>Sign in</body></html>",
        b"{",
        b"[" * 50_000,
        b'{"data": 3}',
        b"\xff\xfe",
        b"null",
    ],
)
async def test_what_is_no_list_is_told(upstream: ScriptedUpstream, body: bytes) -> None:
    upstream.replies = [Reply([body], content_type="text/html")]
    with pytest.raises(ProviderError, match="sent no list of models"):
        await read(upstream)


async def test_a_list_that_breaks_off_is_told(upstream: ScriptedUpstream) -> None:
    upstream.replies = [Reply([b'{"data": [', CUT])]
    with pytest.raises(ProviderError, match="cannot be asked for its models"):
        await read(upstream)


@pytest.mark.parametrize("parts", [[HANG], [b'{"data": [', HANG]])
async def test_silence_ends(upstream: ScriptedUpstream, parts: list[Any]) -> None:
    upstream.replies = [Reply(parts)]
    with pytest.raises(TimedOut, match=r"within 0\.3 s"):
        await read(upstream, most_s=0.3)
    await upstream.gone.wait()


async def test_nobody_there_is_told(upstream: ScriptedUpstream) -> None:
    with pytest.raises(ProviderError, match="cannot be asked for its models"):
        await ListingClient(row(upstream, base_url="http://127.0.0.1:1/v1"), KEY).read(Tags())


async def test_a_list_that_is_too_long_is_told(upstream: ScriptedUpstream) -> None:
    upstream.replies = [Reply([b" " * 65536] * 64, content_type="application/json")]
    with pytest.raises(ProviderError, match="more than 100000 bytes"):
        await read(upstream, most_bytes=100_000)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
async def test_packed_lists_are_unpacked(upstream: ScriptedUpstream, pack: Any) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    upstream.replies = [Reply([pack(json.dumps(LIST).encode())], headers={"Content-Encoding": encoding})]
    listed = await read(upstream)
    assert listed is not None
    assert len(listed.reading.offers) == 1


async def test_a_bomb_does_not_unfold(upstream: ScriptedUpstream) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 100_000
    upstream.replies = [Reply([bomb], headers={"Content-Encoding": "gzip"})]
    with pytest.raises(ProviderError, match="more than 100000 bytes"):
        await read(upstream, most_bytes=100_000)


async def test_a_bomb_in_a_refusal_does_not_unfold(upstream: ScriptedUpstream) -> None:
    upstream.replies = [Reply([gzip.compress(b"x" * 50_000_000)], status=500, headers={"Content-Encoding": "gzip"})]
    with pytest.raises(ProviderError) as refused:
        await read(upstream)
    assert len(refused.value.message) < 2000


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", b"no gzip"), ("gzip", gzip.compress(b"{}" * 1000, mtime=0)[:-20]), ("br", b"{}"), ("gzip, gzip", b"{}")],
)
async def test_packed_wrongly_is_told(upstream: ScriptedUpstream, encoding: str, body: bytes) -> None:
    upstream.replies = [Reply([body], headers={"Content-Encoding": encoding})]
    with pytest.raises(ProviderError, match="packed its list"):
        await read(upstream)


def ollama(asked: Asked) -> Reply:
    if asked.path == "/api/tags":
        return document({"models": [{"name": "a:1"}, {"name": "b:1"}, {"name": "c:1"}]})
    if asked.path == "/api/ps":
        return Reply([CUT])
    model = asked.body["model"]
    if model == "a:1":
        return document(
            {"model_info": {"general.architecture": "x", "x.context_length": 512}, "capabilities": ["completion"]}
        )
    return Reply([b"<html>"]) if model == "b:1" else document({"error": "not found"}, status=404)


async def test_what_else_is_asked_may_fail(upstream: ScriptedUpstream) -> None:
    upstream.script = ollama
    listed = await read(upstream, listing="ollama", features=("tools", "json_object"))
    assert listed is not None
    assert [(offer.id, offer.context_length, offer.features) for offer in listed.reading.offers] == [
        ("a:1", 512, ("json_object",)),
        ("b:1", None, None),
        ("c:1", None, None),
    ]
    assert {asked.path for asked in upstream.asked} == {"/api/tags", "/api/ps", "/api/show"}


async def test_silence_of_what_else_is_asked_ends_the_visit(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda asked: Reply([HANG]) if asked.path == "/props" else document({"data": [{"id": "x"}]})
    with pytest.raises(TimedOut):
        await read(upstream, listing="llama_server", most_s=0.3)
