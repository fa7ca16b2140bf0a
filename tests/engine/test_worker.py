"""The real worker process with a tiny random model, over its socket: answers, refusals, lost clients, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import gguf_factory
import msgspec
import numpy as np
import pytest
from fake_worker import collect, tokens_by_index
from gguf_factory import TinyModel

from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.client import EngineClient
from hodios.engine.engine import Engine
from hodios.engine.gguf import open_model
from hodios.engine.kv_cache import BlockPool
from hodios.engine.messages import FromWorker, Hello, Output, Refused, Step, Submit
from hodios.engine.options import WorkerOptions
from hodios.engine.scheduler import Batch, Scheduler
from hodios.engine.worker import EXIT_REFUSED, Worker, listen
from hodios.errors import InvalidRequest
from hodios.types import Grammar, Sampling

MODEL = TinyModel(num_heads=8, is_tied=False, weight_type="Q4_1")
GREEDY = Sampling(temperature=0, ignore_eos=True)
GUARD_S = 300
"""Only to end a test that would never end."""


class Files:
    """A model and what is prepared of it."""

    def __init__(self, folder: Path) -> None:
        self.model = gguf_factory.write(MODEL, folder / "model.gguf")
        self.cache = folder / "cache"
        self.tokenizer = Tokenizer.from_gguf(open_model(self.model).metadata)
        self.tokenizer_json = folder / "tokenizer.json"
        self.tokenizer_json.write_text(self.tokenizer.to_json())

    def options(self, socket_path: Path, **changes: Any) -> WorkerOptions:
        options: dict[str, Any] = {
            "model_path": str(self.model),
            "tokenizer_json": str(self.tokenizer_json),
            "socket_path": str(socket_path),
            "cache_folder": str(self.cache),
            "eos_ids": [2],
            "threads": 1,
            "max_batch_tokens": 160,
            "max_sequences": 16,
            "kv_cache_bytes": 2_000_000,
        }
        return WorkerOptions(**{**options, **changes})


class Process:
    """A worker process, and the end of the pipe whose closing ends it."""

    def __init__(self, files: Files, socket_path: Path, **changes: Any) -> None:
        self.socket_path = socket_path
        theirs, self.parent_fd = os.pipe()
        options = msgspec.json.encode(files.options(socket_path, **changes)).decode()
        command = [sys.executable, "-m", "hodios.engine.worker", "--parent-fd", str(theirs), options]
        self.popen = subprocess.Popen(command, pass_fds=[theirs], stderr=subprocess.PIPE, text=True)
        os.close(theirs)

    def orphan(self) -> None:
        if self.parent_fd >= 0:
            os.close(self.parent_fd)
            self.parent_fd = -1

    def wait(self) -> tuple[int, list[str]]:
        """Exit status, and the lines on stderr."""
        _, said = self.popen.communicate(timeout=GUARD_S)
        self.orphan()
        return self.popen.returncode, said.splitlines()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("worker"))


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """With a name that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="hw") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def worker(files: Files, folder: Path) -> Iterator[Process]:
    process = Process(files, folder / "engine.sock")
    yield process
    process.orphan()
    code, said = process.wait()
    assert code == 0, "it lives until its parent ends"
    assert [line for line in said if "loaded in" not in line and "unreadable frame" not in line] == []


@contextlib.asynccontextmanager
async def client_of(process: Process) -> AsyncIterator[EngineClient]:
    client = EngineClient(process.socket_path, name="tiny")
    await client.start()
    try:
        async with asyncio.timeout(GUARD_S):
            ready = asyncio.create_task(client.wait_ready())
            while not ready.done():
                assert process.popen.poll() is None, "the worker has ended"
                await asyncio.wait([ready], timeout=0.1)
            yield client
    finally:
        await client.aclose()


async def answer(client: EngineClient, prompt: list[int], max_tokens: int = 8, **fields: Any) -> list[int]:
    fields.setdefault("sampling", GREEDY)
    outputs = await collect(client.generate(submit_of(client, prompt, max_tokens, **fields)))
    return tokens_by_index(outputs)[0]


