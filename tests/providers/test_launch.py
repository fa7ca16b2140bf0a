from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from hodios.providers.launch import REFUSED, Child, ChildEvent, Pace, Supervisor

QUICK = Pace(stop_s=5.0, first_delay_s=0.01, longest_delay_s=0.04, stable_s=1000.0)


def script(source: str, *args: object, **options: object) -> Child:
    argv = (sys.executable, "-S", "-E", "-c", textwrap.dedent(source), *map(str, args))
    return Child(**({"name": "child", "argv": argv} | options))  # type: ignore[arg-type]


class Watch:
    """What a supervisor reports, and a way to act as soon as something is seen."""

    def __init__(self, pace: Pace = QUICK, clock: Callable[[], float] = lambda: 0.0) -> None:
        self.events: list[ChildEvent] = []
        self.output: dict[str, bytes] = {}
        self.reactions: list[tuple[Callable[[], bool], Callable[[], None]]] = []
        self.supervisor = Supervisor(on_event=self._event, on_output=self._output, pace=pace, clock=clock)

    def when(self, condition: Callable[[], bool], action: Callable[[], None]) -> None:
        self.reactions.append((condition, action))

    def kinds(self, name: str = "child") -> list[str]:
        return [event.kind for event in self.events if event.child.name == name]

    def _event(self, event: ChildEvent) -> None:
        self.events.append(event)
        self._react()

    def _output(self, child: Child, data: bytes) -> None:
        self.output[child.name] = self.output.get(child.name, b"") + data
        self._react()

    def _react(self) -> None:
        for reaction in list(self.reactions):
            if reaction[0]():
                self.reactions.remove(reaction)
                reaction[1]()


SERVICE = """
    import os, signal, sys, time
    def end(*_):
        os.write(2, b"bye\\n")
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    os.write(2, b"ready\\n")
    while True:
        time.sleep(100)
"""


async def test_a_child_is_stopped_gracefully() -> None:
    watch = Watch()
    watch.when(lambda: b"ready" in watch.output.get("child", b""), watch.supervisor.stop)
    last = await watch.supervisor.run((script(SERVICE),))
    assert watch.kinds() == ["started", "stopped"]
    assert last["child"].code == 0
    assert watch.output["child"] == b"ready\nbye\n"


async def test_a_deaf_child_is_killed_with_what_it_started() -> None:
    watch = Watch(Pace(stop_s=0.2))
    deaf = script("""
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            print(os.getpid(), file=sys.stderr, flush=True)
        time.sleep(100)
    """)
    watch.when(lambda: b"\n" in watch.output.get("child", b""), watch.supervisor.stop)
    last = await watch.supervisor.run((deaf,))
    assert last["child"].code == -signal.SIGKILL
    await gone(int(watch.output["child"]))


async def test_the_second_stop_does_not_wait() -> None:
    watch = Watch(Pace(stop_s=1000.0))
    deaf = script("""
        import os, signal, sys, time
        def hear(*_):
            os.write(2, b"no\\n")
        signal.signal(signal.SIGTERM, hear)
        os.write(2, b"ready\\n")
        while True:
            time.sleep(100)
    """)
    watch.when(lambda: b"ready" in watch.output.get("child", b""), watch.supervisor.stop)
    watch.when(lambda: b"no" in watch.output.get("child", b""), watch.supervisor.stop)
    last = await watch.supervisor.run((deaf,))
    assert last["child"].code == -signal.SIGKILL


async def test_crashes_are_restarted_with_growing_pauses_up_to_the_longest() -> None:
    watch = Watch()
    watch.when(lambda: watch.kinds().count("crashed") == 4, watch.supervisor.stop)
    await watch.supervisor.run((script("raise SystemExit('broken: wire')"),))
    crashes = [event for event in watch.events if event.kind == "crashed"]
    assert [event.delay_s for event in crashes] == [0.01, 0.02, 0.04, 0.04]
    assert {event.code for event in crashes} == {1}
    assert all(event.message == "broken: wire" for event in crashes)


async def test_a_stable_time_forgives() -> None:
    ticks = iter(range(0, 10_000_000, 2000))
    watch = Watch(clock=lambda: float(next(ticks)))
    watch.when(lambda: watch.kinds().count("crashed") == 3, watch.supervisor.stop)
    await watch.supervisor.run((script("raise SystemExit(1)"),))
    assert [event.delay_s for event in watch.events if event.kind == "crashed"] == [0.01, 0.01, 0.01]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
async def test_a_killed_child_comes_back(number: signal.Signals) -> None:
    watch = Watch()
    watch.when(
        lambda: watch.output.get("child", b"").count(b"ready") == 1,
        lambda: os.kill(watch.events[0].pid, number),
    )
    watch.when(lambda: watch.output.get("child", b"").count(b"ready") == 2, watch.supervisor.stop)
    await watch.supervisor.run((script(SERVICE),))
    assert watch.kinds() == ["started", "crashed", "started", "stopped"]
    assert watch.events[1].code == -number


