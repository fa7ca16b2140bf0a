"""`GET models/{id}/evals`: how a model did in benchmarks that were run here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from hodios.api.auth import ADMIN
from hodios.api.catalog import Catalog
from hodios.api.exchange import Exchange
from hodios.api.routes import RouteName
from hodios.errors import ModelNotFound
from hodios.providers.eval_files import EvalFiles, EvalRun, Refused


class ModelEvals(Struct, frozen=True):
    """Runs, the newest first."""

    model: str
    data: list[EvalRun]
    refused: list[Refused]
    """Files that are no results, whosever they were to be; told to the operator alone."""
    object: Literal["list"] = "list"


class EvalRuns:
    """The handler."""

    def __init__(self, catalog: Catalog, files: EvalFiles) -> None:
        self._catalog = catalog
        self._files = files

    def handlers(self) -> dict[RouteName, Callable[[Exchange], Awaitable[None]]]:
        return {"model_evals": self.show}

    async def show(self, exchange: Exchange) -> None:
        model = self._catalog.named(exchange)
        found = await asyncio.to_thread(self._files.read)
        runs = [run for run in found.runs if self._is_of(run, model)]
        refused = list(found.refused) if exchange.caller == ADMIN else []
        await exchange.answer_json(ModelEvals(model, runs, refused))

    def _is_of(self, run: EvalRun, model: str) -> bool:
        try:
            return self._catalog.id_of(run.model) == model
        except ModelNotFound:
            return False


def eval_schemas() -> dict[str, Any]:
    """By name, for the OpenAPI document."""
    _, components = msgspec.json.schema_components((ModelEvals,), ref_template="#/components/schemas/{name}")
    return dict(components)
