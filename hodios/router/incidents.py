"""When providers were ejected and came back: the newest of them. Has no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

MOST_KEPT = 200


class Incident(Struct, array_like=True):
    """A model at a provider was out of order. Times in Unix seconds."""

    provider: str
    model: str
    began_s: float
    ended_s: float | None = None
    """None as long as it goes on."""
    num_ejections: int = 1
    """One more for each time that it was tried again in vain."""
    reason: str = ""
    """What failed when it began; "" where nobody knows."""


class Incidents:
    def __init__(self) -> None:
        self._all: deque[Incident] = deque(maxlen=MOST_KEPT)
        self._open: dict[tuple[str, str], Incident] = {}

    def note(self, provider: str, model: str, is_open: bool, now_s: float, reason: str = "") -> None:
        """It was ejected, or is back."""
        key = (provider, model)
        ongoing = self._open.get(key)
        if not is_open:
            if ongoing is not None:
                self._open.pop(key).ended_s = now_s
        elif ongoing is not None:
            ongoing.num_ejections += 1
        else:
            incident = self._open[key] = Incident(provider, model, now_s, reason=reason)
            self._all.append(incident)

    def newest_first(self) -> list[Incident]:
        return list(reversed(self._all))

    @property
    def num_open(self) -> int:
        return len(self._open)

    def save(self) -> list[Incident]:
        return [
            Incident(each.provider, each.model, each.began_s, each.ended_s, each.num_ejections, each.reason)
            for each in self._all
        ]

    def restore(self, incidents: Iterable[Incident], saved_s: float) -> None:
        """Those of an earlier process, none of which goes on: whoever was out of order is tried anew."""
        for incident in incidents:
            if incident.ended_s is None:
                incident.ended_s = max(saved_s, incident.began_s)
        self._all = deque([*incidents, *self._all], maxlen=MOST_KEPT)