async def test_an_exit_by_itself_is_a_crash_too() -> None:
    watch = Watch()
    watch.when(lambda: watch.kinds().count("crashed") == 1, watch.supervisor.stop)
    await watch.supervisor.run((script("pass"),))
    assert watch.events[1].kind == "crashed"
    assert watch.events[1].code == 0


async def test_a_refusal_is_final_and_its_reason_is_told() -> None:
    watch = Watch()
    last = await watch.supervisor.run(
        (script(f"import sys; print('no memory', file=sys.stderr); sys.exit({REFUSED})"),)
    )
    assert watch.kinds() == ["started", "refused"]
    assert last["child"].message == "no memory"


async def test_a_refusal_of_the_essential_child_stops_all() -> None:
    watch = Watch()
    refusing = script(f"raise SystemExit({REFUSED})", name="api", is_essential=True)
    last = await watch.supervisor.run((script(SERVICE, name="engine"), refusing))
    assert last["api"].kind == "refused"
    assert last["engine"].kind == "stopped"


async def test_an_essential_child_that_never_starts_stops_all() -> None:
    failing = script("raise SystemExit('no such module')", name="api", is_essential=True)
    watch = Watch()
    last = await watch.supervisor.run((failing, script(SERVICE)))
    assert watch.kinds("api") == ["started", "crashed"] * 4 + ["started", "refused"]
    assert last["api"].message == "no such module"
    assert last["child"].kind == "stopped"


async def test_an_essential_child_that_was_killed_is_started_for_ever() -> None:
    watch = Watch()
    killed = script("import os; os.kill(os.getpid(), 9)", name="api", is_essential=True)
    watch.when(lambda: watch.kinds("api").count("crashed") == 8, watch.supervisor.stop)
    await watch.supervisor.run((killed,))
    assert watch.kinds("api").count("crashed") == 8


async def test_an_essential_child_that_has_worked_may_refuse_as_long_as_it_likes(tmp_path: Path) -> None:
    """Its database may be away when it starts again."""
    watch = Watch()
    source = f"""
        import os, sys
        from pathlib import Path
        if not Path({str(tmp_path / "seen")!r}).exists():
            Path({str(tmp_path / "seen")!r}).touch()
            os.kill(os.getpid(), 9)
        sys.exit({REFUSED})
    """
    watch.when(lambda: watch.kinds("api").count("crashed") == 8, watch.supervisor.stop)
    last = await watch.supervisor.run((script(source, name="api", is_essential=True), script(SERVICE)))
    assert watch.kinds("api") == ["started", "crashed"] * 8
    assert last["child"].kind == "stopped"


async def test_a_refusal_of_another_child_stops_nobody() -> None:
    watch = Watch()
    watch.when(
        lambda: "refused" in watch.kinds("engine") and b"ready" in watch.output.get("api", b""), watch.supervisor.stop
    )
    refusing = script(f"raise SystemExit({REFUSED})", name="engine")
    last = await watch.supervisor.run((refusing, script(SERVICE, name="api", is_essential=True)))
    assert (last["engine"].kind, last["api"].kind) == ("refused", "stopped")


async def test_a_program_that_does_not_exist_is_a_refusal() -> None:
    watch = Watch()
    last = await watch.supervisor.run((Child(name="child", argv=("/nowhere/program",)),))
    assert last["child"].kind == "refused"
    assert "/nowhere/program: No such file" in last["child"].message


async def test_higher_stages_end_before_lower_ones_are_asked() -> None:
    watch = Watch()
    order: list[str] = []
    slow = """
        import os, signal, sys, time
        def end(*_):
            time.sleep(0.2)
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        os.write(2, b"ready\\n")
        while True:
            time.sleep(100)
    """
    children = (script(SERVICE, name="engine", stage=0), script(slow, name="api", stage=1))
    watch.when(lambda: len(watch.output) == 2, watch.supervisor.stop)
    watch.when(lambda: "stopped" in watch.kinds("api"), lambda: order.append(watch.output["engine"].decode()))
    await watch.supervisor.run(children)
    assert order == ["ready\n"]
    assert watch.output["engine"] == b"ready\nbye\n"


async def test_no_restart_while_others_are_stopping() -> None:
    watch = Watch()
    mortal = script(SERVICE, name="engine")
    children = (mortal, script(SERVICE, name="api", stage=1))
    watch.when(lambda: len(watch.output) == 2, watch.supervisor.stop)
    watch.when(lambda: b"bye" in watch.output.get("api", b""), lambda: os.kill(watch.events[0].pid, signal.SIGKILL))
    await watch.supervisor.run(children)
    assert watch.kinds("engine").count("started") == 1


