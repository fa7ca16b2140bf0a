from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from redis.asyncio import Redis
from redis_server import RedisServer

from hodios.accounts.limits import Permit, Refusal, Scope
from hodios.accounts.shared_limits import SharedLimiter, sharing
from hodios.errors import SetupError
from hodios.store.records import Limits

Make = Callable[..., SharedLimiter]


@pytest.fixture(scope="module")
def server(need: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(need("redis-server", "redis-server"), tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis(unix_socket_path=str(server.path))
    yield client
    await client.aclose()


def scope(name: str, requests: int | None = None, tokens: int | None = None, parallel: int | None = None) -> Scope:
    return Scope(name, Limits(requests_per_minute=requests, tokens_per_minute=tokens, parallel_requests=parallel))


@pytest.fixture
async def make(redis: Redis) -> AsyncIterator[Make]:
    """Limiters of several processes, which share what they count."""
    prefix = uuid.uuid4().hex
    tasks = []

    def begin(client: Redis = redis, clock_ns: Callable[[], int] = time.monotonic_ns, **more: float) -> SharedLimiter:
        limiter = SharedLimiter(client, clock_ns, uuid.uuid4().hex, prefix, **more)
        tasks.append(asyncio.create_task(limiter.run()))
        return limiter

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def running(limiter: SharedLimiter) -> AsyncIterator[None]:
    task = asyncio.create_task(limiter.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_processes_count_together(make: Make) -> None:
    here, there = make(), make()
    scopes = (scope("key/a", requests=5), scope("project/p", requests=100, tokens=100))
    outcomes = [await limiter.take(f"{at}", scopes, 7) for at in range(3) for limiter in (here, there)]
    assert [type(outcome) for outcome in outcomes] == [Permit] * 5 + [Refusal]
    last, refusal = outcomes[4], outcomes[5]
    assert (last.state.requests.limit, last.state.requests.remaining) == (5, 0)
    assert 65 <= last.state.tokens.remaining <= 70
    assert (refusal.scope, refusal.measure, refusal.limit) == ("key/a", "requests", 5)
    assert 0 < refusal.retry_ns <= 12 * 10**9
    assert 65 <= refusal.state.tokens.remaining <= 70, "a refused request counts nowhere"


async def test_simultaneous_requests_of_all_processes_never_pass_the_limit(make: Make) -> None:
    limiters = [make() for _ in range(4)]
    scopes = (scope("key/a", requests=10), scope("project/p", parallel=7))
    takes = [limiter.take(f"{number}-{at}", scopes, 0) for number, limiter in enumerate(limiters) for at in range(10)]
    outcomes = await asyncio.gather(*takes)
    assert sum(isinstance(outcome, Permit) for outcome in outcomes) == 7


async def test_slots_end_with_their_requests(make: Make) -> None:
    here, there = make(), make()
    scopes = (scope("key/a", parallel=1),)
    permit = await here.take("1", scopes, 0)
    assert isinstance(permit, Permit)
    assert isinstance(await there.take("2", scopes, 0), Refusal)
    here.release(permit)
    here.release(permit)
    await here.flush()
    assert isinstance(await there.take("3", scopes, 0), Permit)


async def test_slots_are_kept_while_their_process_lives_and_end_with_it(make: Make, redis: Redis) -> None:
    living, dead = make(slot_s=0.3), SharedLimiter(redis, time.monotonic_ns, "dead", f"x{uuid.uuid4().hex}", 0.05)
    scopes = (scope("key/a", parallel=1),)
    assert isinstance(await living.take("1", scopes, 0), Permit)
    assert isinstance(await dead.take("1", scopes, 0), Permit)
    assert isinstance(await dead.take("2", scopes, 0), Refusal)
    await asyncio.sleep(0.5)
    assert isinstance(await living.take("2", scopes, 0), Refusal)
    assert isinstance(await dead.take("2", scopes, 0), Permit)


async def test_tokens_are_settled_as_they_were(make: Make) -> None:
    limiter = make()
    scopes = (scope("key/a", tokens=1000),)
    permit = await limiter.take("1", scopes, 900)
    assert isinstance(permit, Permit)
    assert isinstance(await limiter.take("2", scopes, 200), Refusal)
    limiter.settle(permit, 100)
    await limiter.flush()
    second = await limiter.take("3", scopes, 200)
    assert isinstance(second, Permit)
    assert 700 <= second.state.tokens.remaining <= 790
    limiter.settle(permit, 5000)
    await limiter.flush()
    refusal = await limiter.take("4", scopes, 1)
    assert isinstance(refusal, Refusal)
    assert refusal.retry_ns > 3 * 60 * 10**9


async def test_a_new_limit_takes_over_what_was_used(make: Make) -> None:
    limiter = make()
    await limiter.take("1", (scope("key/a", tokens=1000),), 500)
    permit = await limiter.take("2", (scope("key/a", tokens=100),), 0)
    assert 50 <= permit.state.tokens.remaining <= 60


async def test_nobody_waits_for_a_clock_that_has_gone_back(make: Make, redis: Redis) -> None:
    limiter, scopes, limit = make(), (scope("key/late", requests=6000),), 6000
    assert isinstance(await limiter.take("1", scopes, 0), Permit)
    (name,) = [name async for name in redis.scan_iter("*key/late:requests")]
    ahead_us = int(await redis.hget(name, "at")) + 3600 * 10**6
    await redis.persist(name)
    await redis.hset(name, mapping={"level": limit * 60 * 10**6, "at": ahead_us})
    refusal = await limiter.take("2", scopes, 0)
    assert isinstance(refusal, Refusal)
    assert refusal.retry_ns == 10**7
    async with asyncio.timeout(60):
        while isinstance(await limiter.take("3", scopes, 0), Refusal):
            pass


async def test_the_largest_numbers_stay_exact(make: Make) -> None:
    limiter, limit = make(), 100_000_000
    permit = await limiter.take("1", (scope("key/a", tokens=limit),), limit)
    assert permit.state.tokens.remaining <= limit // 2
    assert isinstance(await limiter.take("2", (scope("key/a", tokens=limit),), limit), Refusal)


async def test_without_redis_each_process_keeps_to_its_part_and_comes_back(make: Make, server: RedisServer) -> None:
    now_ns = 0
    limiter, other = make(clock_ns=lambda: now_ns), make()
    scopes = (scope("key/a", requests=6, parallel=50),)
    await other.count()
    await limiter.count()
    shared = await limiter.take("0", scopes, 0)
    assert isinstance(shared, Permit)
    assert shared.is_shared
    server.stop()
    outcomes = [await limiter.take(str(at), scopes, 0) for at in range(1, 5)]
    assert [type(outcome) for outcome in outcomes] == [Permit] * 3 + [Refusal], "two processes share six"
    assert limiter.is_degraded
    limiter.release(outcomes[0])
    limiter.release(shared)
    await limiter.flush()
    server.start()
    assert isinstance(await limiter.take("5", scopes, 0), Refusal), "it is not asked again at once"
    now_ns = 2 * 10**9
    permit = await limiter.take("6", scopes, 0)
    assert isinstance(permit, Permit)
    assert permit.is_shared
    assert not limiter.is_degraded


async def test_processes_are_counted_as_long_as_they_live(make: Make, redis: Redis) -> None:
    limiter = make(slot_s=0.1)
    dying = SharedLimiter(redis, time.monotonic_ns, "dying", limiter._prefix, 0.1)
    await dying.count()
    await limiter.count()
    assert limiter.num_sharing == 2
    await asyncio.sleep(0.2)
    await limiter.count()
    assert limiter.num_sharing == 1


async def test_who_has_no_limits_asks_nobody(make: Make) -> None:
    permit = await make(Redis(host="127.0.0.1", port=1)).take("1", (), 5)
    assert isinstance(permit, Permit)
    assert not permit.is_shared


async def test_a_crowd_is_no_silence(make: Make) -> None:
    limiter = make()
    scopes = (scope("key/a", requests=100),)
    outcomes = await asyncio.gather(*(limiter.take(str(at), scopes, 0) for at in range(300)))
    assert sum(isinstance(outcome, Permit) for outcome in outcomes) in (100, 101, 102)
    assert limiter.standing == "shared"


async def _becomes(limiter: SharedLimiter, standing: str) -> None:
    async with asyncio.timeout(30):
        while limiter.standing != standing:  # noqa: ASYNC110 - another process starts or ends
            await asyncio.sleep(0.02)


async def test_a_start_without_redis_knows_its_own_server_and_finds_redis_by_itself(server: RedisServer) -> None:
    server.stop()
    try:
        async with sharing(server.url, time.monotonic_ns, least_sharing=3) as limiter, running(limiter):
            assert (limiter.standing, limiter.num_sharing) == ("degraded", 3)
            scopes = (scope("key/a", requests=6),)
            outcomes = [await limiter.take(str(at), scopes, 0) for at in range(3)]
            assert [type(outcome) for outcome in outcomes] == [Permit, Permit, Refusal]
            server.start()
            await _becomes(limiter, "shared")
            assert limiter.num_sharing == 3, "the others of the server have not been counted yet"
    finally:
        server.start()


async def test_who_ends_leaves_nothing_behind(server: RedisServer, redis: Redis) -> None:
    scopes = (scope("key/left", parallel=1),)
    async with sharing(server.url, time.monotonic_ns, 1) as limiter:
        permit = await limiter.take("1", scopes, 0)
        assert isinstance(permit, Permit)
        assert await redis.zcard("hodios:processes") == 1
        limiter.release(permit)
    assert await redis.zcard("hodios:processes") == 0
    assert await redis.zcard("hodios:{key/left}:key/left:slots") == 0


async def test_slots_survive_a_redis_that_forgets(make: Make, server: RedisServer) -> None:
    limiter, other = make(slot_s=0.3), make()
    scopes = (scope("key/a", parallel=1),)
    assert isinstance(await limiter.take("1", scopes, 0), Permit)
    server.stop()
    await _becomes(limiter, "degraded")
    server.start()
    await _becomes(limiter, "shared")
    async with asyncio.timeout(30):
        while isinstance(permit := await other.take("2", scopes, 0), Permit):
            other.release(permit)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("url", ["redis://127.0.0.1/0?nonsense=1", "redis://127.0.0.1/?socket_timeout=soon"])
async def test_a_url_without_sense_is_told_at_the_start(url: str) -> None:
    with pytest.raises(SetupError, match="HODIOS_LIMITS_URL is not accepted"):
        async with sharing(url, time.monotonic_ns, 1):
            pass
