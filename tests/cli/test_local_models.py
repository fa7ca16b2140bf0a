"""Models that are loaded and unloaded while the server runs: parent, control channel, API and scripted engines."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from msgspec import structs
from scripted_engine import CARD, ByteTokenizer, ScriptedEngine, hello, lines, saying

from hodios.api.app import create_app
from hodios.api.openapi import openapi_document
from hodios.cli import local_models as module
from hodios.cli.control import ControlServer
from hodios.cli.local_models import LocalModels
from hodios.cli.pulls import Pulls
from hodios.config import Config
from hodios.engine.client import EngineClient
from hodios.errors import NotEnoughMemory
from hodios.providers.control_client import Control
from hodios.providers.installed import InstalledModel
from hodios.providers.local import LocalModel, LocalProvider
from hodios.providers.prepared import Prepared
from tests.api.conftest import KEY, Caller

ONE, TWO = "tiny/bytes", "tiny/other"
MODELS = "/admin/v1/local/models"
PULLS = "/admin/v1/local/pulls"
ASKED = {"model": ONE, "prompt": "a", "max_tokens": 20}
DOCUMENT = openapi_document(8)
PULLER = """
import sys, time
print('{"bytes": 5, "total_bytes": 10}', flush=True)
if sys.argv[1] == "bad":
    sys.exit("first\\nno such model")
time.sleep(0 if sys.argv[1] == "good" else 1000)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    for name in ("bytes", "other"):
        (folder / "models" / "tiny" / name).mkdir(parents=True)
        (folder / "models" / "tiny" / name / f"{name}.Q4_1.gguf").write_bytes(b"GGUF" + bytes(96))
    yield folder
    shutil.rmtree(folder)


class Engines:
    """Scripted ones; `refusing` says why none can be started."""

    def __init__(self) -> None:
        self.running: dict[str, ScriptedEngine] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.refusing = ""
        self.models: LocalModels

    def start(self, prepared: Prepared) -> None:
        if self.refusing:
            asyncio.get_running_loop().call_soon(self.models.refused, prepared.card.id, self.refusing)
            return
        scripted = ScriptedEngine(Path(prepared.socket), saying("hello"), hello())
        self.running[prepared.card.id] = scripted
        self.tasks.append(asyncio.create_task(scripted.__aenter__()))  # type: ignore[arg-type]

    async def stop(self, model: str) -> None:
        await self.running.pop(model).__aexit__(None, None, None)


def made(model: InstalledModel, config: Config) -> Prepared:
    card = structs.replace(CARD, id=model.id, aliases=model.aliases)
    socket = str(config.home / f"{model.path.stem}.sock")
    return Prepared(card=card, model_file="", folder="", socket=socket, eos_ids=[])


async def load(each: Prepared) -> LocalModel:
    tokenizer: Any = ByteTokenizer()
    client = EngineClient(Path(each.socket), name=each.card.id, sleep=lambda _: asyncio.sleep(0.01))
    return LocalModel(each.card, tokenizer, lines(tokenizer), client)


class Machine:
    """A parent and its API processes, all in this one."""

    def __init__(self, config: Config, stack: AsyncExitStack) -> None:
        self.config = config
        self.engines = Engines()
        self.unreadable = ""
        self.server = ControlServer(config.home / "c.sock", Pulls({}, argv=(sys.executable, "-S", "-E", "-c", PULLER)))
        self.models = LocalModels(config, [], self.engines, self.server.tell, self.server.drained, self.prepare)
        self.engines.models = self.models
        self._stack = stack

    async def prepare(self, model: InstalledModel, config: Config) -> Prepared:
        if self.unreadable:
            raise NotEnoughMemory(self.unreadable)
        return made(model, config)

    async def api(self) -> Caller:
        """One more API process."""
        local = LocalProvider([])
        control = Control(self.server.path, local, load, [])
        await self._stack.enter_async_context(control.running())
        async with control.changed:
            await control.changed.wait()
        self._stack.push_async_callback(local.aclose)
        return Caller(create_app(self.config, [local], control=control))


@pytest.fixture
async def machine(home: Path) -> AsyncIterator[Machine]:
    async with AsyncExitStack() as stack:
        machine = Machine(Config(home=home, admin_key=KEY), stack)
        await machine.server.start(machine.models)
        yield machine
        await machine.server.aclose()
        for model in list(machine.engines.running):
            await machine.engines.stop(model)


def conforms(answer: Any, name: str) -> Any:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    jsonschema.validate(answer.json(), schema)
    return answer.json()


