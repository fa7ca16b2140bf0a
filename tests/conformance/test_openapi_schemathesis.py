"""schemathesis, which reads our own OpenAPI document and tries to prove it wrong: what it describes is what is done,
whatever is sent, with the admin key, with another one, and without any. What it is told to pass over stands in
schemathesis.toml, each with its reason. Operations come from the document alone, so a new route is tried at once.
"""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Literal

import pytest
from bureau import bureau
from served_app import serving

from hodios.config import Config
from hodios.providers.echo import EchoProvider

ADMIN_KEY = "admin-key-0123456789abcdef0123456789"
SETTINGS = Path(__file__).with_name("schemathesis.toml")
PREFIXED = r"^/(v1|v3/openai|v1/openai)/"
"""The same operations once more."""
LARGE = r"(completions|tokenize|/keys|/keys/\{id\}|/projects|/projects/\{id\})$"
"""Whose parameters are so many that trying each takes minutes."""
Who = Literal["admin", "key", "nobody"]


async def tried(folder: Path, who: Who, *options: str) -> str:
    """What schemathesis says of a server of its own, once it has found nothing."""
    config = Config(home=folder, admin_key=ADMIN_KEY, max_body_bytes=2**20, max_choices=4)
    async with bureau(config, [EchoProvider(context_length=256)]) as office:
        key = {"admin": ADMIN_KEY, "key": await office.key(), "nobody": ""}[who]
        headers = ["--header", f"Authorization: Bearer {key}"] if key else []
        async with serving(office.app, client_timeout_s=300.0) as port:
            command = ["--config-file", str(SETTINGS), "run", f"http://127.0.0.1:{port}/openapi.json", *headers]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "schemathesis.cli"),
                *(*command, "--no-color", "--warnings", "off", "--continue-on-failure", *options),
                # Ids with slashes are cut off where others begin: most that are made up are not sent.
                *("--suppress-health-check", "filter_too_much"),
                cwd=folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            try:
                said = (await process.communicate())[0].decode(errors="replace")
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
    assert process.returncode == 0, said[-20_000:]
    return said


def num_tried(said: str) -> int:
    found = re.search(r"(\d+) generated, (\d+) passed", said)
    assert found is not None, said[-5000:]
    return int(found[2])


async def test_operations_with_few_parameters_are_as_described(tmp_path: Path) -> None:
    few = f"{PREFIXED}|{LARGE}"
    options = ("--phases", "coverage,fuzzing", "--exclude-path-regex", few, "--max-examples", "1")
    assert num_tried(await tried(tmp_path, "admin", *options)) > 300


@pytest.mark.parametrize(("who", "num_examples"), [("key", "2"), ("nobody", "1")])
async def test_random_requests_are_answered_as_described(tmp_path: Path, who: Who, num_examples: str) -> None:
    options = ("--phases", "fuzzing", "--exclude-path-regex", PREFIXED, "--max-examples", num_examples)
    assert num_tried(await tried(tmp_path, who, *options)) > 40


@pytest.mark.full
@pytest.mark.parametrize("who", ["admin", "key", "nobody"])
async def test_all_operations_are_as_described(tmp_path: Path, who: Who) -> None:
    phases = ("--phases", "coverage,fuzzing,stateful")
    said = await tried(tmp_path, who, *phases, "--exclude-path-regex", PREFIXED, "--max-examples", "60")
    assert num_tried(said) > 5000


@pytest.mark.full
async def test_the_same_operations_under_their_prefixes_are_as_described(tmp_path: Path) -> None:
    """They lead to the same code: what is tried is whether they lead there."""
    options = ("--phases", "fuzzing", "--include-path-regex", PREFIXED, "--max-examples", "10")
    assert num_tried(await tried(tmp_path, "admin", *options)) > 400