async def test_given_descriptors_and_environment_arrive() -> None:
    watch = Watch()
    reading, writing = os.pipe()
    child = script(
        "import os, sys; os.write(int(sys.argv[1]), os.environ['WORD'].encode()); sys.exit(78)",
        writing,
        pass_fds=(writing,),
        env={"WORD": "hello"},
    )
    await watch.supervisor.run((child,))
    assert os.read(reading, 100) == b"hello"
    os.close(reading)
    os.close(writing)


async def test_much_output_passes_whole_and_the_reason_is_its_end() -> None:
    watch = Watch()
    noisy = "import sys; sys.stderr.write('x' * 1_000_000 + '\\nthe end'); sys.stderr.flush(); sys.exit(78)"
    last = await watch.supervisor.run((script(noisy),))
    assert len(watch.output["child"]) == 1_000_008
    assert last["child"].message.endswith("\nthe end")
    assert len(last["child"].message) <= 4096


async def test_a_cancelled_supervisor_leaves_nobody() -> None:
    watch = Watch()
    ready = asyncio.Event()
    watch.when(lambda: b"ready" in watch.output.get("child", b""), ready.set)
    run = asyncio.create_task(watch.supervisor.run((script(SERVICE),)))
    await ready.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await gone(watch.events[0].pid)


PARENT = """
import asyncio, sys
from hodios.providers.launch import Child, Supervisor

HEAR = {hear!r}

def tell(child, data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()

async def main():
    supervisor = Supervisor(on_event=lambda event: None, on_output=tell)
    argv = (sys.executable, "-S", "-E", "-c", HEAR, str(supervisor.parent_fd))
    await supervisor.run((Child(name="child", argv=argv),))

asyncio.run(main())
"""
WATCHES_PIPE = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), file=sys.stderr, flush=True)
os.read(int(sys.argv[1]), 1)
"""
WATCHES_NOTHING = """
import os, sys, time
print(os.getpid(), file=sys.stderr, flush=True)
time.sleep(1000)
"""


def start_parent(hear: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PARENT.format(hear=hear)], stdout=subprocess.PIPE)


@pytest.mark.parametrize("hear", [WATCHES_PIPE, WATCHES_NOTHING], ids=["pipe", "death-signal"])
async def test_children_of_a_killed_parent_end(hear: str) -> None:
    parent = start_parent(hear)
    assert parent.stdout is not None
    child = int(await asyncio.to_thread(parent.stdout.readline))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await gone(child)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signals_of_the_parent_stop_its_children(number: signal.Signals) -> None:
    parent = start_parent(WATCHES_NOTHING)
    assert parent.stdout is not None
    child = int(await asyncio.to_thread(parent.stdout.readline))
    parent.send_signal(number)
    assert await asyncio.to_thread(parent.wait) == 0
    parent.stdout.close()
    await gone(child)


async def gone(pid: int) -> None:
    """Returns when the process has ended; it may stay a zombie until whoever adopted it looks."""
    async with asyncio.timeout(30):
        while Path(f"/proc/{pid}/stat").exists():
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
            await asyncio.sleep(0.01)


async def test_children_come_and_go_while_others_stay() -> None:
    watch = Watch()
    supervisor = watch.supervisor
    supervised = asyncio.create_task(supervisor.run((script(SERVICE, name="first"),)))
    await asyncio.sleep(0)
    for number in (1, 2):
        ready = asyncio.Event()
        watch.when(lambda n=number: watch.output.get("second", b"").count(b"ready") == n, ready.set)
        supervisor.add(script(SERVICE, name="second"))
        await ready.wait()
        await supervisor.remove("second")
    assert watch.kinds("second") == ["started", "stopped"] * 2
    assert watch.kinds("first") == ["started"]
    await supervisor.remove("nobody")
    supervisor.stop()
    assert list(await supervised) == ["first"]
    supervisor.add(script(SERVICE, name="late"))
    assert watch.kinds("late") == []


async def test_one_that_is_removed_is_not_started_again() -> None:
    watch = Watch(Pace(first_delay_s=1000.0, longest_delay_s=1000.0))
    crashed = asyncio.Event()
    watch.when(lambda: "crashed" in watch.kinds("second"), crashed.set)
    supervised = asyncio.create_task(watch.supervisor.run((script(SERVICE, name="first"),)))
    await asyncio.sleep(0)
    watch.supervisor.add(script("raise SystemExit(1)", name="second"))
    await crashed.wait()
    await watch.supervisor.remove("second")
    assert watch.kinds("second") == ["started", "crashed"]
    watch.supervisor.stop()
    await supervised
