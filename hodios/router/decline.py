"""Whether a provider gets worse before it fails: how the last minutes compare with the day before. Pure; has no clock.

The rule, the same for three measures:

- *latency*: more than half of the first tokens came later than nine tenths of those of the day before, for prompts of
  the same size, and the median is at least half as long again;
- *throughput*: the same, of answers slower than all but a tenth;
- *failures*: at least one in twenty attempts failed, and twice the share of the day before;

and in each case chance would bring that about less than once in a million times (by Chernoff's bound). The minutes are
the last ten, or the last thirty where ten have too few answers, and then the last ten must be half as bad. What began
ends when it is no longer half as bad.

What is slow for a tenth of an hour every day is no news: clearly more than half of the answers must also be slower than
nineteen twentieths of those of the same hour of the day before, and of the hours beside it, as far as these are known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from hodios.router.histogram import GROWTH, NUM_BINS, quantile_bins
from hodios.router.past import DAY, MEASURES, NUM_SHORTS, Bins, Measure, Past, Tally

Subject = Literal["latency", "throughput", "failures"]
LEAST_BEFORE = 100
"""Answers of the day before, for prompts of one size, before anything is compared with them."""
LEAST_NOW = 30
"""Answers of ten minutes; where there are fewer, thirty minutes count."""
LEAST_SEEN = 10
"""Answers of those minutes: fewer may all have been hit by the same moment."""
SURPRISE = math.log(1e6)
USUAL_SHARE = 0.1
"""Of the day before, so many count as slow."""
USUAL_AT_THIS_TIME = 0.05
"""Of an hour of the day before."""
SLOW_SHARE = 0.5
SLOW_RATIO = 1.5
FAILED_SHARE = 0.05
FAILED_RATIO = 2.0
LEAST_FAILED_SHARE = 0.01
"""Of the day before, where fewer failed."""
RELIEF = 0.5
"""What goes on has to be only so bad."""
_SHORT, _LONG = 2, NUM_SHORTS
_SHORT_MINUTES, _LONG_MINUTES = 10, 30


class Decline(Struct, frozen=True, array_like=True):
    """Something gets worse."""

    subject: Subject
    since_s: float
    ratio: float
    """So many times as long, as slow or as often as the day before."""

    @property
    def message(self) -> str:
        match self.subject:
            case "latency":
                return f"first tokens take {self.ratio:.2g} times as long as the day before"
            case "throughput":
                return f"answers take {self.ratio:.2g} times as long per token as the day before"
            case "failures":
                return f"{self.ratio:.2g} times as many attempts fail as the day before"


class Comparison(NamedTuple):
    """The last minutes beside an earlier time; what is worse stands in higher bins."""

    num: int
    num_slow: int
    """Beyond what all but `expected` of the earlier ones kept to."""
    expected: float
    """The share that was so slow before."""
    ratio: float
    """Of the medians, over all sizes."""


def compared(
    now: Sequence[Bins], before: Sequence[Bins], measure: Measure, usual_share: float = USUAL_SHARE
) -> Comparison | None:
    """By size class; None where no size has enough samples before, or there are none now. Slow is what is slower than
    all but `usual_share` before."""
    num = num_slow = 0
    expected = difference = 0.0
    for mine, theirs in zip(now, before, strict=True):
        num_before = sum(theirs.values())
        if not mine or num_before < LEAST_BEFORE:
            continue
        mine, theirs = _worse_is_higher(mine, measure), _worse_is_higher(theirs, measure)
        median, edge = quantile_bins(theirs, (0.5, 1 - usual_share))
        num_here = sum(mine.values())
        num += num_here
        num_slow += sum(count for bin_, count in mine.items() if bin_ > edge)
        num_slow_before = sum(count for bin_, count in theirs.items() if bin_ > edge)
        expected += num_here * (num_slow_before + 1) / (num_before + 2)
        difference += num_here * (quantile_bins(mine, (0.5,))[0] - median)
    if not num:
        return None
    return Comparison(num, num_slow, expected / num, GROWTH ** (difference / num))


def surprise(num_hits: int, num: int, share: float) -> float:
    """−ln of a bound of the probability of at least so many hits, each of which is as likely as `share`."""
    found = num_hits / num
    if found <= share:
        return 0.0
    missed = (1 - found) * math.log((1 - found) / (1 - share)) if found < 1 else 0.0
    return num * (found * math.log(found / share) + missed)


def declines(past: Past, now_s: float, ongoing: Sequence[Decline] = ()) -> tuple[Decline, ...]:
    """What gets worse now. `ongoing`: what did so the last time."""
    since = {decline.subject: decline for decline in ongoing}
    found = [_slower(past, measure, now_s, since.get(measure)) for measure in MEASURES]
    found.append(_failing(past, now_s, since.get("failures")))
    return tuple(decline for decline in found if decline is not None)


def trend(past: Past, measure: Measure, now_s: float) -> float | None:
    """The median of half an hour divided by that of the day before, for prompts of the same sizes; None: not known."""
    ago = past.hourly(measure, now_s, DAY, 1)
    found = compared(past.recent(measure, now_s, _LONG), ago, measure)
    if found is None:
        return None
    return found.ratio if measure == "latency" else 1 / found.ratio


def _slower(past: Past, measure: Measure, now_s: float, ongoing: Decline | None) -> Decline | None:
    newest = past.recent(measure, now_s, _SHORT)
    now = newest if _num(newest) >= LEAST_NOW else past.recent(measure, now_s, _LONG)
    before = past.hourly(measure, now_s, DAY, 1)
    found = compared(now, before, measure)
    if found is None:
        return None
    if ongoing is not None:
        return Decline(measure, ongoing.since_s, found.ratio) if _is_still_slow(found) else None
    if found.num < LEAST_SEEN or not _is_slow(found) or surprise(found.num_slow, found.num, found.expected) < SURPRISE:
        return None
    latest = compared(newest, before, measure)
    if latest is None or not _is_still_slow(latest) or _was_so_the_day_before(past, measure, now_s, now):
        return None
    return Decline(measure, now_s, found.ratio)


def _is_slow(found: Comparison) -> bool:
    return found.num_slow > SLOW_SHARE * found.num and found.ratio >= SLOW_RATIO


def _is_still_slow(found: Comparison) -> bool:
    return found.num_slow >= RELIEF * SLOW_SHARE * found.num


def _was_so_the_day_before(past: Past, measure: Measure, now_s: float, now: Sequence[Bins]) -> bool:
    """Whether that may be said of the same hour, or of one beside it."""
    for hours_ago in (DAY - 1, DAY, DAY + 1):
        then = compared(now, past.hourly(measure, now_s, hours_ago, hours_ago), measure, USUAL_AT_THIS_TIME)
        # Two standard deviations above the half, so that chance does not make news of what is usual.
        if then is not None and then.num_slow <= SLOW_SHARE * then.num + math.sqrt(then.num):
            return True
    return False


def _failing(past: Past, now_s: float, ongoing: Decline | None) -> Decline | None:
    newest = past.minutes(now_s, _SHORT_MINUTES)
    now = newest if newest.num_judged >= LEAST_NOW else past.minutes(now_s, _LONG_MINUTES)
    num = now.num_judged
    if not num:
        return None
    before = past.before(now_s)
    share = LEAST_FAILED_SHARE
    if before.num_judged >= LEAST_BEFORE:
        share = max(share, before.num_failed / before.num_judged)
    ratio = now.num_failed / num / share
    if ongoing is not None:
        return Decline("failures", ongoing.since_s, ratio) if _still_fails(now) else None
    is_bad = now.num_failed >= FAILED_SHARE * num and ratio >= FAILED_RATIO
    if not is_bad or not _still_fails(newest) or surprise(now.num_failed, num, share) < SURPRISE:
        return None
    return Decline("failures", now_s, ratio)


def _still_fails(tally: Tally) -> bool:
    return tally.num_failed > 0 and tally.num_failed >= RELIEF * FAILED_SHARE * tally.num_judged


def _num(sizes: Sequence[Bins]) -> int:
    return sum(sum(bins.values()) for bins in sizes)


def _worse_is_higher(bins: Bins, measure: Measure) -> Bins:
    if measure == "latency":
        return bins
    return {NUM_BINS - 1 - bin_: num for bin_, num in bins.items()}
