"""What the tests of the providers share: `scripted_engine` and `scripted_upstream`, which lie beside them, the engine's
`gguf_factory`, and a gateway in front of a scripted upstream.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "engine"))

from scripted_upstream import KEY, MODEL, ScriptedUpstream, serving

from hodios.gateway import Gateway
from hodios.providers.remote import RemoteProvider
from hodios.remotes import Remote, RemoteModel


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with serving(ScriptedUpstream()) as server:
        yield server


@pytest.fixture
async def provide(upstream: ScriptedUpstream) -> AsyncIterator[Callable[..., Any]]:
    """Makes a gateway whose only provider is the upstream; keywords are of the row, `server` those of its section."""
    providers = []

    async def make(server: dict[str, Any] | None = None, **row: Any) -> Gateway:
        model = RemoteModel(**{"id": MODEL, "upstream_id": "up", "context_length": 4096, **row})
        settings = {"name": "acme", "base_url": f"{upstream.url}/v1", "models": (model,), **(server or {})}
        provider = RemoteProvider(Remote(**settings), KEY)
        await provider.start()
        providers.append(provider)
        return Gateway([provider])

    yield make
    for provider in providers:
        await provider.aclose()
