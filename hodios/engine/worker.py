"""An engine worker: a process with one model behind a Unix socket. Reads frames between steps, writes them during one.

Started as `python -m hodios.engine.worker --parent-fd N OPTIONS`, OPTIONS being the JSON of `WorkerOptions`. It ends
when its parent does. Exit status 78 means that the model cannot be run; the reason is the last line on standard error.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import msgspec
import numpy as np

from hodios.engine import memory, packed
from hodios.engine.clients import Clients
from hodios.engine.compiling import GrammarQueue
from hodios.engine.connection import Connection, listen
from hodios.engine.engine import Engine
from hodios.engine.grammar import GrammarCompiler
from hodios.engine.kv_cache import BlockPool
from hodios.engine.memory import BLOCK_SIZE
from hodios.engine.messages import Abort, FromClient, Hello, Refused, Step, Submit
from hodios.engine.options import WorkerOptions
from hodios.engine.outputs import Told
from hodios.engine.runner import ENGINE_VERSION, Runner, native_precision
from hodios.engine.scheduler import Scheduler
from hodios.engine.shapes import bucket_sizes
from hodios.errors import SetupError
from hodios.types import Grammar

EXIT_REFUSED = 78
"""EX_CONFIG of sysexits: starting again would not help."""
STATS_EVERY_S = 0.5
"""An idle engine tells its clients so often how it is."""
READY_ROWS = 16
"""Row counts up to this are warm before the first request is taken; larger ones follow while nothing is asked for."""

logger = logging.getLogger(__name__)


class Worker:
    """The loop: sockets and the engine, in one thread."""

    def __init__(
        self,
        engine: Engine,
        hello: Hello,
        listener: socket.socket,
        parent_fd: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._hello = hello
        self._clients = Clients(listener, hello, self._serve)
        if parent_fd is not None:
            self._clients.watch(parent_fd, self._parent_ended)
        self._decoder: msgspec.msgpack.Decoder[FromClient] = msgspec.msgpack.Decoder(FromClient)
        self._grammars = GrammarQueue(engine.compile, engine.prepare)
        self._clients.watch(self._grammars.waker.fileno(), self._submit_compiled)
        self._told: list[Told] = []
        self._told_stats_s = -STATS_EVERY_S
        self._is_stopping = False

    def stop(self, signum: int, frame: FrameType | None) -> None:
        self._is_stopping = True

    def run(self, idle_work: list[int], warm_up: Runner) -> None:
        """Until told to stop. While nothing is asked for, the row counts of `idle_work` are warmed up one by one."""
        while not self._is_stopping:
            is_busy = bool(idle_work) or not self._engine.is_idle
            self._poll(0.0 if is_busy else self._stats_due_in_s())
            if not self._engine.is_idle:
                told = self._engine.step(self._tell)
                self._told += told
            elif idle_work:
                warm_up.warm_up([idle_work.pop(0)])
            if self._engine.is_idle:
                self._tell()
        self._clients.close()
        self._grammars.close()

    def _stats_due_in_s(self) -> float:
        return max(0.0, self._told_stats_s + STATS_EVERY_S - self._clock())

    def _poll(self, timeout_s: float) -> None:
        for connection in self._clients.poll(timeout_s):
            self._grammars.abort_owner(connection)
            self._engine.abort_owner(connection)

    def _parent_ended(self) -> None:
        self._is_stopping = True

    def _serve(self, connection: Connection) -> None:
        connection.flush()
        for message in connection.receive(self._decoder):
            match message:
                case Submit(grammar=None):
                    self._submit(connection, message)
                case Submit(grammar=Grammar() as grammar) if self._engine.has_compiled(grammar):
                    self._submit(connection, message)
                case Submit(id=id, grammar=Grammar() as grammar):
                    if len(self._grammars) < self._hello.max_queue:
                        self._grammars.add(connection, message, grammar)
                    else:
                        waiting = f"{len(self._grammars)} grammars are waiting to be compiled"
                        connection.send(Refused(id=id, reason="full", message=waiting))
                case Abort(id=id, index=index):
                    if not self._grammars.abort(connection, id, index):
                        self._engine.abort(connection, id, index)

    def _submit(self, connection: Connection, submit: Submit) -> None:
        refused = self._engine.submit(submit, connection)
        if refused is not None:
            connection.send(refused)

    def _submit_compiled(self) -> None:
        for connection, submit, error, aborted in self._grammars.take_ready():
            if error is not None:
                connection.send(Refused(id=submit.id, reason="invalid", message=str(error), param=error.param))
                continue
            self._submit(connection, submit)
            for index in aborted:
                self._engine.abort(connection, submit.id, index)

    def _tell(self) -> None:
        """Send the outputs of the step before, and now and then how the engine is."""
        told, self._told = self._told, []
        is_due = not self._stats_due_in_s()
        if is_due:
            self._told_stats_s = self._clock()
        elif not told:
            return
        stats = msgspec.structs.replace(self._engine.stats(), resident_bytes=_resident_bytes())
        for connection in self._clients.connections:
            outputs = [output for owner, output in told if owner is connection]
            if outputs or is_due:
                connection.send(Step(outputs=outputs, stats=stats))


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def build(options: WorkerOptions) -> tuple[Engine, Runner, Hello]:
    """Load the model and construct everything around it. Raises SetupError."""
    began_s = time.monotonic()
    precision = options.precision or native_precision()
    plan_for = partial(
        memory.plan,
        precision=precision,
        kv_cache_bytes=options.kv_cache_bytes,
        context_length=options.context_length,
        max_sequences=options.max_sequences,
    )
    model_path, cache_folder = Path(options.model_path), Path(options.cache_folder)
    weights = packed.open_weights(model_path, cache_folder, is_exact=options.is_exact, check=plan_for)
    plan = plan_for(weights.architecture, weights.num_bytes)
    runner = Runner(
        weights,
        num_blocks=plan.num_blocks,
        threads=options.threads,
        max_batch_tokens=options.max_batch_tokens,
        precision=precision,
    )
    runner.warm_up(size for size in bucket_sizes(options.max_batch_tokens) if size <= READY_ROWS)
    engine = _engine(options, runner, plan, weights.architecture.vocab_size)
    hello = Hello(
        engine_version=ENGINE_VERSION,
        weights_hash=weights.weights_hash,
        representation=f"{weights.representation}; {precision} activations and KV cache",
        is_exact=weights.is_exact,
        vocab_size=weights.architecture.vocab_size,
        context_length=plan.context_length,
        num_blocks=engine.stats().num_blocks,
        block_size=BLOCK_SIZE,
        max_sequences=options.max_sequences,
        max_queue=options.max_queue,
        load_s=time.monotonic() - began_s,
        pid=os.getpid(),
    )
    return engine, runner, hello


def _engine(options: WorkerOptions, runner: Runner, plan: memory.Plan, vocab_size: int) -> Engine:
    pool = BlockPool(plan.num_blocks, BLOCK_SIZE)
    scheduler = Scheduler(
        pool,
        max_sequences=options.max_sequences,
        max_batch_tokens=options.max_batch_tokens,
        max_queue=options.max_queue,
        context_length=plan.context_length,
    )
    return Engine(
        runner,
        scheduler,
        pool,
        vocab_size=vocab_size,
        grammars=_grammars(options, vocab_size),
        rng=np.random.default_rng(),
        speculates=options.speculates,
        row_cost=runner.row_cost(),
    )


def _grammars(options: WorkerOptions, vocab_size: int) -> GrammarCompiler | None:
    if not options.eos_ids:
        return None
    try:
        tokenizer = Path(options.tokenizer_json).read_text(encoding="utf-8")
    except OSError as error:
        raise SetupError(f"The tokenizer of {options.model_path} cannot be read: {error}") from error
    return GrammarCompiler(tokenizer, vocab_size=vocab_size, eos_ids=options.eos_ids)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="hodios.engine.worker")
    parser.add_argument("--parent-fd", type=int)
    parser.add_argument("options")
    parsed = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="engine: %(message)s")
    options = msgspec.json.decode(parsed.options, type=WorkerOptions)
    try:
        engine, runner, hello = build(options)
    except SetupError as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201 - the parent shows it
        return EXIT_REFUSED
    logger.info("%s: %s, loaded in %.1f s", Path(options.model_path).name, hello.representation, hello.load_s)
    socket_path = Path(options.socket_path)
    worker = Worker(engine, hello, listen(socket_path), parsed.parent_fd)
    signal.signal(signal.SIGTERM, worker.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker.run([size for size in bucket_sizes(options.max_batch_tokens) if size > READY_ROWS], runner)
    socket_path.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