def submit_of(client: EngineClient, prompt: list[int], max_tokens: int, **fields: Any) -> Submit:
    return Submit(id=client.new_id(), prompt=prompt, max_tokens=max_tokens, **fields)


class Raw:
    """A client that may do what it wants. To be closed by whoever made it."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(GUARD_S)
        self.socket.connect(str(path))
        self.decoder: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)

    def send(self, message: object) -> None:
        payload = msgspec.msgpack.encode(message)
        self.socket.sendall(len(payload).to_bytes(4, "big") + payload)

    def receive(self) -> FromWorker:
        return self.decoder.decode(self._read(int.from_bytes(self._read(4), "big")))

    def outputs(self, id: int) -> list[Output]:
        """Those of one request to its end."""
        outputs: list[Output] = []
        while not outputs or outputs[-1].finish_reason is None:
            message = self.receive()
            assert not isinstance(message, Refused), message
            outputs += [each for each in message.outputs if each.id == id] if isinstance(message, Step) else []
        return outputs

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            assert piece, "the worker has closed the connection"
            data += piece
        return data

    def close(self) -> None:
        self.socket.close()

    def is_closed(self) -> bool:
        """Read on until the worker hangs up."""
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(1 << 16):
                pass
        return True


@pytest.fixture
def connect() -> Iterator[Callable[[Path], Raw]]:
    opened: list[Raw] = []

    def connected(path: Path) -> Raw:
        opened.append(Raw(path))
        return opened[-1]

    yield connected
    for raw in opened:
        raw.close()


Connect = Callable[[Path], Raw]


async def until_idle(client: EngineClient) -> None:
    """Stats keep coming while nothing happens."""
    while client.stats is None or client.stats.num_running or client.stats.num_waiting:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


# Answers


async def test_it_says_what_it_is(worker: Process, files: Files) -> None:
    async with client_of(worker) as client:
        hello = client.require_ready()
    assert (hello.pid, hello.vocab_size, hello.context_length) == (worker.popen.pid, 320, 512)
    assert (hello.max_sequences, hello.max_queue, hello.block_size, hello.is_exact) == (16, 256, 32, False)
    assert "int8 in groups of 64" in hello.representation
    assert hello.load_s > 0
    assert len(hello.weights_hash) == 64
    assert stat.S_IMODE(worker.socket_path.stat().st_mode) == 0o600


async def test_answers_are_as_long_as_asked_and_repeatable(worker: Process) -> None:
    async with client_of(worker) as client:
        first = await answer(client, [5, 6, 7, 8], 40)
        assert len(first) == 40
        assert await answer(client, [5, 6, 7, 8], 40, salt="another") == first
        seeded = Sampling(seed=3, ignore_eos=True)
        drawn = await answer(client, [5, 6, 7], 30, sampling=seeded)
        assert await answer(client, [5, 6, 7], 30, sampling=seeded) == drawn
        assert await answer(client, [5, 6, 7], 30, sampling=Sampling(seed=4, ignore_eos=True)) != drawn


async def test_continuations_log_probabilities_and_the_prompts(worker: Process) -> None:
    prompt = list(range(10, 110))
    async with client_of(worker) as client:
        sampling = Sampling(seed=1, logprobs=3, ignore_eos=True)
        request = submit_of(client, prompt, 6, n=3, sampling=sampling, prompt_logprobs=2)
        outputs = await collect(client.generate(request))
    assert {index: len(tokens) for index, tokens in tokens_by_index(outputs).items()} == {0: 6, 1: 6, 2: 6}
    scored = [entry for output in outputs for entry in output.prompt_logprobs or []]
    assert [entry.token_id for entry in scored] == prompt
    for output in outputs:
        assert [entry.token_id for entry in output.logprobs or []] == output.tokens
    lasts = [output for output in outputs if output.finish_reason == "length"]
    assert sorted(output.index for output in lasts) == [0, 1, 2]
    assert all(output.cumulative_logprob is not None and output.cumulative_logprob < 0 for output in lasts)


async def test_grammars_are_followed_with_the_models_own_tokens(worker: Process, files: Files) -> None:
    async with client_of(worker) as client:
        for source in ("(yes|no), [a-f]{3}!", "[äöü]{2}"):
            grammar = Grammar("regex", source)
            told = await answer(client, [5, 6], 60, grammar=grammar, eos_ids=[2], sampling=Sampling(seed=1))
            assert re.fullmatch(source, files.tokenizer.decode(told))
        schema = {
            "type": "object",
            "properties": {"n": {"enum": [1, 2]}},
            "required": ["n"],
            "additionalProperties": False,
        }
        grammar = Grammar("json_schema", json.dumps(schema))
        told = await answer(client, [5, 6], 200, grammar=grammar, eos_ids=[2], sampling=Sampling(temperature=0))
        assert json.loads(files.tokenizer.decode(told))["n"] in (1, 2)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [320]}, "prompt"),
        ({"prompt": [2**63]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"max_tokens": 600}, "max_tokens"),
        ({"n": 17}, "n"),
        ({"grammar": Grammar("regex", "(")}, "response_format"),
        ({"sampling": Sampling(logit_bias=((320, 1.0),))}, None),
    ],
    ids=["token", "huge token", "empty", "long", "n", "grammar", "bias"],
)
async def test_what_can_never_be_answered_is_refused(
    fields: dict[str, Any], param: str | None, worker: Process
) -> None:
    async with client_of(worker) as client:
        request = {"prompt": [1], "max_tokens": 4, **fields}
        with pytest.raises(InvalidRequest) as refusal:
            await collect(client.generate(Submit(id=client.new_id(), **request)))
        assert param is None or refusal.value.param == param
        assert len(await answer(client, [1, 2])) == 8, "it goes on"


async def test_extreme_sampling_does_no_harm(worker: Process) -> None:
    extremes = [
        Sampling(temperature=float("nan"), top_p=float("nan"), min_p=float("inf"), seed=2**64 - 1),
        Sampling(temperature=1e308, top_k=2**62, repetition_penalty=1e-30, seed=-(2**63)),
        Sampling(temperature=1e-308, presence_penalty=1e308, frequency_penalty=-1e308, min_tokens=2**62),
        Sampling(top_p=-1.0, min_p=-1.0, top_k=-5, logprobs=320),
        Sampling(logit_bias=tuple((token, -100.0) for token in range(320))),
        Sampling(logit_bias=((1, float("inf")), (2, float("-inf")), (3, float("nan")))),
    ]
    async with client_of(worker) as client:
        for sampling in extremes:
            with contextlib.suppress(InvalidRequest):
                await collect(client.generate(submit_of(client, [1, 2, 3], 5, sampling=sampling, eos_ids=[2])))
        assert len(await answer(client, [1, 2])) == 8


# Several clients


async def test_two_clients_get_only_their_own(worker: Process) -> None:
    """Both count their requests from 1."""
    prompts = [[number, number + 1, number + 2] for number in range(10, 22)]
    seeded = Sampling(temperature=0.0, seed=1, ignore_eos=True)
    async with client_of(worker) as first, client_of(worker) as second:
        alone = [await answer(first, prompt, 20, sampling=seeded) for prompt in prompts]
        both = [answer(client, prompt, 20, sampling=seeded) for prompt in prompts for client in (first, second)]
        together = await asyncio.gather(*both)
    assert together == [each for each in alone for _ in range(2)]


async def test_a_lost_clients_work_is_given_up(worker: Process, connect: Connect) -> None:
    async with client_of(worker) as client:
        raw = connect(worker.socket_path)
        assert isinstance(raw.receive(), Hello)
        for id in range(30):
            raw.send(Submit(id=id, prompt=[id + 1] * 40, max_tokens=400, n=2, sampling=GREEDY))
        while not isinstance(message := raw.receive(), Step) or not message.outputs:
            pass
        raw.close()
        assert len(await answer(client, [1, 2, 3])) == 8
        await until_idle(client)
        assert client.stats is not None
        assert client.stats.free_blocks == client.stats.num_blocks


async def test_a_client_that_sends_garbage_is_dropped_alone(worker: Process, connect: Connect) -> None:
    async with client_of(worker) as client:
        before = asyncio.create_task(answer(client, [9, 8, 7], 100))
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x01\xc1", b"\xff" * 100):
            raw = connect(worker.socket_path)
            raw.socket.sendall(garbage)
            assert await asyncio.to_thread(raw.is_closed)
            raw.close()
        assert len(await before) == 100
        assert client.state == "ready"


async def test_a_client_that_reads_late_gets_everything(worker: Process, connect: Connect) -> None:
    """Several megabytes pile up, and nobody else is held up by it."""
    raw = connect(worker.socket_path)
    raw.send(Submit(id=1, prompt=[7] * 500, max_tokens=2, prompt_logprobs=300, sampling=GREEDY))
    raw.send(Submit(id=2, prompt=[8] * 500, max_tokens=2, prompt_logprobs=300, sampling=GREEDY))
    async with client_of(worker) as client:
        assert len(await answer(client, [1, 2, 3])) == 8
        await until_idle(client)
    outputs = await asyncio.to_thread(raw.outputs, 2)
    assert sum(len(output.prompt_logprobs or []) for output in outputs) == 500
    raw.close()


async def test_everybody_is_told_how_the_engine_is_while_others_are_busy(worker: Process) -> None:
    async with client_of(worker) as busy, client_of(worker) as watching:
        seen: set[int] = set()
        while len(seen) < 3:
            await answer(busy, [1, 2, 3], 200)
            seen.add(watching.stats.num_steps if watching.stats is not None else 0)


def test_an_idle_engine_keeps_saying_how_it_is(worker: Process, connect: Connect) -> None:
    raw = connect(worker.socket_path)
    assert isinstance(raw.receive(), Hello)
    for _ in range(3):
        step = raw.receive()
        assert isinstance(step, Step)
        assert not step.outputs
        assert step.stats.resident_bytes > 10**7
        assert step.stats.free_blocks == step.stats.num_blocks
    raw.close()


async def test_aborted_requests_end(worker: Process) -> None:
    async with client_of(worker) as client:
        outputs = client.generate(submit_of(client, [1, 2, 3], 450, sampling=GREEDY))
        await anext(outputs)
        await outputs.aclose()
        assert len(await answer(client, [4, 5, 6])) == 8
        await until_idle(client)
        assert client.stats is not None
        assert client.stats.free_blocks == client.stats.num_blocks


# Its beginning and its end


async def test_a_model_without_end_tokens_is_served_without_grammars(files: Files, folder: Path) -> None:
    process = Process(files, folder / "endless.sock", eos_ids=[], max_batch_tokens=32, max_sequences=4)
    async with client_of(process) as client:
        assert len(await answer(client, [1, 2, 3], sampling=Sampling(temperature=0))) == 8
        with pytest.raises(InvalidRequest, match="no end-of-sequence token") as refusal:
            await answer(client, [1, 2, 3], grammar=Grammar("json_object"))
        assert refusal.value.param == "response_format"
        running = asyncio.create_task(answer(client, [1, 2, 3], 500))
        await asyncio.sleep(0)
        process.popen.send_signal(signal.SIGTERM)
        with contextlib.suppress(Exception):
            await running
    code, said = process.wait()
    assert code == 0, "stopped in the middle of an answer, and in order"
    assert len(said) == 1
    assert re.fullmatch(r"engine: model\.gguf: .*, loaded in [\d.]+ s", said[0])


async def test_sigterm_ends_an_idle_worker_and_sigint_is_its_parents_business(files: Files, folder: Path) -> None:
    process = Process(files, folder / "idle.sock", max_batch_tokens=32, max_sequences=4)
    async with client_of(process) as client:
        await until_idle(client)
        process.popen.send_signal(signal.SIGINT)
        assert len(await answer(client, [1, 2, 3])) == 8
        process.popen.send_signal(signal.SIGTERM)
    assert process.wait()[0] == 0


REFUSED: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "not a model": (
        lambda folder: {"model_path": str(_written(folder / "x.gguf")), "cache_folder": str(folder)},
        "x.gguf",
    ),
    "no model": (lambda folder: {"model_path": str(folder / "y.gguf"), "cache_folder": str(folder)}, "is not a file"),
    "too large a cache": (lambda folder: {"kv_cache_bytes": 2**50}, r"does not fit: .* GiB are free"),
    "too few rows": (lambda folder: {"max_batch_tokens": 16, "max_sequences": 64}, "max_batch_tokens is 16"),
    "no tokenizer": (lambda folder: {"tokenizer_json": str(folder / "none.json")}, r"tokenizer of .* cannot be read"),
}


def _written(path: Path) -> Path:
    path.write_bytes(b"{}")
    return path


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_run_is_refused_for_good(case: str, files: Files, folder: Path, tmp_path: Path) -> None:
    changes, reason = REFUSED[case]
    process = Process(
        files, folder / "refused.sock", **{"max_batch_tokens": 32, "max_sequences": 4, **changes(tmp_path)}
    )
    code, said = process.wait()
    assert code == EXIT_REFUSED
    assert re.search(reason, said[-1])
    assert not any("Traceback" in line for line in said)


def test_the_socket_of_a_dead_worker_is_replaced(folder: Path, connect: Connect) -> None:
    path = folder / "again.sock"
    listen(path).close()
    assert path.exists()
    with listen(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# The loop, in this process


class Script:
    """A model that always says 7."""

    rows = 0

    def start(self, batch: Batch) -> None:
        self.rows = sum(chunk.num_logits for chunk in batch.chunks)

    def wait(self) -> np.ndarray:
        logits = np.zeros((self.rows, 10), np.float32)
        logits[:, 7] = 10
        return logits


class WarmUp:
    """Counts its sizes; what `meanwhile` says happens while it is busy with one of them."""

    def __init__(self, meanwhile: dict[int, Callable[[], None]]) -> None:
        self.sizes: list[int] = []
        self.meanwhile = meanwhile

    def warm_up(self, sizes: list[int]) -> None:
        self.sizes += sizes
        self.meanwhile.get(len(self.sizes), lambda: None)()


class Anything:
    """A matcher that allows all tokens."""

    is_finished = False

    def fill_mask(self, bitmask: np.ndarray, row: int) -> None:
        bitmask[row] = -1

    def accept(self, token: int) -> None:
        pass

    def forced_tokens(self) -> list[int]:
        return []


class Grammars:
    """Has compiled all but one, which waits until it is `released`."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.is_prepared = threading.Event()

    def prepare(self) -> None:
        self.is_prepared.set()

    def has(self, grammar: Grammar) -> bool:
        return grammar.source != "slow"

    def compile(self, grammar: Grammar) -> Anything:
        if not self.has(grammar):
            assert self.released.wait(GUARD_S)
        return Anything()


