"""The guard process and its client: real sockets, a judge of the test's own, and the real worker once."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.engine.connection import listen
from hodios.errors import GuardDown
from hodios.guard.backlog import Backlog, size_of
from hodios.guard.base import Passage
from hodios.guard.embedded import EmbeddedGuard
from hodios.guard.messages import Assess, Hello
from hodios.guard.panel import BUSY, LATE
from hodios.guard.worker import Worker
from hodios.types import Category

PATIENCE_S = 60.0


class CountingJudge:
    """The longer a text, the more violent; waits at the gate where there is one."""

    version = "counting-1"
    categories: frozenset[Category] = frozenset(("violence",))

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.gate: threading.Event | None = None
        self.is_asked = threading.Event()

    def scores(self, texts: Sequence[str]) -> list[dict[Category, float]]:
        self.is_asked.set()
        if self.gate is not None:
            assert self.gate.wait(PATIENCE_S)
        self.texts += texts
        return [{"violence": min(1.0, len(text) / 1000)} for text in texts]


@contextmanager
def working(path: Path, judge: CountingJudge) -> Iterator[None]:
    """A worker in a thread, which ends as at its parent's end."""
    read_fd, write_fd = os.pipe()
    worker = Worker(judge, Hello(judge.version, sorted(judge.categories), 1, 0.0), listen(path), read_fd)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield
    finally:
        if judge.gate is not None:
            judge.gate.set()
        os.close(write_fd)
        thread.join(PATIENCE_S)
        os.close(read_fd)
        assert not thread.is_alive()


@asynccontextmanager
async def client(path: Path) -> AsyncIterator[EmbeddedGuard]:
    guard = EmbeddedGuard(path)
    await guard.start()
    try:
        yield guard
    finally:
        await guard.aclose()
        await guard.aclose()


async def ready(guard: EmbeddedGuard) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while guard.state().problem:  # noqa: ASYNC110 - another process comes up
            await asyncio.sleep(0.01)


def passages(*texts: str) -> list[Passage]:
    return [Passage(text=text, side="prompt") for text in texts]


async def scores(guard: EmbeddedGuard, *texts: str, budget_s: float = PATIENCE_S) -> list[float]:
    return [each.scores["violence"] for each in await guard.assess(passages(*texts), budget_s)]


async def test_texts_get_their_scores_in_their_order(tmp_path: Path) -> None:
    judge = CountingJudge()
    with working(tmp_path / "s", judge):
        async with client(tmp_path / "s") as guard:
            await ready(guard)
            assert (guard.version, guard.categories) == ("counting-1", {"violence"})
            assert await scores(guard, "a" * 100, "", "b" * 700) == [0.1, 0.0, 0.7]
            many = await asyncio.gather(*(scores(guard, "x" * number) for number in range(50)))
            assert many == [[number / 1000] for number in range(50)]
            assert guard.state().num_waiting == 0


async def test_long_texts_are_judged_in_slices_that_overlap(tmp_path: Path) -> None:
    judge = CountingJudge()
    text = "".join(chr(0x4E00 + place) for place in range(9000))
    with working(tmp_path / "s", judge):
        async with client(tmp_path / "s") as guard:
            await ready(guard)
            assert await scores(guard, text, "short") == [1.0, 0.005]
    *slices, short = sorted(judge.texts, key=lambda each: text.find(each) if each in text else len(text))
    assert short == "short"
    assert all(len(each) <= 2000 for each in slices)
    joined = slices[0]
    for each in slices[1:]:
        assert joined[-200:] == each[:200]
        joined += each[200:]
    assert joined == text


