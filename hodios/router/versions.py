"""What each of the newest versions of a model has shown, at one provider: a version is what its answers have as
`system_fingerprint`. Constant memory, O(1) to count; has no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hodios.router.slices import Ring, Slice

MOST_VERSIONS = 4
"""Beyond that, the one that has not answered for longest is forgotten."""


class Versions:
    """Rings of so many slices of `slice_s` seconds, by version."""

    def __init__(self, slice_s: int, num_slices: int) -> None:
        self._slice_s = slice_s
        self._num_slices = num_slices
        self._rings: dict[str, Ring] = {}
        """The one that has answered last comes last."""

    def current(self, version: str, now_s: float) -> dict[int, int]:
        """The counts of this moment, to be added to."""
        return self._ring(version).current(now_s)

    def last(self, now_s: float) -> Iterator[tuple[str, dict[int, int]]]:
        """(version, its counts) of those that have any."""
        for version, ring in self._rings.items():
            counts = ring.last(now_s, self._num_slices)
            if counts:
                yield version, counts

    def save(self, now_s: float) -> dict[str, list[Slice]]:
        kept = ((version, ring.kept(now_s)) for version, ring in self._rings.items())
        return {version: slices for version, slices in kept if slices}

    def restore(self, saved: Mapping[str, list[Slice]], now_s: float) -> None:
        for version, slices in saved.items():
            self._ring(version).restore(slices, now_s)

    @property
    def num_entries(self) -> int:
        return sum(ring.num_entries for ring in self._rings.values())

    def _ring(self, version: str) -> Ring:
        ring = self._rings.pop(version, None) or Ring(self._slice_s, self._num_slices)
        self._rings[version] = ring
        if len(self._rings) > MOST_VERSIONS:
            del self._rings[next(iter(self._rings))]
        return ring
