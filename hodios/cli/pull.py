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
            help="A model of the catalog, with :QUANTIZATION if wanted; author/name, author/name:QUANTIZATION or "
            "author/name/FILE.gguf of a hub; a URL; a file; or 'starter'."
        ),
    ],
) -> None:
    """Download a GGUF model, or copy one. Interrupted downloads continue; checksums are verified.

    A model of the catalog comes from the best GGUF repository that is known of it, and is served under its own id.

    The hub is huggingface.co, or the one that HF_ENDPOINT names; HF_TOKEN opens gated models.
    """
    # Imported here because the HTTP client would slow down every other command.
    from hodios.providers.catalog_store import CatalogStore
    from hodios.providers.pull import pull as bring

    config = load()
    catalog = CatalogStore(config).current
    endpoint, token = hub_endpoint()
    with download_progress() as progress:
        path = asyncio.run(bring(model, config.home, progress, endpoint=endpoint, token=token, catalog=catalog))
    stdout().print(f"{path} is there. Serve it with: {program()} serve")
