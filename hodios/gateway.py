"""One request, top to bottom: find who serves the model, relay the answer, hold the provider to the event grammar."""

from __future__ import annotations

import difflib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple, assert_never

from msgspec import structs

from hodios.errors import ModelNotFound, ProviderError
from hodios.events import Event, Finish, Started, Stopped, Text
from hodios.providers.base import ModelHealth, Provider
from hodios.types import ModelCard, Request

VARIANTS = (":free", ":nitro", ":floor")


class Seat(NamedTuple):
    """A model at the provider that serves it."""

    provider: Provider
    card: ModelCard


class Gateway:
    """Knows the providers and nothing of HTTP. Where two serve the same id, the first one answers."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self._providers = tuple(providers)
        self._catalog: tuple[tuple[ModelCard, ...], ...] = ()
        self._seats: dict[str, Seat] = {}

    def seats(self) -> list[Seat]:
        """Every model at every provider."""
        return [Seat(provider, card) for provider in self._providers for card in provider.models()]

    def health(self) -> list[tuple[str, ModelHealth]]:
        """(provider, health) of every model. Asks nobody anything."""
        return [(provider.name, health) for provider in self._providers for health in provider.health()]

    def resolve(self, model: str) -> Seat:
        """Who answers for an id, alias or `provider/…` id, in any case. Raises ModelNotFound with the closest ids."""
        seats = self._index()
        wanted = model.casefold()
        seat = seats.get(wanted)
        if seat is None:
            for variant in VARIANTS:
                seat = seat or seats.get(wanted.removesuffix(variant))
        if seat is None:
            raise self._not_found(model, wanted)
        return seat

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """The events of the answer, in their grammar. Closing it stops the provider's work. Raises HodiosError."""
        seat = self.resolve(request.model)
        if request.model != seat.card.id:
            request = structs.replace(request, model=seat.card.id)
        course = _Course(seat.provider.name, request.n * len(request.prompts or ("",)))
        async with aclosing(seat.provider.generate(request)) as events:
            async for event in events:
                course.check(event)
                yield event
        course.check_end()

    def _index(self) -> dict[str, Seat]:
        catalog = tuple(tuple(provider.models()) for provider in self._providers)
        if catalog != self._catalog:
            self._catalog = catalog
            self._seats = {}
            for seat in self.seats():
                name = seat.provider.name.casefold()
                for alias in (seat.card.id, *seat.card.aliases):
                    self._seats.setdefault(alias.casefold(), seat)
                    self._seats.setdefault(f"{name}/{alias.casefold()}", seat)
        return self._seats

    def _not_found(self, model: str, wanted: str) -> ModelNotFound:
        spelled = {alias.casefold(): alias for seat in self.seats() for alias in (seat.card.id, *seat.card.aliases)}
        closest = [spelled[match] for match in difflib.get_close_matches(wanted[:256], spelled, n=3, cutoff=0.4)]
        hint = f"the closest ids: {', '.join(closest)}" if closest else "GET /v1/models lists all ids"
        return ModelNotFound(
            f"model: {model[:256]!r} does not exist; {hint}", param="model", metadata={"closest": closest}
        )


class _Course:
    """How far one answer has come in the grammar of `hodios.events`."""

    def __init__(self, provider: str, num_choices: int) -> None:
        self._provider = provider
        self._is_started = False
        self._is_finished = False
        self._open: set[int] = set()
        self._num_choices = num_choices

    def check(self, event: Event) -> None:
        """Raises ProviderError at the first event that is out of place."""
        match event:
            case Text():
                if event.index not in self._open:
                    raise self._breach(f"text for choice {event.index}, which is not open")
            case Stopped():
                if event.index not in self._open:
                    raise self._breach(f"an end of choice {event.index}, which is not open")
                self._open.remove(event.index)
            case Started():
                if self._is_started:
                    raise self._breach("a second start")
                self._is_started = True
                self._open = set(range(self._num_choices))
            case Finish():
                if not self._is_started or self._is_finished or self._open:
                    raise self._breach("an end out of place")
                self._is_finished = True
            case _:
                assert_never(event)

    def check_end(self) -> None:
        if not self._is_finished:
            raise self._breach("no end")

    def _breach(self, what: str) -> ProviderError:
        return ProviderError(
            f"the provider {self._provider} gave a broken answer: {what}", metadata={"provider": self._provider}
        )
