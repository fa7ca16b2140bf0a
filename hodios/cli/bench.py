"""`hodios bench engine`: how fast the running server answers on this machine."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.table import Table

from hodios.cli.console import known_key, server_url, stdout
from hodios.config import load
from hodios.errors import SetupError

bench = typer.Typer(help="Measure speed.", no_args_is_help=True, rich_markup_mode=None)


@bench.callback()
def _bench() -> None:
    """Measure speed."""


@bench.command()
def engine(
    model: Annotated[
        str | None, typer.Option(help="The model to measure. [the first one served]", show_default=False)
    ] = None,
    streams: Annotated[str, typer.Option(help="Numbers of answers at the same time.")] = "1,8,16",
) -> None:
    """Measure prompt and answer speed of the running server, and print a table."""
    if not all(part.isdigit() and 1 <= int(part) <= 1024 for part in streams.split(",")):
        raise SetupError(
            f"--streams {streams!r} is not accepted: write numbers of 1–1024 separated by commas, like 1,8,16"
        )
    # Imported here because the HTTP client would slow down every other command.
    from hodios.cli.measure import measure

    config = load()
    url, key = server_url(config), known_key(config)
    rows = asyncio.run(measure(url, key, model, [int(part) for part in streams.split(",")]))
    table = Table("measurement", "tokens", "seconds", "tokens/s", box=None, pad_edge=False)
    for name, num_tokens, elapsed_s in rows:
        table.add_row(name, str(num_tokens), f"{elapsed_s:.2f}", f"{num_tokens / elapsed_s:.1f}")
    stdout().print(table)
