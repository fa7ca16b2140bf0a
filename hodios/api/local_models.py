"""`/admin/v1/local/`: the models of this machine: which are installed, which loaded, how engines are doing; and pulls.

Another process keeps the engines and the downloads; this one asks it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from hodios.api.admin import require_admin
from hodios.api.exchange import Exchange
from hodios.api.routes import RouteName
from hodios.config import Config
from hodios.errors import Conflict, InvalidRequest, NotAvailable, NotFound
from hodios.providers.control import PullStanding
from hodios.providers.control_client import Control
from hodios.providers.installed import InstalledModel, find, installed
from hodios.providers.local import LocalModel

PATIENCE_S = 15.0
"""How long an answer to a load waits for the engine, so that what does not fit is said at once."""
LEAST_SPEED_S, MOST_SPEED_S = 0.4, 30.0
"""Over how long a speed is measured."""
_POLL_S = 0.1
State = Literal["installed", "loading", "ready", "restarting", "failed", "unloading"]


class EngineFigures(Struct, frozen=True, kw_only=True):
    kv_blocks_used: int
    kv_blocks_total: int
    running: int
    max_sequences: int
    waiting: int
    max_queue: int
    memory_bytes: int
    tokens_per_s: float | None
    """Of all answers together, since it was asked for last; null where that is too long ago."""


class LocalModelDetails(Struct, frozen=True, kw_only=True):
    id: str
    aliases: list[str]
    size_bytes: int
    quantization: str
    context_length: int | None
    loaded: bool
    state: State
    error: str | None
    """Why it could not be loaded."""
    engine: EngineFigures | None
    object: Literal["model"] = "model"


class LocalModelList(Struct, frozen=True):
    data: list[LocalModelDetails]
    object: Literal["list"] = "list"


class PullRequest(Struct, frozen=True, forbid_unknown_fields=True):
    source: str
    """A model of the catalog, author/name of a hub, a URL, or a file of the server."""


class PullList(Struct, frozen=True):
    data: list[PullStanding]
    object: Literal["list"] = "list"


class LocalModels:
    """The handlers. `monotonic` gives seconds from anywhere."""

    def __init__(self, config: Config, control: Control | None, *, monotonic: Callable[[], float]) -> None:
        self._config = config
        self._control = control
        self._monotonic = monotonic
        self._samples: dict[str, tuple[float, int, float | None]] = {}
        """By model: when, how many tokens it had generated, and the speed until then."""

    def handlers(self) -> dict[RouteName, Callable[[Exchange], Awaitable[None]]]:
        return {
            "local_models": self.all,
            "load_model": self.load,
            "unload_model": self.unload,
            "list_pulls": self.pulls,
            "start_pull": self.start_pull,
            "cancel_pull": self.cancel_pull,
        }

    async def all(self, exchange: Exchange) -> None:
        require_admin(exchange)
        await exchange.answer_json(LocalModelList([self._details(each) for each in await self._installed()]))

    async def load(self, exchange: Exchange) -> None:
        """200 where it is ready, 202 where it is still loading."""
        require_admin(exchange)
        control = self._asked()
        model = await self._named(exchange)
        with exchange.client():
            await control.ask("load", model.id)
            details = await self._loaded(control, model)
        if details.state == "failed":
            raise Conflict(f"{model.id} cannot be loaded: {details.error}")
        await exchange.answer_json(details, 200 if details.state == "ready" else 202)

    async def unload(self, exchange: Exchange) -> None:
        require_admin(exchange)
        control = self._asked()
        model = await self._named(exchange)
        await control.ask("unload", model.id)
        await exchange.answer_json(self._details(model))

    async def pulls(self, exchange: Exchange) -> None:
        require_admin(exchange)
        await exchange.answer_json(PullList((await self._asked().ask("pulls")).pulls))

    async def start_pull(self, exchange: Exchange) -> None:
        require_admin(exchange)
        try:
            source = msgspec.json.decode(await exchange.body(self._config.max_body_bytes), type=PullRequest).source
        except (ValueError, RecursionError):
            raise InvalidRequest('the request body is not accepted; accepted: {"source": a string}') from None
        await exchange.answer_json((await self._asked().ask("pull", source)).pulls[0], 201)

    async def cancel_pull(self, exchange: Exchange) -> None:
        require_admin(exchange)
        id = exchange.scope["path_params"]["id"]
        answer = await self._asked().ask("cancel", id)
        await exchange.answer_json(PullList(answer.pulls))

    def _asked(self) -> Control:
        """Raises NotAvailable."""
        if self._control is None:
            raise NotAvailable("models are loaded and pulled by `hodios serve`, and this process runs without it")
        return self._control

    async def _installed(self) -> list[InstalledModel]:
        return await asyncio.to_thread(installed, self._config.home)

    async def _named(self, exchange: Exchange) -> InstalledModel:
        """Raises NotFound."""
        name = exchange.scope["path_params"]["model"]
        found = find(await self._installed(), name)
        if found is None:
            raise NotFound(f"the model {name[:200]!r} is not installed; GET /admin/v1/local/models lists what is")
        return found

    async def _loaded(self, control: Control, model: InstalledModel) -> LocalModelDetails:
        """Once it is ready or failed, or patience has ended."""
        deadline_s = self._monotonic() + PATIENCE_S
        while (details := self._details(model)).state == "loading" and self._monotonic() < deadline_s:
            async with control.changed:
                await _notified_within(control.changed, _POLL_S)
        return details

    def _details(self, model: InstalledModel) -> LocalModelDetails:
        control = self._control
        found = control.local.find(model.id) if control else None
        problem = control.problems.get(model.id) if control else None
        state: State = "installed"
        if found is not None:
            state = found.health().state
        elif control is not None and model.id in control.leaving:
            state = "unloading"
        elif problem is not None:
            state = "failed"
        elif control is not None and control.is_served(model.id):
            state = "loading"
        return LocalModelDetails(
            id=model.id,
            aliases=list(model.aliases),
            size_bytes=model.size_bytes,
            quantization=model.quantization,
            context_length=found.card.context_length if found else None,
            loaded=state in ("ready", "loading", "restarting"),
            state=state,
            error=problem,
            engine=self._figures(found) if found else None,
        )

    def _figures(self, model: LocalModel) -> EngineFigures | None:
        hello, stats = model.client.hello, model.client.stats
        if hello is None or stats is None:
            return None
        return EngineFigures(
            kv_blocks_used=stats.num_blocks - stats.free_blocks,
            kv_blocks_total=stats.num_blocks,
            running=stats.num_running,
            max_sequences=hello.max_sequences,
            waiting=stats.num_waiting,
            max_queue=hello.max_queue,
            memory_bytes=stats.resident_bytes,
            tokens_per_s=self._speed(model.card.id, stats.generated_tokens),
        )

    def _speed(self, model: str, num_tokens: int) -> float | None:
        """Several may watch at the same time: who asks too early gets what the last one got."""
        now_s = self._monotonic()
        before_s, before, speed = self._samples.get(model, (float("-inf"), 0, None))
        elapsed_s = now_s - before_s
        if elapsed_s < LEAST_SPEED_S:
            return speed
        # A worker that was started anew counts from 0.
        is_known = elapsed_s <= MOST_SPEED_S and num_tokens >= before
        speed = round((num_tokens - before) / elapsed_s, 1) if is_known else None
        self._samples[model] = (now_s, num_tokens, speed)
        return speed


async def _notified_within(condition: asyncio.Condition, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await condition.wait()
    except TimeoutError:
        pass


def local_model_schemas() -> dict[str, Any]:
    """By name, for the OpenAPI document."""
    kinds = (LocalModelList, LocalModelDetails, PullRequest, PullList, PullStanding)
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return dict(components)