async def test_what_was_judged_is_not_judged_again(tmp_path: Path) -> None:
    judge = CountingJudge()
    with working(tmp_path / "s", judge):
        async with client(tmp_path / "s") as guard:
            await ready(guard)
            for turn in range(3):
                long = "x" * 3000
                said = [f"turn {number}" for number in range(turn + 1)]
                assert await scores(guard, "be kind", *said, long) == [0.007, *[0.006] * (turn + 1), 1.0]
                found = guard.ask(passages("be kind", *said), PATIENCE_S, lambda _: None)
                assert not callable(found), "what is known is said at once"
    assert sorted(judge.texts) == ["be kind", "turn 0", "turn 1", "turn 2", "x" * 1200, "x" * 2000]
    async with client(tmp_path / "s") as guard:
        with pytest.raises(GuardDown):
            await scores(guard, "be kind")


async def test_a_guard_with_other_weights_judges_all_anew(tmp_path: Path) -> None:
    async with client(tmp_path / "s") as guard:
        for version in ("counting-1", "counting-1", "counting-2"):
            judge = CountingJudge()
            judge.version = version
            with working(tmp_path / "s", judge):
                await ready(guard)
                assert await scores(guard, "same") == [0.004]
            assert judge.texts == ([] if guard.state().num_restarts == 1 else ["same"])
            async with asyncio.timeout(PATIENCE_S):
                while not guard.state().problem:  # noqa: ASYNC110 - another thread goes away
                    await asyncio.sleep(0.01)


async def test_hostile_texts_are_judged_as_any(tmp_path: Path) -> None:
    with working(tmp_path / "s", CountingJudge()):
        async with client(tmp_path / "s") as guard:
            await ready(guard)
            assert await scores(guard, "\ud800\udfff\ud83d", "\u200b" * 500, "\0" * 10) == [0.003, 0.5, 0.01]
            assert await scores(guard, "fine") == [0.004]


async def test_whoever_waits_too_long_is_told_so_and_forgotten(tmp_path: Path) -> None:
    judge = CountingJudge()
    judge.gate = threading.Event()
    with working(tmp_path / "s", judge):
        async with client(tmp_path / "s") as guard:
            await ready(guard)
            first = asyncio.create_task(scores(guard, "first"))
            assert await asyncio.to_thread(judge.is_asked.wait, PATIENCE_S)
            with pytest.raises(GuardDown) as caught:
                await scores(guard, "late", budget_s=0.05)
            assert caught.value.code == LATE
            left = asyncio.create_task(scores(guard, "left"))
            await asyncio.sleep(0.05)
            left.cancel()
            await asyncio.wait([left])
            judge.gate.set()
            assert await first == [0.005]
            assert await scores(guard, "again") == [0.005]
            assert guard.state().num_waiting == 0
    assert "late" not in judge.texts
    assert "left" not in judge.texts


async def test_too_much_is_shed_at_once(tmp_path: Path) -> None:
    judge = CountingJudge()
    judge.gate = threading.Event()
    with working(tmp_path / "s", judge):
        async with client(tmp_path / "s") as guard:
            await ready(guard)
            waiting = [asyncio.create_task(scores(guard, "x" * 1500, budget_s=PATIENCE_S)) for _ in range(20)]
            await asyncio.sleep(0)
            assert guard.state().num_waiting == 20 * 1600
            with pytest.raises(GuardDown) as caught:
                await scores(guard, "y" * 100, budget_s=0.1)
            assert caught.value.code == BUSY
            assert guard.refusal(100, 0.1) == BUSY
            assert guard.refusal(100, PATIENCE_S) == ""
            judge.gate.set()
            assert await asyncio.gather(*waiting) == [[1.0]] * 20


async def test_a_worker_that_goes_away_is_waited_for(tmp_path: Path) -> None:
    async with client(tmp_path / "s") as guard:
        assert guard.state().problem == "starting"
        with pytest.raises(GuardDown, match="not running"):
            await scores(guard, "too early")
        with working(tmp_path / "s", CountingJudge()):
            await ready(guard)
        async with asyncio.timeout(PATIENCE_S):
            while guard.state().problem != "restarting":  # noqa: ASYNC110 - another thread goes away
                await asyncio.sleep(0.01)
        with working(tmp_path / "s", CountingJudge()):
            await ready(guard)
            assert await scores(guard, "back") == [0.004]
        assert guard.state().num_restarts >= 1
    assert guard.state().problem == "closed"


