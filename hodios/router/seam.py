"""Where one provider broke off an answer and another goes on with it: what the client has, and who may go on. Sans-IO.

An answer can be gone on with byte for byte only where it is one choice, whose tokens nobody asks to see.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from msgspec.structs import replace

from hodios.errors import HodiosError
from hodios.events import Event, Noticed, Reasoning, Started, Stopped, Text, ToolCall, Usage
from hodios.router.journey import Journey
from hodios.router.leg import Leg
from hodios.router.plan import Plan, Stop
from hodios.types import Beginning, Request, SentCall, Warning

MOST_CONTINUATIONS = 2
"""Of one answer. Each is as likely to break off as the one before, and reads all of the prompt again."""


SEAM_CODES = frozenset(("continued", "seed_not_kept"))
"""Of the warnings that tell of it."""


class Seam:
    """One answer as far as the client has it. `pass_on` every event that it is given."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._reasoning: list[str] = []
        self._text: list[str] = []
        self._calls: list[tuple[str, str, list[str]]] = []
        """(id, name, slices of the arguments)"""
        self._is_stopped = False
        self._num_tokens = 0
        self._num_before = 0
        """Tokens of the parts before this one."""
        self._num_prompt_tokens: int | None = None
        """As the first provider counted; None as long as it is at work."""
        self._num_continuations = 0

    @classmethod
    def of(cls, request: Request, plan: Plan) -> Self | None:
        """None where nobody could go on."""
        is_one = request.n == 1 and request.best_of == 1 and len(request.prompts or ("",)) == 1
        is_possible = is_one and request.sampling.logprobs is None and request.beginning is None
        return cls(request) if is_possible and any(stop.seat.card.continues for stop in plan.stops[1:]) else None

    def pass_on(self, event: Event) -> Event:
        """As the client is given it: tokens are counted on over all parts."""
        if isinstance(event, (Text, Reasoning, ToolCall)):
            self._note(event)
            if self._num_before:
                return replace(event, completion_tokens=self._num_tokens)
        elif type(event) is Stopped:
            self._is_stopped = True
        return event

    def _note(self, event: Text | Reasoning | ToolCall) -> None:
        self._num_tokens = self._num_before + event.completion_tokens
        match event:
            case Text():
                if not event.is_echo:
                    self._text.append(event.text)
            case Reasoning():
                self._reasoning.append(event.text)
            case ToolCall():
                if event.name:
                    self._calls.append((event.id, event.name, []))
                self._calls[event.number][2].append(event.arguments)

    def broken(self, leg: Leg) -> None:
        """This part of it is over, before its end."""
        if self._num_prompt_tokens is None:
            self._num_prompt_tokens = leg.course.num_prompt_tokens
        self._num_before = self._num_tokens

    def can_go_on(self, error: HodiosError) -> bool:
        """Whether it is worth asking somebody else. What the client is to blame for would fail there, too."""
        is_worn = self._num_continuations >= MOST_CONTINUATIONS
        return self._has_any and not self._is_stopped and error.status >= 500 and not is_worn

    @property
    def _has_any(self) -> bool:
        return bool(self._reasoning or self._text or self._calls)

    @property
    def is_at_length(self) -> bool:
        """Whether there is all that the client wanted at most."""
        return self._has_any and not self._is_stopped and self._num_left is not None and self._num_left <= 0

    @property
    def _num_left(self) -> int | None:
        most = self._request.max_tokens
        return None if most is None else most - self._num_tokens

    def request(self) -> Request:
        """For whoever goes on."""
        sampling = self._request.sampling
        return replace(
            self._request,
            beginning=Beginning(
                reasoning="".join(self._reasoning),
                text="".join(self._text),
                calls=tuple(SentCall(id, name, "".join(slices)) for id, name, slices in self._calls),
                num_tokens=self._num_tokens,
            ),
            max_tokens=self._num_left,
            sampling=replace(sampling, min_tokens=max(0, sampling.min_tokens - self._num_tokens)),
            echo=False,
        )

    def stops(self, journey: Journey, broken: Leg) -> Iterator[Stop]:
        """Who may go on: others that serve the same model, and were not asked yet."""
        asked = {id(leg.seat) for leg in journey.legs}
        model = broken.seat.card.id.casefold()
        for stop in journey.plan.stops:
            card = stop.seat.card
            if id(stop.seat) not in asked and card.continues and card.id.casefold() == model:
                yield stop

    def join(self, broken: Leg, following: Leg) -> None:
        """What the client is given next."""
        self._num_continuations += 1
        notices = [Noticed(_continued(broken, following, self._num_tokens))]
        if self._request.sampling.seed is not None and self._num_continuations == 1:
            notices.append(Noticed(_SEED_NOT_KEPT))
        following.held = [*notices, *(event for event in following.held if type(event) is not Started)]

    def usage(self, last: Usage | None) -> Usage:
        """Of the whole answer, for the client; each provider's own is in its attempt. None: the last one broke off."""
        own = last or Usage(prompt_tokens=0, completion_tokens=0)
        if self._num_prompt_tokens is None:
            return own
        return replace(
            own,
            prompt_tokens=self._num_prompt_tokens,
            completion_tokens=self._num_before + own.completion_tokens,
            cached_tokens=min(own.cached_tokens, self._num_prompt_tokens),
        )


_SEED_NOT_KEPT = Warning("seed", "seed_not_kept", "the seed promises nothing for what another provider went on with")


def _continued(broken: Leg, following: Leg, num_tokens: int) -> Warning:
    names = broken.seat.provider.name, following.seat.provider.name
    message = f"{names[0]} broke off its answer after about {num_tokens} tokens; {names[1]} went on with it"
    return Warning("model", "continued", message)
