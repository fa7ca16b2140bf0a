"""What attempts have shown of one model at one provider: outcomes, waits for the first token, speeds, by time, size of
the prompt, what the request asked for, and which version answered. Constant memory, O(1) to add; has no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from hodios.router.histogram import NUM_BINS, SECONDS, TOKENS_PER_SECOND, Scale, quantile_bins
from hodios.router.slices import Ring, Slice, total
from hodios.router.versions import MOST_VERSIONS, Versions
from hodios.types import Attempt, Request

SIZE_LIMITS = (2000, 4000, 8000, 16000)
"""Characters of prompts: the upper limits of the size classes but the last."""
SIZES = ("2k", "4k", "8k", "16k", "32k+")
"""The last one is of everything longer than 16,000."""
CAPABILITIES = ("text", "tools", "structured", "vision")
"""`text` is of requests that need none of the others, which may need several."""
OUTCOMES = ("answered", "failed", "broke_off", "refused", "overloaded", "cancelled")
_NUMBERS: Mapping[str, int] = {outcome: number for number, outcome in enumerate(OUTCOMES)}
SHARES = (0.5, 0.75, 0.9, 0.99)
MINUTE_S, SHORT_S, HOUR_S = 60, 300, 3600
NUM_MINUTES, NUM_SHORTS, NUM_HOURS = 30, 6, 26
"""Two hours more than a day, so that the same hour of the day before and those beside it are known."""
DAY = 24
_TOOLS, _STRUCTURED, _VISION, _NUM_MASKS = 1, 2, 4, 8
_CHARACTERS_PER_TOKEN = 4

Measure = Literal["latency", "throughput"]
"""The wait for the first token in seconds; tokens per second after it."""
MEASURES: tuple[Measure, ...] = ("latency", "throughput")
SCALES: Mapping[Measure, Scale] = {"latency": SECONDS, "throughput": TOKENS_PER_SECOND}
_NUM_CELLS = len(MEASURES) * len(SIZES)
Bins = dict[int, int]


class Kind(NamedTuple):
    """What a request is counted under."""

    size: int
    mask: int
    """Of capabilities."""


def kind_of(request: Request) -> Kind:
    """In time proportional to the number of messages, whatever their length."""
    mask = _TOOLS if request.tools and request.tool_choice != "none" else 0
    if request.grammar is not None:
        mask |= _STRUCTURED
    if request.images:
        mask |= _VISION
    num = 0
    for message in request.messages or ():
        content = message.get("content")
        if type(content) is str:
            num += len(content)
        elif content:
            for part in content:
                if not isinstance(part, dict):
                    continue
                num += len(str(part.get("text") or ""))
                if part.get("type") == "image_url":
                    mask |= _VISION
    for prompt in request.prompts or ():
        num += len(prompt) if isinstance(prompt, str) else _CHARACTERS_PER_TOKEN * len(prompt)
    size = 0
    for limit in SIZE_LIMITS:
        size += num > limit
    return Kind(size, mask)


class Tally(NamedTuple):
    """Attempts by how they ended."""

    counts: Mapping[int, int]

    def num(self, outcome: str) -> int:
        return self.counts.get(_NUMBERS[outcome], 0)

    @property
    def num_failed(self) -> int:
        """By the provider's fault."""
        return self.num("failed") + self.num("broke_off")

    @property
    def num_judged(self) -> int:
        """Those that say something of the provider: not what clients did wrong or ended, nor a want of room."""
        return self.num("answered") + self.num_failed

    @property
    def uptime(self) -> float | None:
        """The share that was not failed by the provider; None where nothing is known."""
        num = self.num_judged
        return (num - self.num_failed) / num if num else None


class Distribution(NamedTuple):
    """How one measure was spread."""

    measure: Measure
    bins: Bins

    @property
    def num(self) -> int:
        return sum(self.bins.values())

    def percentiles(self, shares: Sequence[float] = SHARES) -> list[float] | None:
        """None where there are no samples."""
        if not self.bins:
            return None
        scale = SCALES[self.measure]
        return [scale.value(bin_) for bin_ in quantile_bins(self.bins, shares)]


class Stretch(NamedTuple):
    """What happened from `begin_s` on, in Unix seconds. Waits and speeds are by size class."""

    begin_s: int
    length_s: int
    tally: Tally
    latency: list[Bins]
    throughput: list[Bins]


class Spread(NamedTuple):
    """One measure over half an hour."""

    overall: Distribution
    by_size: Mapping[str, Distribution]
    by_capability: Mapping[str, Distribution]
    by_version: Mapping[str, Distribution]
    """Of those that have answered, the last one last."""