async def states(call: Caller) -> dict[str, str]:
    found = conforms(await call("GET", MODELS), "LocalModelList")
    return {each["id"]: each["state"] for each in found["data"]}


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - what another process says, nobody notifies of
            await asyncio.sleep(0.01)


async def test_a_model_is_loaded_asked_and_unloaded(machine: Machine) -> None:
    call, other = await machine.api(), await machine.api()
    assert await states(call) == {ONE: "installed", TWO: "installed"}
    assert (await call("POST", "/v1/completions", ASKED)).error["code"] == "model_not_found"
    answer = await call("POST", f"{MODELS}/BYTES/load")
    assert answer.status == 200, answer.body
    details = conforms(answer, "LocalModelDetails")
    assert (details["id"], details["state"], details["loaded"], details["context_length"]) == (ONE, "ready", True, 64)
    assert (details["size_bytes"], details["quantization"], details["error"]) == (100, "Q4_1", None)
    assert (await call("POST", f"{MODELS}/{ONE}/load")).status == 200, "once more changes nothing"
    for each in (call, other):
        await eventually(lambda each=each: _is(each, ONE, "ready"))
        answered = await each("POST", "/v1/completions", ASKED)
        assert (answered.status, answered.json()["choices"][0]["text"]) == (200, "hello")
    listed = (await call("GET", MODELS)).json()["data"][0]["engine"]
    assert (listed["kv_blocks_used"], listed["kv_blocks_total"], listed["running"], listed["max_sequences"]) == (
        1,
        8,
        1,
        4,
    )
    assert set(listed) == {
        *("kv_blocks_used", "kv_blocks_total", "running", "max_sequences", "waiting", "max_queue", "memory_bytes"),
        "tokens_per_s",
    }
    answer = await call("POST", f"{MODELS}/{ONE}/unload")
    assert (answer.status, answer.json()["state"]) == (200, "installed")
    assert machine.engines.running == {}
    for each in (call, other):
        gone = await each("POST", "/v1/completions", ASKED)
        assert (gone.status, gone.error["code"]) == (404, "model_not_found")
    assert (await call("POST", f"{MODELS}/{ONE}/unload")).status == 404
    assert (await call("POST", f"{MODELS}/{ONE}/load")).status == 200
    assert (await call("POST", "/v1/completions", ASKED)).status == 200


async def _is(call: Caller, model: str, state: str) -> bool:
    return (await states(call))[model] == state


async def test_answers_under_way_end_before_their_engine(machine: Machine) -> None:
    call = await machine.api()
    await call("POST", f"{MODELS}/{ONE}/load")
    scripted = machine.engines.running[ONE]
    scripted.may_go_on.clear()
    running = asyncio.create_task(call("POST", "/v1/completions", ASKED))
    await eventually(lambda: _has(scripted.submits))
    leaving = asyncio.create_task(call("POST", f"{MODELS}/{ONE}/unload"))
    await eventually(lambda: _is(call, ONE, "unloading"))
    assert (await call("POST", "/v1/completions", ASKED)).status == 404
    assert machine.engines.running == {ONE: scripted}
    assert not leaving.done()
    scripted.may_go_on.set()
    answer = await running
    assert (answer.status, answer.json()["choices"][0]["text"]) == (200, "hello")
    assert (await leaving).status == 200
    assert machine.engines.running == {}


async def _has(found: Any) -> bool:
    return bool(found)


