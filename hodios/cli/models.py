"""`hodios models`: what is installed, and what of it is served now."""

from __future__ import annotations

import asyncio

from rich.table import Table

from hodios.cli.console import gigabytes, known_key, program, server_url, stderr, stdout
from hodios.config import Config, load
from hodios.errors import HodiosError, SetupError
from hodios.providers.installed import InstalledModel, installed


def models() -> None:
    """List the installed models."""
    config = load()
    found = installed(config.home)
    if not found:
        stdout().print(f"No model is installed in {config.home}. To fetch the starter model: {program()} pull starter")
        return
    served = asyncio.run(_served(config))
    table = Table("model", "quantization", "size", "context", "served", box=None, pad_edge=False)
    problems = []
    for model in found:
        context, problem = _context(model, config)
        problems += [problem] if problem else []
        row = (model.id, model.quantization or "?", gigabytes(model.size_bytes), context)
        table.add_row(*row, served.get(model.id.lower(), "no"))
    stdout().print(table)
    for problem in problems:
        stderr().print(problem, style="yellow")


def _context(model: InstalledModel, config: Config) -> tuple[str, str]:
    """The context length to show, and what is wrong with the file where it cannot be served."""
    # Imported here because it loads what reads GGUF files.
    from hodios.providers.prepare import prepare

    try:
        return str(prepare(model, config).card.context_length), ""
    except SetupError as error:
        return "-", f"{model.id} cannot be served: {error}"


async def _served(config: Config) -> dict[str, str]:
    """Status of each model that a running server offers; empty where none runs."""
    from hodios.providers.client import Client

    try:
        async with Client(server_url(config), known_key(config)) as client:
            return {model.id.lower(): model.status or "yes" for model in await client.models()}
    except (SetupError, HodiosError):
        return {}
