"""Holding one server: its log, its end, what it leaves behind, and when it is given up."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hodios.cli.children import children
from hodios.cli.serve import placed
from hodios.config import Config
from hodios.launches import LAUNCHED_AS, Launch
from hodios.providers.launch import ChildEvent, Pace, Supervisor

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *args):
        pass
print("begun", os.getpid(), flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def launch(source: str, *words: str, **more: object) -> Launch:
    command = ("{python}", "-S", "-E", "-c", source, *words)
    (there,) = placed([Launch(**({"name": "x", "command": command} | more))])  # type: ignore[arg-type]
    return there


class Run:
    """One launch under supervision; `react` is told of every event."""

    def __init__(self, home: Path, launch: Launch, react: Callable[[Run], None] = lambda run: None) -> None:
        self.home = home
        self.events: list[ChildEvent] = []
        self.output = b""
        self._react = react
        pace = Pace(first_delay_s=0.01, longest_delay_s=0.02)
        self.supervisor = Supervisor(on_event=self._event, on_output=self._output, pace=pace)
        with socket.socket() as listener:
            all = children(Config(home=home, launch=(launch,)), [], listener, self.supervisor.parent_fd)
        (self.keeper,) = (child for child in all if child.name == "launch/x")

    async def run(self) -> dict[str, ChildEvent]:
        return await self.supervisor.run((self.keeper,), handle_signals=False)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def log(self) -> str:
        path = self.home / "logs" / "x.log"
        return path.read_text() if path.exists() else ""

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - another process brings it about
                await asyncio.sleep(0.01)

    def _event(self, event: ChildEvent) -> None:
        self.events.append(event)
        self._react(self)

    def _output(self, child: object, data: bytes) -> None:
        self.output += data


def stop_after(num_crashes: int) -> Callable[[Run], None]:
    def react(run: Run) -> None:
        if run.kinds.count("crashed") >= num_crashes:
            run.supervisor.stop()

    return react


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


async def begun(run: Run) -> list[int]:
    """The processes that have told their numbers so far, at least one."""
    await run.until(lambda: "begun" in run.log() and run.log().endswith("\n"))
    return [int(line.split()[1]) for line in run.log().splitlines() if line.startswith("begun")]


async def test_a_server_runs_until_it_is_stopped(tmp_path: Path) -> None:
    run = Run(tmp_path, launch(SERVER, "{port}"))
    task = asyncio.create_task(run.run())
    (pid,) = await begun(run)
    run.supervisor.stop()
    await task
    assert run.kinds == ["started", "stopped"]
    assert not is_alive(pid)
    assert (tmp_path / "logs" / "x.log").stat().st_mode & 0o077 == 0


async def test_what_it_says_last_is_told_and_it_is_started_again(tmp_path: Path) -> None:
    run = Run(tmp_path, launch("print('begun', 1, flush=True); raise SystemExit('no memory')", "{port}"), stop_after(2))
    await run.run()
    assert run.kinds[:4] == ["started", "crashed", "started", "crashed"]
    assert "x: its command ended with code 1, saying: no memory (log: " in run.events[1].message
    assert run.log() == "begun 1\nno memory\n" * 2


async def test_what_a_server_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    source = (
        "import os, time\nreading, writing = os.pipe()\n"
        "if os.fork() == 0:\n  print('begun', os.getpid(), flush=True)\n  os.write(writing, b'!')\n"
        "  os.closerange(0, 3)\n  time.sleep(1000)\n"
        "os.read(reading, 1)"
    )
    run = Run(tmp_path, launch(source, "{port}"), stop_after(1))
    await run.run()
    pids = await begun(run)
    await run.until(lambda: not any(map(is_alive, pids)))


async def test_a_deaf_server_is_killed_with_its_children(tmp_path: Path) -> None:
    source = (
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.fork()\n"
        "print('begun', os.getpid(), flush=True)\ntime.sleep(1000)"
    )
    run = Run(tmp_path, launch(source, "{port}", stop_timeout_s=0.1))
    task = asyncio.create_task(run.run())
    await run.until(lambda: run.log().count("begun") == 2 and run.log().endswith("\n"))
    run.supervisor.stop()
    await task
    assert run.events[-1].kind == "stopped"
    pids = await begun(run)
    await run.until(lambda: not any(map(is_alive, pids)))


async def test_a_server_ends_when_its_keeper_is_killed(tmp_path: Path) -> None:
    run = Run(tmp_path, launch(SERVER, "{port}"), stop_after(1))
    task = asyncio.create_task(run.run())
    (pid,) = await begun(run)
    os.kill(run.events[0].pid, signal.SIGKILL)
    await task
    await run.until(lambda: not is_alive(pid))


async def test_a_server_ends_when_the_parent_is_gone(tmp_path: Path) -> None:
    """What the parent holds is a pipe; its end is what the keeper sees."""
    run = Run(tmp_path, launch(SERVER, "{port}"))
    read_fd, write_fd = os.pipe()
    argv = (*run.keeper.argv[:-1], str(read_fd))
    keeper = await asyncio.create_subprocess_exec(
        *argv, env=run.keeper.env, pass_fds=(read_fd,), start_new_session=True
    )
    os.close(read_fd)
    (pid,) = await begun(run)
    os.close(write_fd)
    assert await keeper.wait() == -signal.SIGKILL
    assert not is_alive(pid)
    for fd in (run.supervisor.parent_fd, run.supervisor._write_fd):
        os.close(fd)


async def test_one_that_does_not_become_ready_is_started_again(tmp_path: Path) -> None:
    source = "import time; print('begun', 1, flush=True); time.sleep(1000)"
    run = Run(tmp_path, launch(source, "{port}", start_timeout_s=0.3), stop_after(2))
    await run.run()
    assert "x: it was not ready within 0.3 s" in run.events[1].message


@pytest.mark.full
async def test_one_that_is_ready_has_all_the_time_there_is(tmp_path: Path) -> None:
    """Its next restart comes when it dies, and the time it may take to start has long gone by then."""
    run = Run(tmp_path, launch(SERVER, "{port}", start_timeout_s=3.0), stop_after(1))
    task = asyncio.create_task(run.run())
    (pid,) = await begun(run)
    await asyncio.sleep(3.2)
    os.kill(pid, signal.SIGKILL)
    await task
    assert "ended with code -9" in run.events[1].message


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"command": ("no-such-program", "{port}")}, "x cannot be started: no-such-program: No such file"),
        ({"command": ("{python}", "{port}"), "cwd": "/nowhere"}, "x cannot be started: /nowhere: No such file"),
        (
            {"command": ("{python}", "-c", "import sys; sys.exit('pip install it' and 78)", "{port}")},
            "ended with code 78",
        ),
    ],
)
async def test_one_that_cannot_be_started_is_not_tried_again(
    more: dict[str, object], told: str, tmp_path: Path
) -> None:
    run = Run(tmp_path, launch("", **more))
    await run.run()
    assert run.kinds[-1] == "refused"
    assert told in run.events[-1].message


async def test_a_port_that_others_have_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = Run(tmp_path, launch(SERVER, "{port}", port=port), stop_after(1))
        await run.run()
    assert f"another program has port {port}" in run.events[1].message


async def test_the_server_gets_its_own_variables_and_no_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HODIOS_LOG_LEVEL", "info")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    source = "import os; print(sorted((k, v) for k, v in os.environ.items() if k in %r or k.startswith('HODIOS')))"
    wanted = ["OPENAI_API_KEY", "HF_TOKEN", "MINE", LAUNCHED_AS]
    more = {"env": {"MINE": "at {port}"}, "pass_env": ("HF_TOKEN",), "cwd": str(tmp_path), "port": 7}
    run = Run(tmp_path, launch(source % wanted, **more), stop_after(1))
    await run.run()
    assert run.log() == "[('HF_TOKEN', 'hf_mine'), ('LAUNCHED_BY_HODIOS_AS', 'x'), ('MINE', 'at 7')]\n"
    assert "at 7" not in str(run.keeper.argv)


def test_engines_and_the_api_do_not_get_what_is_not_theirs(tmp_path: Path) -> None:
    config = Config(home=tmp_path, launch=(launch("", "{port}", env={"PASSWORD": "secret"}),))
    with socket.socket() as listener:
        *_, api = children(config, [], listener, 5)
    assert api.name == "api"
    assert api.env is not None
    assert sys.executable in api.env["HODIOS_LAUNCH"]
