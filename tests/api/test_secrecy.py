"""What must show nowhere: keys, prompts, answers, the log of others. And what is sent to confuse those who read it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from bureau import bureau

from hodios.config import Config
from hodios.providers.echo import EchoProvider

ADMIN_KEY = "admin-key-0123456789abcdef0123456789"
SECRET = "the-moon-is-made-of-cheese"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(home=tmp_path, admin_key=ADMIN_KEY, max_body_bytes=2**20)


def kept(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file())


@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_said_is_neither_kept_nor_logged(
    config: Config, caller_of: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], stream: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    async with bureau(config, [EchoProvider(context_length=4096)]) as office:
        key = await office.key()
        call = caller_of(office.app, key)
        answer = await call.chat(messages=[{"role": "user", "content": SECRET}], stream=stream, user="somebody")
        assert answer.status == 200
        assert stream or SECRET.encode() in answer.body
        assert (await call.chat(messages=[{"role": SECRET}])).status == 400
        assert len(await office.logged()) == 2
        shown = [caplog.text, *capfd.readouterr()]
    files = kept(config.home)
    assert b"somebody" in files
    for secret in (SECRET, key, ADMIN_KEY):
        assert secret.encode() not in files
        assert not [text for text in shown if secret in text]


async def test_no_filter_is_part_of_a_query(config: Config, caller_of: Any) -> None:
    """Whatever is put into them, a key sees its own and every table stays."""
    async with bureau(config, [EchoProvider(context_length=4096)]) as office:
        mine, others = [caller_of(office.app, await office.key(id)) for id in ("mine", "others")]
        await mine.chat(user="me")
        await others.chat(user="them")
        await office.settled()
        for text in (
            "' OR 1=1 --",
            "me' OR 'a'='a",
            "%",
            "_",
            "me\\",
            '"; DROP TABLE requests; --',
            "me' UNION SELECT 1",
        ):
            for name in ("model", "provider", "user", "key", "project", "before", "limit", "status", "from", "by"):
                for path in ("/v1/queries", "/v1/activity"):
                    query = f"{name}={_quoted(text)}"
                    answer = await mine("GET", path, query=query)
                    assert answer.status in (200, 400), (path, query)
                    assert b"them" not in answer.body
                    if answer.status == 200 and name in ("model", "provider", "user", "project"):
                        assert (answer.json().get("items") or answer.json().get("data") or []) == [], (path, query)
        assert len(await office.logged()) == 2


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize", "/admin/v1/keys"])
async def test_json_that_unfolds_without_end_is_refused(config: Config, caller_of: Any, path: str) -> None:
    async with bureau(config, [EchoProvider(context_length=4096)]) as office:
        call = caller_of(office.app, ADMIN_KEY)
        deep = 100_000
        for body in (
            b"[" * deep,
            b'{"a":' * deep + b"1" + b"}" * deep,
            b'{"model":"echo","metadata":' + b"[" * deep + b"]" * deep + b"}",
            b'{"model":"echo","seed":' + b"9" * 200_000 + b"}",
            b'{"model":"echo","temperature":1e' + b"9" * 200_000 + b"}",
            b'{"model":"' + b"\\u0000" * 50_000 + b'"}',
            b"\xef\xbb\xbf{}",
            b"\xff\xfe{\x00}\x00",
        ):
            answer = await call("POST", path, body=body)
            assert 400 <= answer.status < 500, body[:60]
            assert len(answer.body) < 2000


async def test_the_last_of_two_equal_keys_counts_for_all(config: Config, caller_of: Any) -> None:
    """Who looks at a request on its way must see what we see: what every parser of Python sees."""
    async with bureau(config, [EchoProvider(context_length=4096)]) as office:
        call = caller_of(office.app, ADMIN_KEY)
        body = b'{"model":"nowhere","model":"echo","prompt":"first","prompt":"last"}'
        answer = await call("POST", "/v1/completions", body=body)
        assert answer.status == 200
        assert answer.json()["choices"][0]["text"].startswith(json.loads(body)["prompt"])


@pytest.mark.parametrize("id", ["a b", "a\x7f", "é", "a" * 129, "a,b", "<script>", '"', "%0a", ""])
async def test_ids_of_clients_are_plain_or_replaced(config: Config, caller_of: Any, id: str) -> None:
    async with bureau(config, [EchoProvider()]) as office:
        answer = await caller_of(office.app, ADMIN_KEY)("GET", "/health", headers={"x-request-id": id})
        assert answer.headers["x-request-id"] != id
        assert len(answer.headers["x-request-id"]) == 32