def loop_over(
    path: Path,
    parent_fd: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    grammars: Grammars | None = None,
) -> Worker:
    pool = BlockPool(50, 4)
    scheduler = Scheduler(pool, max_sequences=4, max_batch_tokens=32, max_queue=9, context_length=99)
    engine = Engine(
        Script(),
        scheduler,
        pool,
        vocab_size=10,
        grammars=grammars,  # type: ignore[arg-type]
        rng=np.random.default_rng(1),
        speculates=False,
    )
    hello = Hello(
        **{"engine_version": "1", "weights_hash": "w", "representation": "r", "is_exact": False, "vocab_size": 10},
        **{"context_length": 99, "num_blocks": 49, "block_size": 4, "max_sequences": 4, "max_queue": 9},
        **{"load_s": 0.0, "pid": 1},
    )
    return Worker(engine, hello, listen(path), parent_fd, clock)


def test_a_request_waits_for_one_warm_up_size_at_most(folder: Path, connect: Connect) -> None:
    worker = loop_over(folder / "loop.sock")
    raw = connect(folder / "loop.sock")
    got: list[Output] = []
    warm_up = WarmUp(
        {
            3: lambda: raw.send(Submit(id=1, prompt=[1, 2, 3], max_tokens=20)),
            4: lambda: got.extend(raw.outputs(1)),
            5: lambda: worker.stop(signal.SIGTERM, None),
        }
    )
    worker.run([32, 64, 96, 128, 160, 192], warm_up)  # type: ignore[arg-type]
    assert warm_up.sizes == [32, 64, 96, 128, 160]
    assert [token for output in got for token in output.tokens] == [7] * 20


