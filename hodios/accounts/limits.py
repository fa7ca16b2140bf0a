"""How much may be asked: requests and tokens per minute, and requests at the same time, of keys and their projects.

A request passes all limits that hold for it or counts in none. What this process knows alone; see `shared_limits` for
several. Money is no matter of this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from hodios.accounts.gcra import Gcra, Quota
from hodios.errors import RateLimited
from hodios.store.records import KeyRecord, Limits, ProjectRecord

SLOT_RETRY_NS = 10**9
"""When to ask again where too many requests are on their way: nobody knows when the next one ends."""
_LEAST_SWEPT = 1024
Measure = Literal["requests", "tokens", "parallel requests"]
Standing = Literal["local", "shared", "degraded"]
"""Limits hold for this process alone, or for all that share them; degraded: for each its part of what they share."""


class Scope(Struct, frozen=True):
    """Whose limits they are: `key/k1`, `project/p1`."""

    name: str
    limits: Limits


class Window(Struct, frozen=True):
    """How things stand with one limit. Answers tell their clients so."""

    limit: int
    remaining: int
    reset_ns: int
    """Until the whole limit is there again."""


class RateState(Struct, frozen=True):
    """Of those limits that are the closest to being reached; None where there is none."""

    requests: Window | None = None
    tokens: Window | None = None


NO_LIMITS = RateState()


class Refusal(Struct, frozen=True):
    scope: str
    measure: Measure
    limit: int
    retry_ns: int
    state: RateState


class Permit(Struct, eq=False):
    """One request that has passed. It has a slot until it is released."""

    id: str
    scopes: tuple[Scope, ...]
    num_tokens: int
    """As expected, later as they were."""
    state: RateState
    is_shared: bool = False
    """Whether it counts for all processes."""
    is_released: bool = False


FREE = Permit("", (), 0, NO_LIMITS, is_released=True)
"""Of all requests that no limit holds for."""


class Limiter(Protocol):
    @property
    def standing(self) -> Standing: ...

    @property
    def num_sharing(self) -> int:
        """How many processes have limits in common, as counted last."""

    async def take(self, permit_id: str, scopes: tuple[Scope, ...], num_tokens: int) -> Permit | Refusal: ...

    def settle(self, permit: Permit, num_tokens: int) -> None:
        """As many tokens were really used."""

    def release(self, permit: Permit) -> None:
        """The request is over. May be told more than once."""

    async def run(self) -> None:
        """What has to be done in the background, until it is cancelled."""


def scopes_of(key: KeyRecord, project: ProjectRecord | None) -> tuple[Scope, ...]:
    """The limits that hold for a request, without those that are none."""
    scopes = [Scope(f"key/{key.id}", key.limits)]
    if project is not None:
        scopes.append(Scope(f"project/{project.id}", project.limits))
    return tuple(scope for scope in scopes if scope.limits != Limits())


def shared_out(limits: Limits, num_sharing: int) -> Limits:
    """The part of one of several processes that do not know of each other."""

    def part(limit: int | None) -> int | None:
        return None if limit is None else max(1, limit // num_sharing)

    return Limits(
        requests_per_minute=part(limits.requests_per_minute),
        tokens_per_minute=part(limits.tokens_per_minute),
        parallel_requests=part(limits.parallel_requests),
    )


def refused(refusal: Refusal) -> RateLimited:
    """What a client is told."""
    owner = refusal.scope.partition("/")[0]
    span = "at the same time" if refusal.measure == "parallel requests" else "per minute"
    what = "requests" if refusal.measure == "parallel requests" else refusal.measure
    return RateLimited(
        f"The limit of {refusal.limit} {what} {span} of this {owner} is reached.",
        retry_after=max(1, -(-refusal.retry_ns // 10**9)),
        metadata={"scope": owner, "measure": refusal.measure, "limit": refusal.limit},
    )


def tightest(windows: Iterable[Window | None]) -> Window | None:
    """The one of which the least is left."""
    return min((window for window in windows if window), key=lambda window: window.remaining, default=None)


class _Counters:
    """Of one scope. A limit that is set to 0 lets nothing pass."""

    __slots__ = ("num_running", "requests", "tokens")

    def __init__(self) -> None:
        self.requests: Gcra | None = None
        self.tokens: Gcra | None = None
        self.num_running = 0

    def follow(self, limits: Limits, now_ns: int) -> None:
        self.requests = _followed(self.requests, limits.requests_per_minute, now_ns)
        self.tokens = _followed(self.tokens, limits.tokens_per_minute, now_ns)

    def is_idle(self, now_ns: int) -> bool:
        return self.num_running == 0 and all(
            gcra is None or gcra.is_idle(now_ns) for gcra in (self.requests, self.tokens)
        )


def _followed(gcra: Gcra | None, limit: int | None, now_ns: int) -> Gcra | None:
    if not limit:
        return None
    if gcra is not None and gcra.quota.num == limit:
        return gcra
    quota = Quota(limit)
    if gcra is None:
        return Gcra(quota)
    if gcra.quota != quota:
        gcra.change(quota, now_ns)
    return gcra


class RateTable:
    """The counters of all scopes. Times are nanoseconds of any clock that never goes back."""

    def __init__(self) -> None:
        self._counters: dict[str, _Counters] = {}
        self._sweep_at = _LEAST_SWEPT

    def __len__(self) -> int:
        return len(self._counters)

    @property
    def num_running(self) -> dict[str, int]:
        return {name: counters.num_running for name, counters in self._counters.items()}

    def take(self, permit_id: str, scopes: tuple[Scope, ...], num_tokens: int, now_ns: int) -> Permit | Refusal:
        chain = [(scope, self._of(scope, now_ns)) for scope in scopes]
        worst: Refusal | None = None
        for scope, counters in chain:
            for measure, limit, wait_ns in _waits(scope.limits, counters, num_tokens, now_ns):
                if wait_ns and (worst is None or wait_ns > worst.retry_ns):
                    worst = Refusal(scope.name, measure, limit, wait_ns, RateState())
        if worst is not None:
            return Refusal(worst.scope, worst.measure, worst.limit, worst.retry_ns, _state(chain, now_ns))
        for _, counters in chain:
            counters.num_running += 1
            if counters.requests:
                counters.requests.take(now_ns)
            if counters.tokens:
                counters.tokens.take(now_ns, num_tokens)
        return Permit(permit_id, scopes, num_tokens, _state(chain, now_ns))

    def settle(self, permit: Permit, num_tokens: int, now_ns: int) -> None:
        for scope in permit.scopes:
            counters = self._of(scope, now_ns)
            if counters.tokens:
                counters.tokens.take(now_ns, num_tokens - permit.num_tokens)
        permit.num_tokens = num_tokens

    def release(self, permit: Permit) -> None:
        if permit.is_released:
            return
        permit.is_released = True
        for scope in permit.scopes:
            self._counters[scope.name].num_running -= 1

    def _of(self, scope: Scope, now_ns: int) -> _Counters:
        counters = self._counters.get(scope.name)
        if counters is None:
            self._sweep(now_ns)
            counters = self._counters[scope.name] = _Counters()
        counters.follow(scope.limits, now_ns)
        return counters

    def _sweep(self, now_ns: int) -> None:
        """Forget who has not asked for a while, seldom enough that each call costs little on average."""
        if len(self._counters) >= self._sweep_at:
            self._counters = {name: one for name, one in self._counters.items() if not one.is_idle(now_ns)}
            self._sweep_at = max(_LEAST_SWEPT, 2 * len(self._counters))


class LocalLimiter:
    """`num_sharing` processes have the limits in common, and each of them its part."""

    standing: Standing = "local"

    def __init__(self, clock_ns: Callable[[], int], num_sharing: int = 1) -> None:
        self.num_sharing = num_sharing
        self.table = RateTable()
        self._clock_ns = clock_ns

    async def take(self, permit_id: str, scopes: tuple[Scope, ...], num_tokens: int) -> Permit | Refusal:
        if not scopes:
            return Permit(permit_id, (), num_tokens, NO_LIMITS)
        if self.num_sharing > 1:
            scopes = tuple(Scope(scope.name, shared_out(scope.limits, self.num_sharing)) for scope in scopes)
        return self.table.take(permit_id, scopes, num_tokens, self._clock_ns())

    def settle(self, permit: Permit, num_tokens: int) -> None:
        if permit.scopes:
            self.table.settle(permit, num_tokens, self._clock_ns())

    def release(self, permit: Permit) -> None:
        self.table.release(permit)

    async def run(self) -> None:
        """There is nothing to be done."""


def _waits(limits: Limits, counters: _Counters, num_tokens: int, now_ns: int) -> list[tuple[Measure, int, int]]:
    """(what, its limit, how long until it allows the request, 0: now)"""
    waits: list[tuple[Measure, int, int]] = []
    if limits.requests_per_minute is not None:
        wait_ns = counters.requests.wait_ns(now_ns) if counters.requests else SLOT_RETRY_NS
        waits.append(("requests", limits.requests_per_minute, wait_ns))
    if limits.tokens_per_minute is not None:
        wait_ns = counters.tokens.wait_ns(now_ns, num_tokens) if counters.tokens else SLOT_RETRY_NS
        waits.append(("tokens", limits.tokens_per_minute, wait_ns))
    if limits.parallel_requests is not None:
        is_full = counters.num_running >= limits.parallel_requests
        waits.append(("parallel requests", limits.parallel_requests, SLOT_RETRY_NS if is_full else 0))
    return waits


def _state(chain: Sequence[tuple[Scope, _Counters]], now_ns: int) -> RateState:
    return RateState(
        requests=tightest(_window(counters.requests, now_ns) for _, counters in chain),
        tokens=tightest(_window(counters.tokens, now_ns) for _, counters in chain),
    )


def _window(gcra: Gcra | None, now_ns: int) -> Window | None:
    return Window(gcra.quota.num, gcra.remaining(now_ns), gcra.reset_ns(now_ns)) if gcra else None
