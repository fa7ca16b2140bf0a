"""Puts together what is kept of models: what they have cost, how they were served, and how they did in benchmarks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from hodios.api.catalog import Catalog
from hodios.api.eval_runs import EvalRuns
from hodios.api.exchange import Exchange
from hodios.api.model_history import ModelHistory
from hodios.api.routes import RouteName
from hodios.gateway import Gateway
from hodios.providers.eval_files import EvalFiles
from hodios.providers.sync import Synchronizer
from hodios.router.history import History


def model_records(
    home: Path, gateway: Gateway, catalog: Catalog, synchronizer: Synchronizer, history: History
) -> dict[RouteName, Callable[[Exchange], Awaitable[None]]]:
    past = ModelHistory(gateway, catalog, synchronizer, history)
    return {**past.handlers(), **EvalRuns(catalog, EvalFiles(home)).handlers()}
