"""`hodios pull`: bring a model into HODIOS_HOME."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from hodios.cli.console import download_progress, program, stdout
from hodios.config import hub_endpoint, load


def pull(
    model: Annotated[
        str,
        typer.Argument(
            help="author/name, author/name:QUANTIZATION or author/name/FILE.gguf of a hub; a URL; a file; or 'starter'."
        ),
    ],
) -> None:
    """Download a GGUF model, or copy one. Interrupted downloads continue; checksums are verified.

    The hub is huggingface.co, or the one that HF_ENDPOINT names; HF_TOKEN opens gated models.
    """
    # Imported here because the HTTP client would slow down every other command.
    from hodios.providers.pull import pull as bring

    config = load()
    endpoint, token = hub_endpoint()
    with download_progress() as progress:
        path = asyncio.run(bring(model, config.home, progress, endpoint=endpoint, token=token))
    stdout().print(f"{path} is there. Serve it with: {program()} serve")
