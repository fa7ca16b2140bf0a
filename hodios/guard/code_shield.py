"""CodeShield on the code in answers: known insecure patterns, by their CWE numbers. In a process of its own, which may
be that of another Python, and which is ended where it takes too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hodios.errors import GuardDown
from hodios.guard import code_worker
from hodios.guard.base import Assessment, Category, Passage, Side
from hodios.guard.code_blocks import Block, blocks_of

SEVERITIES: Mapping[str, float] = {"error": 1.0, "warning": 0.7, "advice": 0.3}
"""CodeShield's words → scores."""
_MOST_BYTES = 2**24
"""Of one answer of the worker."""
_ENVIRONMENT = {"SEMGREP_SEND_METRICS": "off", "SEMGREP_ENABLE_VERSION_CHECK": "0", "PYTHONDONTWRITEBYTECODE": "1"}


class CodeShield:
    """`version` is of the patterns' package as far as its interface is known."""

    name = "code_shield"
    version = "codeshield-1"
    sides: frozenset[Side] = frozenset({"code"})
    categories: frozenset[Category] = frozenset()

    def __init__(self, python: str, environment: Mapping[str, str]) -> None:
        """`python` is an interpreter that has `codeshield`; `environment` is its, and holds no secrets."""
        self._python = os.path.abspath(python)
        self._environment = environment
        self._worker: _Worker | None = None
        self._turn = asyncio.Lock()

    async def assess(self, passages: Sequence[Passage], budget_s: float) -> Sequence[Assessment]:
        """As `Guard.assess`. The start of the worker counts, about a second."""
        found = [blocks_of(passage.text) for passage in passages]
        blocks = [block for each in found for block in each]
        if not blocks:
            return [Assessment(scores={})] * len(passages)
        try:
            async with asyncio.timeout(budget_s), self._turn:
                findings = await self._ask(blocks)
        except TimeoutError:
            raise GuardDown(f"code_shield: {len(blocks)} blocks of code took longer than {budget_s:g} s") from None
        told = iter(findings)
        return [Assessment(scores={}, further=_worst([next(told) for _ in each])) for each in found]

    async def aclose(self) -> None:
        """As `Guard.aclose`."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.end()

    async def _ask(self, blocks: Sequence[Block]) -> list[Any]:
        """The findings in each. Whatever goes wrong ends the worker; the next one asked starts another."""
        try:
            if self._worker is None:
                self._worker = await _Worker.start(self._python, self._environment)
            answer = await self._worker.ask({"blocks": [block._asdict() for block in blocks]})
            return list(answer["findings"])
        except BaseException:
            await asyncio.shield(self.aclose())
            raise


class _Worker:
    """One process, and the folder in which it works."""

    def __init__(self, process: asyncio.subprocess.Process, folder: str) -> None:
        self._process = process
        self._folder = folder

    @classmethod
    async def start(cls, python: str, environment: Mapping[str, str]) -> _Worker:
        """Raises GuardDown where CodeShield is missing or finds nothing."""
        folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="hodios-code-")
        try:
            process = await asyncio.create_subprocess_exec(
                python,
                str(Path(code_worker.__file__).resolve()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd=folder,
                env={**environment, **_ENVIRONMENT, "HOME": folder, "TMPDIR": folder},
                start_new_session=True,
                limit=_MOST_BYTES,
            )
        except OSError as error:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise GuardDown(f"code_shield: {python} cannot be started: {error.strerror}") from None
        worker = cls(process, folder)
        try:
            if not (await worker._answer()).get("ready"):
                raise GuardDown(f"code_shield: the CodeShield of {python} does not find what it must find")
        except BaseException:
            await asyncio.shield(worker.end())
            raise
        return worker

    async def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # the missing answer says more
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            await self._process.stdin.drain()
        return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            answer = json.loads(await self._process.stdout.readline())
        except ValueError:
            raise GuardDown(
                "code_shield: its process has ended, or answered what is no JSON; is `codeshield` installed there?"
            ) from None
        return answer if isinstance(answer, dict) else {}

    async def end(self) -> None:
        """With all that it has started; takes its folder away."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


def _worst(blocks: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """CWE → the highest score of all blocks."""
    worst: dict[str, float] = {}
    for findings in blocks:
        for finding in findings:
            score = SEVERITIES.get(finding["severity"], SEVERITIES["warning"])
            worst[finding["cwe"]] = max(score, worst.get(finding["cwe"], 0.0))
    return worst