async def test_who_does_not_end_is_not_waited_for_for_ever(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_S", 0.05)
    call = await machine.api()
    await call("POST", f"{MODELS}/{ONE}/load")
    scripted = machine.engines.running[ONE]
    scripted.may_go_on.clear()
    running = asyncio.create_task(call("POST", "/v1/completions", ASKED))
    await eventually(lambda: _has(scripted.submits))
    assert (await call("POST", f"{MODELS}/{ONE}/unload")).status == 200
    assert (await running).status == 503
    assert await states(call) == {ONE: "installed", TWO: "installed"}


async def test_what_does_not_fit_is_refused_with_numbers(machine: Machine) -> None:
    call = await machine.api()
    await call("POST", f"{MODELS}/{TWO}/load")
    machine.engines.refusing = "The model does not fit: its weights take 9.1 GiB, but 3.2 GiB are free."
    answer = await call("POST", f"{MODELS}/{ONE}/load")
    assert (answer.status, answer.error["code"]) == (409, "conflict")
    assert "9.1 GiB" in answer.error["message"]
    failed = (await call("GET", MODELS)).json()["data"][0]
    assert (failed["state"], failed["loaded"], failed["error"]) == ("failed", False, machine.engines.refusing)
    assert await _is(call, TWO, "ready")
    machine.engines.refusing = ""
    assert (await call("POST", f"{MODELS}/{ONE}/load")).json()["error"] is None

    await call("POST", f"{MODELS}/{ONE}/unload")
    machine.unreadable = "no room for 5 GiB"
    answer = await call("POST", f"{MODELS}/{ONE}/load")
    assert (answer.status, "5 GiB" in answer.error["message"]) == (409, True)


def test_a_model_from_the_start_that_is_refused_is_not_one_that_was_asked_for(home: Path) -> None:
    first = made(InstalledModel(id=ONE, path=home, files=(), size_bytes=0, quantization=""), Config(home=home))
    told: list[Any] = []
    models = LocalModels(Config(home=home), [first], Engines(), told.append, None, None)  # type: ignore[arg-type]
    assert not models.refused("api", "x")
    assert not models.refused(ONE, "too large")
    assert (models.served.models, models.served.problems) == ([], {ONE: "too large"})
    assert len(told) == 1


async def test_a_process_that_comes_later_serves_the_same(machine: Machine) -> None:
    call = await machine.api()
    await call("POST", f"{MODELS}/{ONE}/load")
    late = await machine.api()
    await eventually(lambda: _is(late, ONE, "ready"))
    assert (await late("POST", "/v1/completions", ASKED)).status == 200


async def test_unknown_models_and_other_keys_get_nothing(machine: Machine, home: Path) -> None:
    call = await machine.api()
    for action in ("load", "unload"):
        answer = await call("POST", f"{MODELS}/no/such/{action}")
        assert (answer.status, answer.error["code"]) == (404, "not_found")
    for method, path in (("GET", MODELS), ("POST", f"{MODELS}/{ONE}/load"), ("GET", PULLS), ("POST", PULLS)):
        assert (await call(method, path, {}, headers={"authorization": "Bearer x"})).status == 401
    without = Caller(create_app(machine.config, [LocalProvider([])]))
    assert await states(without) == {ONE: "installed", TWO: "installed"}
    for method, path in (
        *(("POST", f"{MODELS}/{ONE}/load"), ("POST", f"{MODELS}/{ONE}/unload")),
        *(("GET", PULLS), ("POST", PULLS), ("DELETE", f"{PULLS}/1")),
    ):
        assert (await without(method, path, {"source": "x"})).status == 501
    await machine.server.aclose()
    assert (await call("POST", f"{MODELS}/{ONE}/load")).status == 503
    await machine.server.start(machine.models)


async def test_models_are_pulled_in_the_background(machine: Machine) -> None:
    call = await machine.api()
    started = await call("POST", PULLS, {"source": " slow "})
    assert started.status == 201
    slow = conforms(started, "PullStanding")
    assert (slow["source"], slow["state"]) == ("slow", "running")
    assert (await call("POST", PULLS, {"source": "slow"})).status == 409

    async def pull(id: str) -> Any:
        found = conforms(await call("GET", PULLS), "PullList")["data"]
        return next((each for each in found if each["id"] == id), None)

    async def has(id: str, **values: Any) -> bool:
        found = await pull(id)
        return all(found[name] == value for name, value in values.items())

    await eventually(lambda: has(slow["id"], bytes=5, total_bytes=10))
    good, bad = [(await call("POST", PULLS, {"source": source})).json()["id"] for source in ("good", "bad")]
    await eventually(lambda: has(good, state="done", bytes=5, total_bytes=5, error=None))
    await eventually(lambda: has(bad, state="failed", error="no such model"))
    cancelled = await call("DELETE", f"{PULLS}/{slow['id']}")
    assert (cancelled.status, await has(slow["id"], state="cancelled")) == (200, True)
    for id in (slow["id"], good, bad):
        assert (await call("DELETE", f"{PULLS}/{id}")).status == 200
        assert await pull(id) is None
        assert (await call("DELETE", f"{PULLS}/{id}")).status == 404


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"source": 1}', b'{"source": "a", "x": 1}'])
async def test_bodies_of_pulls_are_checked(machine: Machine, body: bytes) -> None:
    call = await machine.api()
    assert (await call("POST", PULLS, body=body)).status == 400


@pytest.mark.parametrize("source", ["", " ", "-x", "--help", "a\nb", "a\0b", "x" * 3000])
async def test_sources_are_checked(machine: Machine, source: str) -> None:
    call = await machine.api()
    answer = await call("POST", PULLS, body=json.dumps({"source": source}).encode())
    assert (answer.status, answer.error["code"]) == (400, "invalid_value")