def test_who_has_a_known_grammar_waits_for_nobody_elses(folder: Path, connect: Connect) -> None:
    grammars = Grammars()
    worker = loop_over(folder / "known.sock", grammars=grammars)
    raw = connect(folder / "known.sock")
    got: list[Output] = []

    def ask() -> None:
        raw.send(Submit(id=1, prompt=[1], max_tokens=5, grammar=Grammar("regex", "slow")))
        raw.send(Submit(id=2, prompt=[1], max_tokens=5, grammar=Grammar("regex", "known")))

    def end() -> None:
        grammars.released.set()
        worker.stop(signal.SIGTERM, None)

    worker.run([32, 64, 96, 128], WarmUp({2: ask, 3: lambda: got.extend(raw.outputs(2)), 4: end}))  # type: ignore[arg-type]
    assert [token for output in got for token in output.tokens] == [7] * 5


def test_grammars_are_prepared_before_anybody_asks(folder: Path) -> None:
    grammars = Grammars()
    worker = loop_over(folder / "prepared.sock", grammars=grammars)
    assert grammars.is_prepared.wait(GUARD_S)
    worker.run([1], WarmUp({1: lambda: worker.stop(signal.SIGTERM, None)}))  # type: ignore[arg-type]


def test_it_ends_with_its_parent(folder: Path, connect: Connect) -> None:
    theirs, ours = os.pipe()
    worker = loop_over(folder / "orphan.sock", theirs)
    raw = connect(folder / "orphan.sock")
    worker.run([1, 2, 3], WarmUp({2: lambda: os.close(ours)}))  # type: ignore[arg-type]
    assert isinstance(raw.receive(), Hello)
    assert raw.is_closed()
    os.close(theirs)


