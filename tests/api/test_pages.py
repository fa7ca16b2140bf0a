"""The web page's files: what is sent, to whom, how it is kept, and that nothing else of the disk can be had."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pytest

from hodios.api.app import create_app
from hodios.api.pages import FOLDER, HEADERS, TYPES, Pages, accepts_gzip, has_tag

MOST_BYTES = 400_000
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", "authorization": ""}
ELSEWHERE = re.compile(
    rb"""(?:src|href|action|poster)\s*=\s*["'`]?\s*(?:https?:)?//|url\(\s*["']?\s*(?:https?:)?//|@import\s+["'](?:https?:)?//"""
    rb"""|(?:\bfrom|\bimport|\bimport\s*\(|\bfetch\s*\(|\bWorker\s*\(|\bWebSocket\s*\(|\bEventSource\s*\()\s*["'`](?:https?:|wss?:)?//"""
)
"""How a file makes a browser ask another host. Addresses in texts and names of XML are not meant."""


@pytest.fixture
def visit(call: Any) -> Any:
    """As a browser without a key."""

    async def visit(path: str, method: str = "GET", **headers: str) -> Any:
        return await call(method, path, headers=BROWSER | {n.replace("_", "-"): v for n, v in headers.items()})

    return visit


@pytest.mark.parametrize("path", ["/", "/ui"])
async def test_the_address_of_the_server_leads_to_the_page(visit: Any, path: str) -> None:
    answer = await visit(path)
    assert (answer.status, answer.headers["location"]) == (307, "/ui/")
    page = await visit("/ui/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.body == (FOLDER / "index.html").read_bytes()


async def test_every_file_is_served_as_what_it_is(visit: Any) -> None:
    files = {path.relative_to(FOLDER).as_posix(): path for path in FOLDER.rglob("*") if path.is_file()}
    assert set(Pages().assets) == set(files), f"endings that are served: {sorted(TYPES)}"
    for name, path in files.items():
        answer = await visit(f"/ui/{name}", accept="*/*")
        assert (answer.status, answer.body) == (200, path.read_bytes())
        assert answer.headers["content-type"].encode() == TYPES[path.suffix]


async def test_all_files_have_the_headers_that_keep_others_out(visit: Any) -> None:
    answer = await visit("/ui/")
    for name, value in HEADERS:
        assert answer.headers[name.decode()] == value.decode()
    assert "'unsafe" not in answer.headers["content-security-policy"]


async def test_a_path_of_the_page_gets_the_page(visit: Any) -> None:
    index = (await visit("/ui/")).body
    for path in ("/ui/models/NousResearch/Hermes-2-Pro-Llama-3-8B", "/ui/status", "/ui/usage/x.y/"):
        answer = await visit(path)
        assert (answer.status, answer.body) == (200, index)
        assert (await visit(path, accept="*/*")).status == 404
        assert (await visit(path, accept="application/json")).error["code"] == "not_found"


async def test_it_is_read_only(visit: Any) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = await visit("/ui/index.html", method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_head_is_get_without_a_body(visit: Any) -> None:
    whole = await visit("/ui/", accept_encoding="gzip")
    head = await visit("/ui/", "HEAD", accept_encoding="gzip")
    assert (head.status, head.body) == (200, b"")
    for name in ("content-length", "content-type", "etag", "vary", "cache-control"):
        assert head.headers[name] == whole.headers[name]


async def test_what_a_browser_has_is_not_sent_again(visit: Any) -> None:
    plain = await visit("/ui/")
    packed = await visit("/ui/", accept_encoding="br, gzip;q=0.5")
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.headers["vary"] == plain.headers["vary"] == "Origin, Accept-Encoding"
    assert plain.headers["etag"] != packed.headers["etag"]
    for answer, encoding in ((plain, "identity"), (packed, "gzip")):
        tag = answer.headers["etag"]
        assert re.fullmatch(r'"[0-9a-f-]+(gzip)?"', tag)
        for wanted in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            again = await visit("/ui/", accept_encoding=encoding, if_none_match=wanted)
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
            assert "content-length" not in again.headers
        assert (await visit("/ui/", accept_encoding=encoding, if_none_match='"other"')).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/ui/../config.py",
        "/ui/..%2fconfig.py",
        "/ui/%2e%2e/config.py",
        "/ui//etc/passwd",
        "/ui/./index.html",
        "/ui/index.html/",
        "/ui/../ui/index.html",
        "/ui/index.html\x00.js",
        "/ui/\\..\\config.py",
        "/ui/" + "a/" * 5000,
    ],
)
async def test_only_names_that_are_known_are_files(visit: Any, path: str) -> None:
    answer = await visit(path, accept="*/*")
    assert answer.status == 404
    assert len(answer.body) < 1000


async def test_unknown_kinds_of_files_are_not_served(tmp_path: Path) -> None:
    folder = tmp_path / "ui"
    (folder / "parts").mkdir(parents=True)
    (folder / "index.html").write_text("page")
    (folder / "parts" / "a.js").write_text("a")
    (folder / "notes.py").write_text("b")
    assert sorted(Pages(folder).assets) == ["index.html", "parts/a.js"]


async def test_where_there_is_no_page_that_is_said(config: Any, caller_of: Any, tmp_path: Path) -> None:
    app = create_app(config, [])
    pages = next(route.endpoint for route in app.routes if route.path == "/ui/{file:path}")
    pages._handler.__self__.assets.clear()
    answer = await caller_of(app)("GET", "/ui/", headers=BROWSER)
    assert (answer.status, answer.error["code"]) == (404, "not_found")


def test_which_encodings_are_understood() -> None:
    for accepted in ("gzip", "GZIP", "br,gzip", "deflate, gzip;q=0.1", "*", "*;q=0.5, br", "gzip, *;q=0"):
        assert accepts_gzip(accepted), accepted
    for accepted in ("", "br", "identity", "gzip;q=0", "gzip; q=0.000", "*;q=0", "gzip;q=0, *", "xgzip"):
        assert not accepts_gzip(accepted), accepted
    assert not has_tag("", '"a"')


def test_all_files_together_are_small() -> None:
    sizes = {name: len(asset.gzipped or asset.body) for name, asset in Pages().assets.items()}
    assert sum(sizes.values()) <= MOST_BYTES, sorted(sizes.items(), key=lambda item: -item[1])[:10]


def test_no_file_makes_a_browser_ask_another_host() -> None:
    for bad in (b'<script src="https://x/a.js">', b"import('//x/a.js')", b'from "https://x"', b"url(//x/y.woff2)"):
        assert ELSEWHERE.search(bad), bad
    for name, asset in Pages().assets.items():
        found = ELSEWHERE.search(asset.body)
        # A link that a person may follow loads nothing by itself.
        links = re.sub(rb"""<a\s[^>]*>""", b"", asset.body)
        assert found is None or ELSEWHERE.search(links) is None, f"{name}: {found[0]!r}"
