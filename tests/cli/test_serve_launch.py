"""`hodios serve` whole, with a server that it starts itself: asked, killed, and left with nothing of it behind."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from launched_server import ANSWER, BEGINNING, MODEL, WAIT
from live_server import LiveServer, start, stream_events, until

PROGRAM = Path(__file__).with_name("launched_server.py")
SETTINGS = f"""
[[launch]]
name = "mine"
kind = "vllm"
command = ["{{python}}", "-S", "-E", "{PROGRAM}", "{{port}}"]
stop_timeout_s = 0.1
"""
BEGUN = re.compile(r"^begun (\d+) (\d+)$", re.MULTILINE)


class Served:
    """One `hodios serve` with its launched server."""

    def __init__(self, home: Path) -> None:
        (home / "hodios.toml").write_text(SETTINGS)
        self.log = home / "logs" / "mine.log"
        self.hodios: LiveServer = start(home, home / "log.txt", HODIOS_MODELS="")

    def runs(self) -> list[tuple[int, int]]:
        """The process ids of every run of the server so far, and of what it started."""
        return [(int(own), int(beside)) for own, beside in BEGUN.findall(self.log.read_text())]

    def chat(self, text: str, **more: Any) -> Any:
        """The open answer. Raises urllib.error.HTTPError."""
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}
        headers = {**self.hodios.headers, "Content-Type": "application/json"}
        url = f"{self.hodios.url}/v1/chat/completions"
        return urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers))

    def refused(self) -> tuple[int, Message] | None:
        """Status and headers; None where it answers, and rightly."""
        try:
            with self.chat("Hi") as response:
                assert json.load(response)["choices"][0]["message"]["content"] == ANSWER
                return None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers

    def kill_server(self) -> None:
        """Returns when it answers again. Until then, whoever asks is told when to come back."""
        num_runs = len(self.runs())
        own, beside = self.runs()[-1]
        os.kill(own, signal.SIGKILL)
        refusals: list[tuple[int, Message]] = []

        def is_back() -> bool:
            if refused := self.refused():
                refusals.append(refused)
            return not refused and len(self.runs()) > num_runs

        until(is_back, self.hodios.told)
        assert refusals
        assert all(status == 503 and int(headers["Retry-After"]) > 0 for status, headers in refusals)
        assert len(self.runs()) == num_runs + 1
        assert is_gone(beside)

    def everyone(self) -> list[int]:
        """All processes but Hodios' own."""
        found, new = [], [self.hodios.process.pid]
        while new:
            new = [child for pid in new for child in children_of(pid)]
            found += new
        return found


def children_of(pid: int) -> list[int]:
    return [int(pid) for path in Path(f"/proc/{pid}/task").glob("*/children") for pid in path.read_text().split()]


def is_gone(pid: int) -> bool:
    """Or has ended, and nobody has asked how."""
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


@pytest.fixture
def served(hodios_home: Path) -> Iterator[Served]:
    served = Served(hodios_home)
    yield served
    served.hodios.process.kill()
    served.hodios.process.wait()


def test_it_answers_comes_back_and_leaves_nothing_behind(served: Served) -> None:
    """In one test, because each start takes seconds."""
    with served.chat("Hello?") as response:
        answer = json.load(response)
    assert (answer["provider"], answer["model"]) == ("mine", MODEL)
    assert answer["choices"][0]["message"]["content"] == ANSWER
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (9, 6)
    assert served.hodios.get(f"/v1/models/{MODEL}")[1]["context_length"] == 512

    served.kill_server()
    with served.chat(WAIT, stream=True) as response:
        told = b""
        while BEGINNING.encode() not in told:
            told += response.readline()
        # Breaks off in the middle of an answer that nobody else can go on with.
        served.kill_server()
        told += response.read()
    *_, last = stream_events(told.decode())
    assert last["error"]["code"] == "provider_error"
    assert [choice["finish_reason"] for choice in last["choices"]] == ["error"]

    said = served.hodios.log.read_text()
    pauses = re.findall(r"launch/mine ended unexpectedly; starting it again in (\S+) s", said)
    # Longer the second time, unless it has lived for a minute before.
    assert pauses in (["0.5", "1"], ["0.5", "0.5"])
    assert said.count("its command ended with code -9") == 2
    (health,) = served.hodios.get("/health")[1]["models"]
    assert (health["state"], health["restarts"]) == ("ready", 2)
    log = served.log.read_text()
    assert log.count("begun ") == 3
    assert 'asked "Hello?"' in log

    running = served.everyone()
    assert set(served.runs()[-1]) <= set(running)
    assert served.hodios.stop() == 0
    assert all(is_gone(pid) for pid in running)


def test_nothing_is_left_of_a_hodios_that_is_killed(served: Served) -> None:
    running = served.everyone()
    assert set(served.runs()[-1]) <= set(running)
    served.hodios.process.kill()
    until(lambda: all(is_gone(pid) for pid in running), lambda: f"left: {[pid for pid in running if not is_gone(pid)]}")