def test_who_is_told_something_does_not_keep_stats_from_others(folder: Path, connect: Connect) -> None:
    """By a clock that goes on by a fifth of a second whenever it is read."""
    ticks = itertools.count()
    worker = loop_over(folder / "stats.sock", clock=lambda: next(ticks) / 5)
    watching, busy = connect(folder / "stats.sock"), connect(folder / "stats.sock")
    steps: list[int] = []

    def look() -> None:
        assert len(busy.outputs(1)) == 60
        watching.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                message = watching.receive()
                steps.extend([message.stats.num_steps] if isinstance(message, Step) else [])
        worker.stop(signal.SIGTERM, None)

    ask = Submit(id=1, prompt=[1], max_tokens=60, sampling=Sampling(ignore_eos=True))
    worker.run([1] * 4, WarmUp({3: lambda: busy.send(ask), 4: look}))  # type: ignore[arg-type]
    assert len([step for step in steps if 1 < step < 60]) >= 15


def test_nothing_is_told_of_steps_before_it_is_told_of_them_all(folder: Path, connect: Connect) -> None:
    worker = loop_over(folder / "all.sock")
    raw = connect(folder / "all.sock")
    got: list[Output] = []
    requests = [Submit(id=id, prompt=[1] * (id + 1), max_tokens=id + 1, n=1 + id % 3) for id in range(6)]

    def look() -> None:
        while len({(output.id, output.index) for output in got if output.finish_reason}) < 12:
            message = raw.receive()
            got.extend(message.outputs if isinstance(message, Step) else [])
        worker.stop(signal.SIGTERM, None)

    worker.run([1] * 2, WarmUp({1: lambda: [raw.send(each) for each in requests] and None, 2: look}))  # type: ignore[arg-type]
    for id, index in {(output.id, output.index) for output in got}:
        told = [output for output in got if (output.id, output.index) == (id, index)]
        assert [token for output in told for token in output.tokens] == [7] * (id + 1)
        assert [output.finish_reason for output in told if output.finish_reason] == ["length"]