class Saved(Struct, frozen=True, array_like=True):
    """What outlives the process. Raises ValueError for counts of what does not exist."""

    provider: str
    model: str
    last_s: float
    minutes: list[Slice]
    shorts: list[Slice]
    hours: list[Slice]
    outcomes: list[Slice]
    versions: dict[str, list[Slice]] = {}

    def __post_init__(self) -> None:
        limits = (len(OUTCOMES), _NUM_CELLS * _NUM_MASKS * NUM_BINS, _NUM_CELLS * NUM_BINS, len(OUTCOMES))
        rings = (self.minutes, self.shorts, self.hours, self.outcomes)
        versions = ((len(MEASURES) * NUM_BINS, slices) for slices in self.versions.values())
        for limit, slices in (*zip(limits, rings, strict=True), *versions):
            for _, counts in slices:
                if any(not 0 <= key < limit or num < 1 for key, num in counts.items()):
                    raise ValueError("counts of what does not exist")


class Past:
    """Of one model at one provider."""

    def __init__(self) -> None:
        self.last_s = float("-inf")
        """When something was last heard of it."""
        self.totals = [0] * len(OUTCOMES)
        """Since the process began."""
        self._minutes = Ring(MINUTE_S, NUM_MINUTES)
        self._outcomes = Ring(HOUR_S, NUM_HOURS)
        self._shorts = Ring(SHORT_S, NUM_SHORTS)
        """By measure, size, mask and bin."""
        self._hours = Ring(HOUR_S, NUM_HOURS)
        """By measure, size and bin."""
        self._versions = Versions(SHORT_S, NUM_SHORTS)
        """By measure and bin."""
        self._minute = -1
        self._current: tuple[dict[int, int], ...] = ()
        """Of each ring the counts of the minute above."""
        self._version = ""
        self._of_version: dict[int, int] = {}
        """The counts of the version above in the minute above; "" counts nowhere."""

    def add(self, attempt: Attempt, kind: Kind, now_s: float) -> None:
        self.last_s = now_s
        if now_s // MINUTE_S != self._minute:
            rings = (self._minutes, self._outcomes, self._shorts, self._hours)
            self._current = tuple(ring.current(now_s) for ring in rings)
            self._minute = int(now_s // MINUTE_S)
            self._version = ""
        if attempt.version != self._version:
            self._version = attempt.version
            self._of_version = self._versions.current(attempt.version, now_s) if attempt.version else {}
        minutes, outcomes, _, _ = self._current
        outcome = _NUMBERS[attempt.outcome]
        self.totals[outcome] += 1
        minutes[outcome] = minutes.get(outcome, 0) + 1
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        first_s = attempt.first_token_s
        if first_s is None:
            return
        self._count(0, SECONDS.bin(first_s - attempt.began_s), kind)
        after_s = attempt.ended_s - first_s
        if outcome == 0 and attempt.completion_tokens > 1 and after_s > 0:
            self._count(1, TOKENS_PER_SECOND.bin((attempt.completion_tokens - 1) / after_s), kind)

    def _count(self, measure: int, bin_: int, kind: Kind) -> None:
        _, _, shorts, hours = self._current
        cell = measure * len(SIZES) + kind.size
        key = cell * NUM_BINS + bin_
        hours[key] = hours.get(key, 0) + 1
        key = (cell * _NUM_MASKS + kind.mask) * NUM_BINS + bin_
        shorts[key] = shorts.get(key, 0) + 1
        if self._version:
            key = measure * NUM_BINS + bin_
            self._of_version[key] = self._of_version.get(key, 0) + 1

    def minutes(self, now_s: float, num: int) -> Tally:
        """The last so many minutes, of which the present one has only begun."""
        return Tally(self._minutes.last(now_s, num))

    def day(self, now_s: float) -> Tally:
        return Tally(self._outcomes.last(now_s, DAY))

    def before(self, now_s: float) -> Tally:
        """The 24 hours before the present one."""
        hour = self._outcomes.number(now_s)
        return Tally(total(self._outcomes.between(hour - DAY, hour - 1)))

    def hours(self, now_s: float) -> Iterator[tuple[int, Tally]]:
        """(when it began, in Unix seconds; what happened) of each hour of a day, the present one last."""
        hour = self._outcomes.number(now_s)
        held = dict(self._outcomes.between(hour - DAY + 1, hour))
        for number in range(hour - DAY + 1, hour + 1):
            yield number * HOUR_S, Tally(held.get(number, {}))

    def by_hour(self, now_s: float, num: int) -> Iterator[Stretch]:
        """The last so many hours, the present one last."""
        newest = self._outcomes.number(now_s)
        for hour in range(newest - num + 1, newest + 1):
            tally = Tally(total(self._outcomes.between(hour, hour)))
            yield _stretch(hour * HOUR_S, HOUR_S, tally, total(self._hours.between(hour, hour)), 1)

    def by_short(self, now_s: float) -> Iterator[Stretch]:
        """Half an hour by five minutes, the present ones last."""
        newest = self._shorts.number(now_s)
        for short in range(newest - NUM_SHORTS + 1, newest + 1):
            first = short * SHORT_S // MINUTE_S
            tally = Tally(total(self._minutes.between(first, first + SHORT_S // MINUTE_S - 1)))
            yield _stretch(short * SHORT_S, SHORT_S, tally, total(self._shorts.between(short, short)), _NUM_MASKS)

    def spread(self, measure: Measure, now_s: float) -> Spread:
        """Over the last 25 to 30 minutes."""
        overall: Bins = {}
        sizes: list[Bins] = [{} for _ in SIZES]
        capabilities: list[Bins] = [{} for _ in CAPABILITIES]
        for key, num in self._shorts.last(now_s, NUM_SHORTS).items():
            cell, bin_ = divmod(key, NUM_BINS)
            cell, mask = divmod(cell, _NUM_MASKS)
            number, size = divmod(cell, len(SIZES))
            if MEASURES[number] != measure:
                continue
            for bins in (overall, sizes[size], *_of_mask(capabilities, mask)):
                bins[bin_] = bins.get(bin_, 0) + num
        return Spread(
            Distribution(measure, overall),
            {name: Distribution(measure, bins) for name, bins in zip(SIZES, sizes, strict=True)},
            {name: Distribution(measure, bins) for name, bins in zip(CAPABILITIES, capabilities, strict=True)},
            {version: Distribution(measure, bins) for version, bins in self._by_version(measure, now_s)},
        )

    def _by_version(self, measure: Measure, now_s: float) -> Iterator[tuple[str, Bins]]:
        number = MEASURES.index(measure)
        for version, counts in self._versions.last(now_s):
            yield version, {key % NUM_BINS: num for key, num in counts.items() if key // NUM_BINS == number}

    def recent(self, measure: Measure, now_s: float, num_shorts: int) -> list[Bins]:
        """By size class, over so many slices of five minutes, the present one included."""
        return _by_size(self._shorts.last(now_s, num_shorts), measure, _NUM_MASKS)

    def hourly(self, measure: Measure, now_s: float, oldest: int, newest: int) -> list[Bins]:
        """By size class, from so many hours ago until so many hours ago; the present one is 0."""
        hour = self._hours.number(now_s)
        return _by_size(total(self._hours.between(hour - oldest, hour - newest)), measure, 1)

    def save(self, provider: str, model: str, now_s: float) -> Saved:
        return Saved(
            provider,
            model,
            self.last_s,
            minutes=self._minutes.kept(now_s),
            shorts=self._shorts.kept(now_s),
            hours=self._hours.kept(now_s),
            outcomes=self._outcomes.kept(now_s),
            versions=self._versions.save(now_s),
        )

    def restore(self, saved: Saved, now_s: float) -> None:
        self.last_s = min(saved.last_s, now_s)
        self._minute = -1
        self._minutes.restore(saved.minutes, now_s)
        self._shorts.restore(saved.shorts, now_s)
        self._hours.restore(saved.hours, now_s)
        self._outcomes.restore(saved.outcomes, now_s)
        self._versions.restore(saved.versions, now_s)

    @property
    def num_entries(self) -> int:
        """Counts that are held."""
        rings = (self._minutes, self._shorts, self._hours, self._outcomes)
        return sum(ring.num_entries for ring in rings) + self._versions.num_entries


MOST_ENTRIES = len(OUTCOMES) * (NUM_MINUTES + NUM_HOURS)
MOST_ENTRIES += _NUM_CELLS * NUM_BINS * (NUM_HOURS + _NUM_MASKS * NUM_SHORTS)
MOST_ENTRIES += MOST_VERSIONS * len(MEASURES) * NUM_BINS * NUM_SHORTS
"""Counts that one `Past` can hold; traffic of one kind fills a few hundred."""


def _of_mask(capabilities: list[Bins], mask: int) -> Iterator[Bins]:
    if not mask:
        yield capabilities[0]
    for number, bit in enumerate((_TOOLS, _STRUCTURED, _VISION), 1):
        if mask & bit:
            yield capabilities[number]


def _stretch(begin_s: int, length_s: int, tally: Tally, counts: Mapping[int, int], num_masks: int) -> Stretch:
    latency, throughput = (_by_size(counts, measure, num_masks) for measure in MEASURES)
    return Stretch(begin_s, length_s, tally, latency, throughput)


def _by_size(counts: Mapping[int, int], measure: Measure, num_masks: int) -> list[Bins]:
    sizes: list[Bins] = [{} for _ in SIZES]
    for key, num in counts.items():
        cell, bin_ = divmod(key, NUM_BINS)
        number, size = divmod(cell // num_masks, len(SIZES))
        if MEASURES[number] == measure:
            sizes[size][bin_] = sizes[size].get(bin_, 0) + num
    return sizes
