"""How the models of a running Hodios are doing. Light to import: the parent of its processes asks it at every start."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from hodios.providers.probe import answer_of


class ModelAtProvider(Struct, frozen=True):
    """What `GET health` says of one model at one provider."""

    model: str
    provider: str
    state: str
    """As `providers.base.ModelState`."""


class _Health(Struct):
    models: list[ModelAtProvider]


class Report:
    """Of the server at `url`."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url.rstrip("/")
        self._key = key

    async def states(self) -> list[ModelAtProvider] | None:
        """How every model is doing at everyone who serves it, whether any is ready or not; None where nobody says."""
        try:
            _, body = await answer_of(f"{self._url}/health", self._key)
            return msgspec.json.decode(body, type=_Health).models
        except (TimeoutError, msgspec.DecodeError):
            return None
