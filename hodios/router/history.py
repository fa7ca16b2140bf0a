"""What traffic has shown of every provider over a day: told of every request, asked by whoever shows or saves it.

What the next choice is made by is not kept here, but in `router.track`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from msgspec import Struct

from hodios.errors import HodiosError
from hodios.events import Usage
from hodios.providers.base import Verdict
from hodios.router.decline import Decline, declines
from hodios.router.incidents import Incident, Incidents
from hodios.router.past import HOUR_S, Past, Saved, kind_of
from hodios.types import Request, Route

MOST_PASTS = 1000
"""Of models at providers. Beyond that, what has not been heard of for longest is forgotten."""
_log = logging.getLogger(__name__)


class Checked(Struct, frozen=True):
    """The last free probe of a provider."""

    verdict: Verdict
    at_s: float


class Archive(Struct, frozen=True, array_like=True):
    """All that outlives the process."""

    saved_s: float
    pasts: list[Saved]
    declines: list[tuple[str, str, list[Decline]]]
    incidents: list[Incident]


class History:
    """Of one router. `clock` gives Unix seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.time, most_pasts: int = MOST_PASTS) -> None:
        self.clock = clock
        self.incidents = Incidents()
        self._most_pasts = most_pasts
        self._pasts: dict[tuple[str, str], Past] = {}
        self._declines: dict[tuple[str, str], tuple[Decline, ...]] = {}
        self._heard_s: dict[str, float] = {}
        self._checked: dict[str, Checked] = {}
        self._num_probes: dict[tuple[str, Verdict], int] = {}

    def record(self, request: Request, route: Route, usage: Usage | None, error: HodiosError | None) -> None:
        """As `router.Record`."""
        now_s = self.clock()
        kind = kind_of(request)
        for attempt in route.attempts:
            self._past(attempt.provider, attempt.model).add(attempt, kind, now_s)
            self._heard_s[attempt.provider] = now_s

    def note_breaker(self, provider: str, model: str, is_open: bool, reason: str = "") -> None:
        """As `track.OnBreaker`."""
        self.incidents.note(provider, model, is_open, self.clock(), reason)

    def note_probe(self, provider: str, verdict: Verdict) -> None:
        """A free probe has ended."""
        self._checked[provider] = Checked(verdict, self.clock())
        key = (provider, verdict)
        self._num_probes[key] = self._num_probes.get(key, 0) + 1

    def past(self, provider: str, model: str) -> Past | None:
        """None where nothing was ever heard."""
        return self._pasts.get((provider, model))

    def pasts(self) -> Iterator[tuple[str, str, Past]]:
        """(provider, model, past) of all."""
        return ((*key, past) for key, past in list(self._pasts.items()))

    def declines(self, provider: str, model: str) -> tuple[Decline, ...]:
        """What gets worse, as of the last `review`."""
        return self._declines.get((provider, model), ())

    def checked(self, provider: str) -> Checked | None:
        """None where nobody has probed it, or answers have come since."""
        checked = self._checked.get(provider)
        return None if checked is None or self._heard_s.get(provider, 0.0) > checked.at_s else checked

    def num_probes(self) -> dict[tuple[str, Verdict], int]:
        return dict(self._num_probes)

    def idle_s(self, provider: str) -> float:
        """How long no attempt there has ended."""
        return self.clock() - self._heard_s.get(provider, float("-inf"))

    def review(self) -> Iterator[None]:
        """Compares everybody with the day before, one at each step, and tells of what has got worse since the last
        time."""
        for provider, model, past in self.pasts():
            now_s = self.clock()
            key = (provider, model)
            before = self._declines.pop(key, ())
            if now_s - past.last_s > HOUR_S or key not in self._pasts:
                continue
            found = declines(past, now_s, before)
            if found:
                self._declines[key] = found
            for decline in found:
                if decline.since_s == now_s:
                    _log.warning("%s, %s: %s", provider, model, decline.message)
            yield

    def save(self) -> Archive:
        """Shares with the history only what no longer changes."""
        now_s = self.clock()
        return Archive(
            now_s,
            [past.save(provider, model, now_s) for provider, model, past in self.pasts()],
            [(provider, model, list(found)) for (provider, model), found in self._declines.items()],
            self.incidents.save(),
        )

    def restore(self, archive: Archive) -> None:
        """What an earlier process has saved; before anything is recorded."""
        now_s = self.clock()
        for saved in archive.pasts[-self._most_pasts :]:
            self._past(saved.provider, saved.model).restore(saved, now_s)
        self._declines.update({(provider, model): tuple(found) for provider, model, found in archive.declines})
        self.incidents.restore(archive.incidents, archive.saved_s)

    def _past(self, provider: str, model: str) -> Past:
        """Moved to the end, where those stand that were heard of last."""
        key = (provider, model)
        past = self._pasts.pop(key, None) or Past()
        self._pasts[key] = past
        if len(self._pasts) > self._most_pasts:
            oldest = next(iter(self._pasts))
            del self._pasts[oldest]
            self._declines.pop(oldest, None)
        return past