async def test_garbage_from_the_worker_ends_the_connection_alone(tmp_path: Path) -> None:
    listener = listen(tmp_path / "s")
    async with client(tmp_path / "s") as guard:
        accepted, _ = await asyncio.to_thread(listener.accept)
        accepted.sendall(b"\x00\x00\x00\x02\xc1\xc1")
        again, _ = await asyncio.to_thread(listener.accept)
        again.sendall(b"\xff\xff\xff\xff")
        third, _ = await asyncio.to_thread(listener.accept)
        assert guard.state().problem == "starting"
        for sock in (accepted, again, third, listener):
            sock.close()


def test_a_client_that_sends_garbage_is_dropped_and_others_go_on(tmp_path: Path) -> None:
    judge = CountingJudge()
    with working(tmp_path / "s", judge):
        with socket.socket(socket.AF_UNIX) as bad:
            bad.connect(str(tmp_path / "s"))
            bad.sendall(b"\x00\x00\x00\x01\xc1")
            bad.settimeout(PATIENCE_S)
            while bad.recv(4096):
                pass

        async def ask() -> list[float]:
            async with client(tmp_path / "s") as guard:
                await ready(guard)
                return await scores(guard, "good")

        assert asyncio.run(ask()) == [0.004]


JOBS = st.lists(st.tuples(st.integers(1, 5000), st.floats(0.01, 5.0)), min_size=1, max_size=30)


@given(JOBS)
def test_what_is_taken_can_be_done_in_time_and_the_urgent_comes_first(jobs: list[tuple[int, float]]) -> None:
    backlog: Backlog[str] = Backlog()
    taken = [
        id
        for id, (size, within_s) in enumerate(jobs)
        if backlog.add("owner", Assess(id, ["x" * size], within_s), 100.0)
    ]
    assert backlog.num_waiting == sum(size_of(["x" * jobs[id][0]]) for id in taken)
    ends = []
    while backlog:
        _, asked, until_s = backlog.take()
        ends.append(until_s)
        taken.remove(asked.id)
    assert ends == sorted(ends)
    assert taken == []
    assert backlog.num_waiting == 0


def test_what_was_given_up_is_not_waited_for() -> None:
    backlog: Backlog[str] = Backlog()
    for owner in ("a", "b"):
        for id in (1, 2):
            assert backlog.add(owner, Assess(id, ["x" * id], 10.0), 0.0)
    backlog.give_up("a", 1)
    backlog.give_up("a", 7)
    backlog.give_up("b")
    assert backlog.take()[1].id == 2
    assert not backlog


def test_the_real_worker_judges_gives_way_and_ends_with_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "s"
    read_fd, write_fd = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "hodios.guard.worker", "--parent-fd", str(read_fd), "--socket", str(path)],
        pass_fds=[read_fd],
    )
    os.close(read_fd)
    try:

        async def ask() -> list[dict[str, float]]:
            async with client(path) as guard:
                await ready(guard)
                hostile = ["\u200b" * 3000, "\ud800", "a" * 20_000, "\0", "𒐫" * 600]
                texts = ["How do I bake bread?", "You are vermin and I will kill you.", "", *hostile]
                return [dict(each.scores) for each in await guard.assess(passages(*texts), PATIENCE_S)]

        harmless, violent, empty, *others = asyncio.run(ask())
        assert max(harmless.values()) < 0.5 <= max(violent.values())
        assert all(set(each) == set(harmless) for each in (empty, *others))
        nice = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[16])
        assert nice >= 5
    finally:
        os.close(write_fd)
        try:
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
    assert not path.exists()


def test_a_worker_that_is_told_to_stop_stops(tmp_path: Path) -> None:
    path = tmp_path / "s"
    process = subprocess.Popen([sys.executable, "-m", "hodios.guard.worker", "--socket", str(path)])
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while not path.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
