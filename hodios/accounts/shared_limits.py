"""Limits that several processes have in common, in Redis: one script per request, all limits or none, by Redis' clock.

Without Redis each process keeps to its part of the limits, and goes back to the whole once Redis answers again. The
only module that knows Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator, Callable

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from hodios.accounts.gcra import MINUTE_NS
from hodios.accounts.limits import (
    NO_LIMITS,
    SLOT_RETRY_NS,
    LocalLimiter,
    Measure,
    Permit,
    RateState,
    Refusal,
    Scope,
    Standing,
    Window,
    tightest,
)
from hodios.errors import SetupError

ANSWER_WITHIN_S = 0.5
"""So long a request waits for Redis, once it is its turn."""
MOST_AT_ONCE = 8
"""Requests that Redis is asked for at the same time: a crowd must not make it look as if it did not answer."""
RETRY_S = 1.0
"""So long nobody asks Redis after it has failed."""
SLOT_S = 60.0
"""A slot is free again so long after its process has ceased to renew it."""
MOST_CONNECTIONS = MOST_AT_ONCE + 4
MOST_TOLD = 128
"""Commands that Redis gets at once."""
_PERIOD_US = MINUTE_NS // 1000
_MEASURES: tuple[Measure, ...] = ("requests", "tokens", "parallel requests")
_log = logging.getLogger(__name__)

# A scope has three keys: two hashes {level, at} and a sorted set of slots by the time at which they end. `level` is how
# far the theoretical arrival time is ahead of the clock, in microseconds times the limit: whole numbers, exact in the
# doubles of Lua up to a limit of 100 million tokens per minute.
_LEVELS = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function level_of(key, limit)
  local held = redis.call('HMGET', key, 'level', 'at', 'limit')
  if not held[1] then return 0 end
  local level = tonumber(held[1])
  if tonumber(held[3]) ~= limit then level = math.ceil(level / tonumber(held[3]) * limit) end
  local elapsed = now - tonumber(held[2])
  if elapsed < 0 then
    -- The clock has gone back: nobody waits until it is where it was.
    redis.call('HSET', key, 'at', string.format('%.0f', now))
    elapsed = 0
  end
  if elapsed >= level / limit then return 0 end
  return level - elapsed * limit
end
local function put_level(key, level, limit)
  redis.call('HSET', key, 'level', string.format('%.0f', level), 'at', string.format('%.0f', now), 'limit', limit)
  redis.call('PEXPIRE', key, math.ceil(level / limit / 1000) + 1000)
end
"""
_TAKE = f"""{_LEVELS}
local period, num_tokens, slot_us, id = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local wait, refused_by, measure = 0, 0, 0
local levels = {{}}
local function refuse(us, scope, what)
  if us > wait then wait, refused_by, measure = us, scope, what end
end
for scope = 0, #KEYS / 3 - 1 do
  for what = 1, 3 do
    local key, limit = KEYS[scope * 3 + what], tonumber(ARGV[4 + scope * 3 + what])
    if limit == 0 then
      refuse(1000000, scope, what)
    elseif limit > 0 and what < 3 then
      local num = what == 1 and 1 or num_tokens
      local level = level_of(key, limit)
      levels[scope * 3 + what] = level
      refuse(math.ceil((level + (math.min(num, limit) - limit) * period) / limit), scope, what)
    elseif limit > 0 then
      redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
      if redis.call('ZCARD', key) >= limit then refuse(1000000, scope, what) end
    end
  end
end
local answer = {{wait, refused_by, measure}}
for scope = 0, #KEYS / 3 - 1 do
  for what = 1, 3 do
    local key, limit = KEYS[scope * 3 + what], tonumber(ARGV[4 + scope * 3 + what])
    if limit > 0 and what < 3 then
      local level = levels[scope * 3 + what]
      if wait == 0 then
        level = level + (what == 1 and 1 or num_tokens) * period
        put_level(key, level, limit)
      end
      answer[#answer + 1] = math.max(0, limit - math.ceil(level / period))
      answer[#answer + 1] = math.ceil(level / limit)
    elseif limit > 0 and wait == 0 then
      redis.call('ZADD', key, now + slot_us, id)
      redis.call('PEXPIRE', key, slot_us / 1000 + 1000)
    end
  end
end
return answer
"""
# The difference between expected and used tokens, and the end of slots.
_SETTLE = f"""{_LEVELS}
for i, key in ipairs(KEYS) do
  local limit = tonumber(ARGV[2 + i])
  put_level(key, math.max(0, level_of(key, limit) + tonumber(ARGV[1]) * tonumber(ARGV[2])), limit)
end
"""
_RENEW = """
local time = redis.call('TIME')
local ends = time[1] * 1000000 + time[2] + ARGV[1]
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, ends, ARGV[2])
  redis.call('PEXPIRE', key, ARGV[1] / 1000 + 1000)
end
"""


