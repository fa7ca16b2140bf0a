"""One request, top to bottom: find who serves its models, have the router ask them, leave out what nobody asked for.

Knows the providers and nothing of HTTP.
"""

from __future__ import annotations

import difflib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from msgspec import structs

from hodios.accounts.tab import Tab
from hodios.errors import ModelNotFound, PermissionDenied, UnsupportedParameter
from hodios.events import Event, Noticed, Started, ToolCall
from hodios.guard.guarding import Guarding
from hodios.guard.watch import Watch
from hodios.providers.base import ModelHealth, Provider
from hodios.router.demand import image_params
from hodios.router.router import Router
from hodios.router.seat import Group
from hodios.router.seat import Seat as Seat
from hodios.store.records import KeyRecord
from hodios.types import ModelCard, Request, Routing, Warning

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    ":free": {"is_free": True},
    ":nitro": {"sort": "throughput"},
    ":floor": {"sort": "price"},
}
"""Endings of model names → what they change in the routing."""
FURTHER_CALLS = Warning(
    "parallel_tool_calls", "further_calls", "the model asked for more than one call; all but the first are left out"
)


def _ignore(seat: Seat) -> None:
    pass


class Gateway:
    """Where several serve the same id or alias, each of them may answer; who is asked first the router says. Providers
    may come and go in the sequence."""

    def __init__(
        self, providers: Sequence[Provider], router: Router | None = None, guarding: Guarding | None = None
    ) -> None:
        self._providers = providers
        self._guarding = guarding
        self._router = router or Router()
        self._catalog: tuple[tuple[int, tuple[ModelCard, ...]], ...] = ()
        self._seats: dict[str, tuple[Seat, ...]] = {}

    def seats(self, key: KeyRecord | None = None) -> list[Seat]:
        """Every model at every provider, as far as the key may ask for it."""
        seats = [Seat(provider, card) for provider in self._providers for card in provider.models()]
        return seats if key is None else [seat for seat in seats if _may_ask(key, seat)]

    def health(self) -> list[tuple[str, ModelHealth]]:
        """(provider, health) of every model. Asks nobody anything."""
        return [(provider.name, health) for provider in self._providers for health in provider.health()]

    def resolve(self, model: str, key: KeyRecord | None = None) -> Seat:
        """The first who has an id, alias or `provider/…` id, in any case, and whom the key may ask. Raises
        ModelNotFound, with the closest ids where there is no such model at all."""
        seats = self._group(model, Routing(), "model").seats
        seat = next((seat for seat in seats if _may_ask(key, seat)), None)
        if seat is None:
            raise not_allowed(model)
        return seat

    def generate(
        self, request: Request, on_attempt: Callable[[Seat], None] = _ignore, tab: Tab | None = None
    ) -> AsyncGenerator[Event, None]:
        """The events of the answer, in their grammar. Closing it stops whoever is at work.

        `on_attempt` is told of each who is asked; `tab` pays, and its key says who may be, and what guards do. Raises
        ModelNotFound, PermissionDenied and UnsupportedParameter at once, HodiosError while answering.
        """
        groups, missing = self._groups(request)
        if tab is not None:
            groups = _allowed(request, groups, tab.key)
            _check_tools(request, tab.key)
        self._check_images(request, groups)
        watch = self._watch(request, tab)
        if watch is None:
            events = self._router.generate(request, groups, on_attempt, tab)
        else:
            events = self._router.generate(request, groups, on_attempt, tab, watch.is_over)
        if missing:
            events = _noticing(events, missing)
        if not request.parallel_tool_calls:
            events = _one_call(events)
        return events if watch is None else watch.events(events)

    def generate_unguarded(self, request: Request) -> AsyncGenerator[Event, None]:
        """As `generate`, for guards that are models themselves; nobody pays."""
        groups, _ = self._groups(request)
        return self._router.generate(request, groups, _ignore)

    def _watch(self, request: Request, tab: Tab | None) -> Watch | None:
        if self._guarding is None:
            return None
        policy = self._guarding.policy() if tab is None else self._guarding.policy(*tab.guard_policies)
        return self._guarding.watch(request, policy)

    def _groups(self, request: Request) -> tuple[list[Group], list[Warning]]:
        """Of the model and its fallbacks those that somebody serves, and what to say of the others. Raises
        ModelNotFound where nobody serves any of them."""
        if not request.fallback_models:
            return [self._group(request.model, request.routing, "model")], []
        groups, missing = [], []
        names = [f"models[{number}]" for number in range(len(request.fallback_models))]
        for param, model in zip(("model", *names), (request.model, *request.fallback_models), strict=True):
            try:
                groups.append(self._group(model, request.routing, param))
            except ModelNotFound as error:
                missing.append(error)
        if not groups:
            raise missing[0]
        return groups, [Warning(error.param or "model", error.code, error.message) for error in missing]

    def _group(self, model: str, routing: Routing, param: str) -> Group:
        """Who serves a model, and how to choose. An id with a variant's ending of its own is taken as it is."""
        seats = self._index()
        wanted = model.casefold()
        found = seats.get(wanted)
        if found is None:
            for variant, changes in VARIANTS.items():
                if wanted.endswith(variant) and (found := seats.get(wanted.removesuffix(variant))):
                    return Group(found, structs.replace(routing, **changes))
            raise self._not_found(model, wanted, param)
        return Group(found, routing)

    def _check_images(self, request: Request, groups: Sequence[Group]) -> None:
        """Raises UnsupportedParameter where there are images, and nobody who may answer reads more than text."""
        param = next(image_params(request), None)
        if param is None or any("image" in seat.card.modalities for group in groups for seat in group.seats):
            return
        others = [seat.card.id for seat in self.seats() if "image" in seat.card.modalities]
        hint = f"these models read images: {', '.join(others[:3])}" if others else "no model here reads images"
        raise UnsupportedParameter(f"{param}: {groups[0].seats[0].card.id} reads text only; {hint}", param=param)

    def _index(self) -> dict[str, tuple[Seat, ...]]:
        # By identity: another provider of the same name and models has other connections.
        catalog = tuple((id(provider), tuple(provider.models())) for provider in self._providers)
        if catalog != self._catalog:
            self._catalog = catalog
            self._seats = _seats_by_name(self.seats())
        return self._seats

    def _not_found(self, model: str, wanted: str, param: str) -> ModelNotFound:
        spelled = {alias.casefold(): alias for seat in self.seats() for alias in (seat.card.id, *seat.card.aliases)}
        closest = [spelled[match] for match in difflib.get_close_matches(wanted[:256], spelled, n=3, cutoff=0.4)]
        hint = f"the closest ids: {', '.join(closest)}" if closest else "GET /v1/models lists all ids"
        return ModelNotFound(
            f"{param}: {model[:256]!r} does not exist; {hint}", param=param, metadata={"closest": closest}
        )


