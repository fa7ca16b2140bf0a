"""Our engine as the API process has it: a worker with its default settings, driven over its socket."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import msgspec

from benchmarks.processes import BenchmarkError, Process
from benchmarks.recording import Recording, Window
from benchmarks.tasks import Answers, Decode, Figures, FirstTokens, Prefill, Prompt, Task
from hodios.engine.client import EngineClient
from hodios.engine.messages import Hello, Submit
from hodios.engine.options import WorkerOptions
from hodios.types import Grammar, Sampling

GREEDY = Sampling(temperature=0.0, ignore_eos=True)
START_TIMEOUT_S = 600.0


class HodiosSubject:
    """One worker process. The socket lies in a folder of its own, so that a server may run beside it."""

    def __init__(self, name: str, options: WorkerOptions, log_path: Path, env: dict[str, str]) -> None:
        self.name = name
        self._folder = tempfile.TemporaryDirectory(prefix="hodios-benchmark-")
        socket_path = Path(self._folder.name) / "engine.sock"
        self._read_fd, self._write_fd = os.pipe()
        options = msgspec.structs.replace(options, socket_path=str(socket_path))
        argv = [
            *(sys.executable, "-m", "hodios.engine.worker"),
            *("--parent-fd", str(self._read_fd), msgspec.json.encode(options).decode()),
        ]
        self._process = Process(argv, log_path, pass_fds=[self._read_fd], env=env)
        self._salts = (f"{name} {number}" for number in itertools.count())
        self._runner = asyncio.Runner()
        self._client = EngineClient(socket_path, name=name)
        try:
            hello = self._runner.run(self._wait_ready())
            self._process.wait_quiet()
        except BaseException:
            self.close()
            raise
        self._description = f"{hello.engine_version}; {hello.representation}"

    async def _wait_ready(self) -> Hello:
        await self._client.start()
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            self._process.require_running()
            try:
                return await asyncio.wait_for(self._client.wait_ready(), timeout=0.5)
            except TimeoutError:
                continue
        raise BenchmarkError(f"{self.name} was not ready within {START_TIMEOUT_S:.0f} s: {self._process.last_words()}")

    def resume(self) -> None:
        self._process.resume()

    def pause(self) -> None:
        self._process.pause()

    def describe(self) -> str:
        return self._description

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()
        self._process.close()
        os.close(self._read_fd)
        os.close(self._write_fd)
        self._folder.cleanup()

    def measure(self, task: Task) -> Figures:
        match task:
            case Prefill(prompts=prompts):
                return {"rate": sum(map(len, prompts)) / self._generate(prompts, 1).total_s}
            case Decode():
                return self._decode(task)
            case FirstTokens(prompts=prompts, may_share=may_share):
                recording = self._generate(prompts, 1, may_share=may_share)
                return {"seconds": sum(recording.first_s.values()) / len(prompts)}
            case Answers(prompts=prompts, num_tokens=num_tokens, schema=schema):
                grammar = None if schema is None else Grammar("json_schema", schema)
                recording = self._generate(prompts, num_tokens, grammar=grammar)
                return {"rate": recording.num_tokens / recording.total_s}

    def _decode(self, task: Decode) -> Figures:
        total = Window()
        for first in range(0, len(task.prompts), task.num_streams):
            total += self._generate(task.prompts[first : first + task.num_streams], task.num_tokens).window()
        return {"rate": total.num_tokens / total.seconds, "efficiency": total.infer_s / total.step_s}

    def _generate(
        self, prompts: Sequence[Prompt], max_tokens: int, *, may_share: bool = True, grammar: Grammar | None = None
    ) -> Recording:
        """Raises BenchmarkError unless every answer has the length that was asked for."""
        salt = next(self._salts)  # nothing that an earlier task has left in the prefix cache is found
        submits = [
            Submit(
                id=self._client.new_id(),
                prompt=prompt,
                max_tokens=max_tokens,
                sampling=GREEDY,
                grammar=grammar,
                salt=salt if may_share else f"{salt} {number}",
            )
            for number, prompt in enumerate(prompts)
        ]
        recording = self._runner.run(self._record(submits))
        if recording.num_tokens != len(prompts) * max_tokens:
            raise BenchmarkError(f"{self.name} gave {recording.num_tokens} tokens for {len(prompts)} × {max_tokens}")
        return recording

    async def _record(self, submits: Sequence[Submit]) -> Recording:
        recording = Recording([submit.id for submit in submits], began_s=time.perf_counter())
        async with aclosing(self._client.generate(*submits)) as outputs:
            async for output in outputs:
                recording.add(output, self._client.stats, time.perf_counter())
        return recording