_COUNT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PEXPIRE', KEYS[1], ARGV[1] / 1000 + 1000)
return redis.call('ZCARD', KEYS[1])
"""


_Command = tuple[str, list[str], list[int | str]]
"""A script, or ZREM; keys; arguments."""


class SharedLimiter:
    """`process` is a name that no other one has. `run` keeps slots, counts processes and does what nobody waits for.

    `least_sharing`: so many processes are known to share limits, whoever is counted. `prefix` sets installations apart
    that share a Redis. All keys of one request have the same hash tag, its widest scope, as a cluster demands.
    """

    def __init__(
        self,
        redis: Redis,
        clock_ns: Callable[[], int],
        process: str,
        prefix: str = "hodios",
        slot_s: float = SLOT_S,
        least_sharing: int = 1,
    ) -> None:
        self._redis = redis
        self._clock_ns = clock_ns
        self._process = process
        self._prefix = prefix
        self._slot_us = int(slot_s * 1e6)
        self._least_sharing = least_sharing
        self._local = LocalLimiter(clock_ns, least_sharing)
        self._held: dict[str, Permit] = {}
        self._later: asyncio.Queue[_Command] = asyncio.Queue()
        self._away_until_ns: int | None = None
        self._take = redis.register_script(_TAKE)
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)
        self._processes = f"{prefix}:processes"

    @property
    def is_degraded(self) -> bool:
        """Whether limits are kept without Redis now."""
        return self._away_until_ns is not None

    @property
    def standing(self) -> Standing:
        return "degraded" if self.is_degraded else "shared"

    @property
    def num_sharing(self) -> int:
        return self._local.num_sharing

    async def take(self, permit_id: str, scopes: tuple[Scope, ...], num_tokens: int) -> Permit | Refusal:
        if not scopes:
            return Permit(permit_id, (), num_tokens, NO_LIMITS)
        async with self._turns:
            answer = await self._asked(permit_id, scopes, num_tokens)
        if answer is None:
            return await self._local.take(permit_id, scopes, num_tokens)
        return self._judge(permit_id, scopes, num_tokens, answer)

    def settle(self, permit: Permit, num_tokens: int) -> None:
        if not permit.is_shared:
            self._local.settle(permit, num_tokens)
            return
        scopes = [scope for scope in permit.scopes if scope.limits.tokens_per_minute]
        more, permit.num_tokens = num_tokens - permit.num_tokens, num_tokens
        if more and scopes:
            keys = [self._keys(permit.scopes, scope)[1] for scope in scopes]
            limits = [scope.limits.tokens_per_minute or 0 for scope in scopes]
            self._later.put_nowait((_SETTLE, keys, [more, _PERIOD_US, *limits]))

    def release(self, permit: Permit) -> None:
        if not permit.is_shared:
            self._local.release(permit)
        elif not permit.is_released:
            permit.is_released = True
            self._held.pop(permit.id, None)
            self._end(permit)

    async def count(self) -> None:
        """Be counted, and find out how many processes have limits in common; remembered while Redis is away."""
        try:
            (num,) = await self._do((_COUNT, [self._processes], [self._slot_us, self._process]))
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)
        else:
            self._local.num_sharing = max(num, self._least_sharing)
            self._find()

    async def close(self) -> None:
        """After `run` has ended: what Redis was not told yet, and that this process is gone."""
        self._later.put_nowait(("ZREM", [self._processes], [self._process]))
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            while commands := self._due():
                await self._do(*commands)

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell())
            tasks.create_task(self._renew())

    async def flush(self) -> None:
        """Returns when Redis was told everything. Needs `run`."""
        await self._later.join()

    async def _asked(self, permit_id: str, scopes: tuple[Scope, ...], num_tokens: int) -> list[int] | None:
        """What the script answers; None where Redis does not."""
        if self._away_until_ns is not None and self._clock_ns() < self._away_until_ns:
            return None
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                answer: list[int] = await self._take(
                    keys=[key for scope in scopes for key in self._keys(scopes, scope)],
                    args=[_PERIOD_US, num_tokens, self._slot_us, permit_id, *_limits(scopes)],
                )
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)
            return None
        self._find()
        return answer

    async def _tell(self) -> None:
        while True:
            commands = [await self._later.get(), *self._due()]
            try:
                await self._do(*commands)
            except (RedisError, OSError, TimeoutError) as error:
                # Tokens are forgiven and slots end by themselves: what comes late would be wrong by then.
                self._lose(error)
            finally:
                for _ in commands:
                    self._later.task_done()

    def _due(self) -> list[_Command]:
        return [self._later.get_nowait() for _ in range(min(self._later.qsize(), MOST_TOLD))]

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RETRY_S if self.is_degraded else self._slot_us / 3e6)
            await self.count()
            held = [permit for permit in self._held.values() if not self.is_degraded]
            renewals: list[_Command] = [
                (_RENEW, self._slot_keys(permit), [self._slot_us, permit.id]) for permit in held
            ]
            try:
                for at in range(0, len(renewals), MOST_TOLD):
                    await self._do(*renewals[at : at + MOST_TOLD])
            except (RedisError, OSError, TimeoutError) as error:
                self._lose(error)
            for permit in held:
                # Its end may have overtaken its renewal.
                if permit.is_released:
                    self._end(permit)

    def _end(self, permit: Permit) -> None:
        for key in self._slot_keys(permit):
            self._later.put_nowait(("ZREM", [key], [permit.id]))

    async def _do(self, *commands: _Command) -> list[int]:
        """In one go; what each of them has answered."""
        async with asyncio.timeout(ANSWER_WITHIN_S):
            pipeline = self._redis.pipeline(transaction=False)
            for script, keys, args in commands:
                if script == "ZREM":
                    pipeline.zrem(keys[0], *args)
                else:
                    await self._redis.register_script(script)(keys=keys, args=args, client=pipeline)
            return await pipeline.execute()

    def _judge(self, permit_id: str, scopes: tuple[Scope, ...], num_tokens: int, answer: list[int]) -> Permit | Refusal:
        wait_us, by, measure, *windows = answer
        state = _state(scopes, windows)
        if wait_us:
            scope = scopes[by]
            limit = _limits((scope,))[measure - 1]
            retry_ns = SLOT_RETRY_NS if measure == len(_MEASURES) else wait_us * 1000
            return Refusal(scope.name, _MEASURES[measure - 1], limit, retry_ns, state)
        permit = Permit(permit_id, scopes, num_tokens, state, is_shared=True)
        if self._slot_keys(permit):
            self._held[permit_id] = permit
        return permit

    def _keys(self, scopes: tuple[Scope, ...], scope: Scope) -> list[str]:
        begin = f"{self._prefix}:{{{scopes[-1].name}}}:{scope.name}"
        return [f"{begin}:requests", f"{begin}:tokens", f"{begin}:slots"]

    def _slot_keys(self, permit: Permit) -> list[str]:
        return [
            self._keys(permit.scopes, scope)[2] for scope in permit.scopes if scope.limits.parallel_requests is not None
        ]

    def _lose(self, error: Exception) -> None:
        if self._away_until_ns is None:
            told = str(error) or type(error).__name__
            _log.warning("Redis does not answer (%s): each process keeps to its part of the limits", told)
        self._away_until_ns = self._clock_ns() + int(RETRY_S * 1e9)

    def _find(self) -> None:
        if self._away_until_ns is not None:
            _log.warning("Redis answers again: limits are shared")
        self._away_until_ns = None


@contextlib.asynccontextmanager
async def sharing(url: str, clock_ns: Callable[[], int], least_sharing: int) -> AsyncGenerator[SharedLimiter, None]:
    """A limiter with the Redis at `url`, which need not answer yet. Raises SetupError for a URL without sense."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=MOST_CONNECTIONS,
                timeout=ANSWER_WITHIN_S,
                # Once, on a new connection, where the server has closed an idle one.
                retry=Retry(NoBackoff(), 1),
            )
            redis = await stack.enter_async_context(Redis.from_pool(pool))
            limiter = SharedLimiter(redis, clock_ns, secrets.token_hex(16), least_sharing=least_sharing)
            await limiter.count()
        except (TypeError, ValueError) as error:
            raise SetupError(f"HODIOS_LIMITS_URL is not accepted: {error}.") from error
        stack.push_async_callback(limiter.close)
        yield limiter


def _limits(scopes: tuple[Scope, ...]) -> list[int]:
    """Three per scope; -1 stands for none."""
    limits = [
        limit
        for scope in scopes
        for limit in (
            scope.limits.requests_per_minute,
            scope.limits.tokens_per_minute,
            scope.limits.parallel_requests,
        )
    ]
    return [-1 if limit is None else limit for limit in limits]


def _state(scopes: tuple[Scope, ...], numbers: list[int]) -> RateState:
    """`numbers`: remaining and microseconds until the reset, of each limit of requests and tokens that there is."""
    found: list[list[Window | None]] = [[], []]
    rest = iter(numbers)
    for scope in scopes:
        for windows, limit in zip(
            found, (scope.limits.requests_per_minute, scope.limits.tokens_per_minute), strict=True
        ):
            if limit:
                windows.append(Window(limit, next(rest), next(rest) * 1000))
    return RateState(tightest(found[0]), tightest(found[1]))