def _seats_by_name(seats: Sequence[Seat]) -> dict[str, tuple[Seat, ...]]:
    """Everybody who has a name as an id or alias, and who has the id of one of them; `provider/…` names its own alone.
    Of one provider the first."""
    own: dict[str, tuple[Seat, ...]] = {}
    shared: dict[str, dict[str, Seat]] = {}
    for seat in seats:
        provider = seat.provider.name.casefold()
        for name in (seat.card.id.casefold(), *map(str.casefold, seat.card.aliases)):
            own.setdefault(f"{provider}/{name}", (seat,))
            shared.setdefault(name, {}).setdefault(provider, seat)
    for by_provider in shared.values():
        for seat in tuple(by_provider.values()):
            for provider, other in shared[seat.card.id.casefold()].items():
                by_provider.setdefault(provider, other)
    return own | {name: tuple(by_provider.values()) for name, by_provider in shared.items()}


def not_allowed(model: str) -> ModelNotFound:
    """For keys that may not know whether there is one."""
    return ModelNotFound(
        f"model: this key may not ask for {model[:256]!r}; GET /v1/models lists what it may", param="model"
    )


def _may_ask(key: KeyRecord | None, seat: Seat) -> bool:
    return key is None or key.allows(seat.card.id, seat.provider.name)


def _allowed(request: Request, groups: list[Group], key: KeyRecord) -> list[Group]:
    """What a key may ask for, of whom. Raises PermissionDenied where that is nothing of what it asks."""
    if key.models is None and key.providers is None:
        return groups
    left = [Group(tuple(seat for seat in group.seats if _may_ask(key, seat)), group.routing) for group in groups]
    if not any(group.seats for group in left):
        what = "this model" if key.providers is None else "this model of any provider that serves it"
        raise PermissionDenied(f"model: this key may not ask for {request.model[:256]!r}: {what} is not allowed to it")
    return [group for group in left if group.seats]


def _check_tools(request: Request, key: KeyRecord) -> None:
    """Raises PermissionDenied where a tool is offered that the key may not offer."""
    for number, tool in enumerate(request.tools):
        if not key.allows_tool(tool.name):
            param = f"{'functions' if 'functions' in request.given else 'tools'}[{number}]"
            allowed = ", ".join(key.tools or ()) or "none"
            raise PermissionDenied(
                f"{param}: this key may not offer the tool {tool.name!r}; allowed to it: {allowed[:1000]}", param=param
            )


async def _noticing(events: AsyncGenerator[Event, None], warnings: Sequence[Warning]) -> AsyncGenerator[Event, None]:
    """With these warnings after the start."""
    async with aclosing(events):
        async for event in events:
            yield event
            if type(event) is Started:
                for warning in warnings:
                    yield Noticed(warning)


async def _one_call(events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """`parallel_tool_calls: false`, where the model calls more than once all the same."""
    async with aclosing(events):
        async for event in events:
            if type(event) is ToolCall and event.number:
                if event.id:
                    yield Noticed(FURTHER_CALLS)
                continue
            yield event
