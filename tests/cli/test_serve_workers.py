"""`hodios serve` with two API processes: what they have in common, and what one that is killed leaves to the other."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from live_server import KEY, PATIENCE_S, LiveServer, start, until
from postgresql_server import running
from redis_server import RedisServer

from hodios.cli.children import children
from hodios.cli.serve import bind
from hodios.config import Config
from hodios.providers.prepared import Prepared
from hodios.store.database import Database
from hodios.store.migration import upgrade
from hodios.types import ModelCard

LIMIT = 6
TWO = {"HODIOS_WORKERS": "2"}


@pytest.fixture(scope="module")
def store_url(need: Callable[[str, str], str]) -> Iterator[str]:
    """A schema of its own, with the tables."""
    name = f"hodios_test_{uuid.uuid4().hex}"

    async def on_server(server: str, statement: str) -> None:
        connection = await asyncpg.connect(server)
        await connection.execute(statement)
        await connection.close()

    async def prepare(url: str) -> None:
        database = Database.open(url)
        await upgrade(database)
        await database.close()

    with running(need) as server:
        url = f"{server}?search_path={name}"
        asyncio.run(on_server(server, f"CREATE SCHEMA {name}"))
        try:
            asyncio.run(prepare(url))
            yield url
        finally:
            asyncio.run(on_server(server, f"DROP SCHEMA {name} CASCADE"))


@pytest.fixture(scope="module")
def redis(need: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(need("redis-server", "redis-server"), tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server(
    store_url: str, redis: RedisServer, echo_server: Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """Its models are those of the echo."""
    remote = {
        "base_url": f"http://127.0.0.1:{echo_server.port}/v1",
        "api_key_env": "ECHO_KEY",
        "models": [{"id": "echo", "context_length": 4096}],
    }
    home = tmp_path_factory.mktemp("workers")
    settings = {
        "HODIOS_MODELS": "",
        "HODIOS_STORE_URL": store_url,
        "HODIOS_LIMITS_URL": redis.url,
        "HODIOS_REMOTE": json.dumps({"parrot": remote}),
        "ECHO_KEY": echo_server.admin_key or "",
    }
    server = start(home, home / "log", **TWO, **settings)
    yield server
    assert server.stop() == 0, server.told()


class Line:
    """One connection, which stays with the process that has taken it."""

    def __init__(self, server: LiveServer) -> None:
        self._connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=PATIENCE_S)
        process = self.json("GET", "/health")["process"]
        assert process["of"] == 2
        self.number, self.pid = process["number"], process["pid"]

    def ask(self, method: str, path: str, body: Any = None, key: str = KEY) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def json(self, method: str, path: str, body: Any = None, key: str = KEY) -> Any:
        status, text = self.ask(method, path, body, key)
        assert status in (200, 201), text
        return json.loads(text)

    def chat(self, key: str) -> tuple[int, Any]:
        body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
        status, text = self.ask("POST", "/v1/chat/completions", body, key)
        return status, json.loads(text)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def lines(server: LiveServer) -> Iterator[list[Line]]:
    """One to each process, in their order."""
    found: dict[int, Line] = {}
    spare: list[Line] = []

    def both() -> bool:
        # Those that are not needed stay open, so that the others have a reason to take the next one.
        spare.append(Line(server))
        found.setdefault(spare[-1].number, spare[-1])
        return len(found) == 2

    until(both, server.told)
    yield [found[1], found[2]]
    for line in spare:
        line.close()


def test_a_limit_holds_over_both_processes_exactly(lines: list[Line]) -> None:
    new = lines[0].json("POST", "/admin/v1/keys", {"requests_per_minute": LIMIT})
    # The other process knows it, too.
    until(lambda: lines[1].ask("GET", "/v1/key", key=new["key"])[0] == 200, lambda: "the key is not known there")
    began_s = time.monotonic()
    with ThreadPoolExecutor(2) as executor:
        outcomes = list(executor.map(lambda line: [line.chat(new["key"])[0] for _ in range(2 * LIMIT)], lines))
    refilled = int((time.monotonic() - began_s) * LIMIT / 60)
    assert {*outcomes[0], *outcomes[1]} == {200, 429}
    num_passed = sum(each.count(200) for each in outcomes)
    assert LIMIT <= num_passed <= LIMIT + refilled
    assert lines[0].json("GET", "/health")["accounts"]["limits"] == "shared"


def test_a_request_is_found_by_the_process_that_did_not_answer_it(lines: list[Line]) -> None:
    new = lines[0].json("POST", "/admin/v1/keys", {})
    until(lambda: lines[1].ask("GET", "/v1/key", key=new["key"])[0] == 200, lambda: "the key is not known there")
    status, answer = lines[0].chat(new["key"])
    assert status == 200, answer
    found = lines[1].json("GET", f"/v1/generation?id={answer['id']}", key=new["key"])
    assert found["data"]["id"] == answer["id"]
    assert lines[1].ask("GET", "/v1/generation?id=nothing", key=new["key"])[0] == 404


def test_metrics_are_those_of_both_processes(lines: list[Line]) -> None:
    for line in lines:
        assert line.chat(KEY)[0] == 200
    text = lines[1].ask("GET", "/metrics")[1].decode()
    for process in (1, 2):
        assert f'hodios_process_up{{process="{process}"}} 1.0' in text
        answered = re.search(
            rf'^hodios_requests_total{{process="{process}",route="chat/completions",status="200"}} ([\d.]+)$',
            text,
            re.M,
        )
        assert answered, text[:3000]
        assert float(answered[1]) >= 1
    families = re.findall(r"^# TYPE (\S+)", text, re.M)
    assert len(families) == len(set(families)), "samples of a metric stand together"
    assert text.count("# HELP") == len(families)


def test_one_that_is_killed_leaves_the_other_and_comes_back(server: LiveServer, lines: list[Line]) -> None:
    first, second = lines
    os.kill(first.pid, signal.SIGKILL)
    assert second.chat(KEY)[0] == 200
    with closing(Line(server)) as line:
        assert line.chat(KEY)[0] == 200, "the socket is still listened on"

    def is_back() -> bool:
        with closing(Line(server)) as line:
            return line.number == 1 and line.pid != first.pid

    until(is_back, server.told)
    assert "api 1 ended unexpectedly" in server.told()


def test_no_file_is_written_by_two_processes(server: LiveServer, lines: list[Line]) -> None:
    home = server.log.parent
    # What one that was killed has left is settled by whoever comes first.
    until(lambda: len([*(home / "journal").glob("*.lock")]) == 2, server.told)
    assert sorted(path.name for path in (home / "state").glob("*.lock")) == ["health-2.lock", "health.lock"]


def test_two_processes_on_sqlite_do_not_start(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HODIOS_")}
    env |= {"HODIOS_HOME": str(tmp_path), "HODIOS_LIMITS_URL": "redis://127.0.0.1", **TWO}
    command = [sys.executable, "-m", "hodios.cli.main", "serve"]
    ended = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    told = " ".join(ended.stderr.split())
    assert "workers = 2 needs a PostgreSQL database, because SQLite serves one process. Set HODIOS_STORE_URL=" in told


def test_every_api_process_knows_every_engine_and_the_sockets_of_the_others(tmp_path: Path) -> None:
    card = ModelCard(id="a/b", context_length=100, max_output_tokens=100)
    model = Prepared(card=card, model_file="m.gguf", folder="f", socket="s", eos_ids=[2])
    config = Config(home=tmp_path, port=0, workers=3, store_url="postgresql://h/d", limits_url="redis://h")
    with bind(config) as listener:
        engine, _, *apis = children(config, [model], listener, parent_fd=9)
        assert [api.name for api in apis] == ["api 1", "api 2", "api 3"]
        assert all(api.is_essential and api.pass_fds == (listener.fileno(),) for api in apis)
        assert [api.argv[api.argv.index("--number") + 1] for api in apis] == ["1", "2", "3"]
        sockets = {tuple(api.argv[at + 1] for at, word in enumerate(api.argv) if word == "--socket") for api in apis}
        assert len(sockets) == 1
        assert len(set(*sockets)) == 3
        assert len({api.argv[-1] for api in apis}) == 1
        env = engine.env or {}
        assert not {"HODIOS_LIMITS_URL", "HODIOS_STORE_URL"} & set(env)
        assert env["HODIOS_WORKERS"] == "1", "its settings make sense without what it does not get"
