"""The starter model on an engine that computes in full precision: there an answer does not depend on how it was cut
into steps, but for two tokens that are as likely to the sixth digit.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from live_server import PATIENCE_S

from hodios.config import Config
from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.client import EngineClient
from hodios.engine.messages import Output, Submit
from hodios.providers.installed import installed
from hodios.providers.local import LocalProvider, load_local_model
from hodios.providers.prepare import prepare
from hodios.providers.prepared import Prepared, worker_options

CONTEXT = 1024


@contextmanager
def running(home: Path, log: Path) -> Iterator[Prepared]:
    config = Config(home=home, exact=True, context_length=CONTEXT)
    (model,) = installed(home)
    prepared = prepare(model, config)
    prepared = msgspec.structs.replace(prepared, socket=str(Path(prepared.socket).with_suffix(".f32.sock")))
    options = msgspec.structs.replace(worker_options(prepared, config), precision="f32")
    program = Path(__file__).with_name("precise_worker.py")
    command = [sys.executable, str(program), msgspec.json.encode(options).decode()]
    env = {name: value for name, value in os.environ.items() if not name.startswith("HODIOS_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=log.parent
        )
    try:
        yield prepared
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@dataclass
class Generated:
    """What the engine was asked in one task, and what it made of it."""

    submit: Submit
    tokens: list[int] = field(default_factory=list)

    @property
    def answer(self) -> list[int]:
        """All tokens of the answer, with those that stood in the prompt."""
        return [*self.submit.prompt[len(self.submit.prompt) - self.submit.num_begun :], *self.tokens]


@dataclass
class Precise:
    """One connection to it."""

    provider: LocalProvider
    model: str
    tokenizer: Tokenizer
    generated: dict[str, Generated]
    """By the name of the task that asked, the last one of each."""


@asynccontextmanager
async def connected(prepared: Prepared) -> AsyncIterator[Precise]:
    model = await load_local_model(prepared.card, prepared.tokenizer_path, Path(prepared.socket))
    precise = Precise(LocalProvider([model]), prepared.card.id, model.tokenizer, {})
    _listen(model.client, precise.generated)
    await precise.provider.start()
    try:
        await model.client.wait_ready()
        yield precise
    finally:
        await precise.provider.aclose()


def _listen(client: EngineClient, generated: dict[str, Generated]) -> None:
    original = client.generate

    async def generate(submit: Submit) -> AsyncGenerator[Output, None]:
        task = asyncio.current_task()
        assert task is not None
        found = generated[task.get_name()] = Generated(submit)
        async with aclosing(original(submit)) as outputs:
            async for output in outputs:
                found.tokens += output.tokens
                yield output

    client.generate = generate  # type: ignore[method-assign, assignment]
