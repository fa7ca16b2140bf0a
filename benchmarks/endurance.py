"""Sends very many requests through the gateway with keys, budgets and the ledger on, no two of them the same, and
watches what grows: the memory and the open files of each process, the journal, the database, and the rows of the
ledger.

Each request has words, a `user` and a prompt cache key of its own: what is kept for each of them would show. The
upstream is that of `benchmarks.gateway`; one answer in some is streamed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs

from benchmarks import figures, upstream
from benchmarks import gateway_plan as plan
from benchmarks.gateway_peers import KEY, free_port, resident_mib, tree
from benchmarks.load import NUMBER, Load, Seen
from benchmarks.processes import BenchmarkError, Process
from benchmarks.resident import family_mib
from hodios.machine import cpu_model

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDER = REPOSITORY / ".cache" / "benchmarks" / "endurance"
DOCUMENT = REPOSITORY / "docs" / "benchmarks.md"
MODULE = "benchmarks.endurance"
SECTION = "Endurance"
NUM_KEYS = 20
NUM_PARTS = 10
_TURN = 2000
"""Requests of one load; one turn in five is streamed, with a twentieth of them: each has 502 chunks."""
_STREAMED_EVERY, _STREAMED_SHARE = 5, 20
_PRICES = {"prompt": 1.0, "completion": 2.0}
"""Dollars per million tokens, which are as many times 1,000 nano-dollars a token."""
_NANO_AN_ANSWER = 46 * 1000 + 501 * 2000
"""What the upstream counts of each of its answers, at those prices."""
_BUDGET = {"total": "1000000", "daily": "1000000", "monthly": "1000000"}
_MODULES = {b"hodios.api": "API process", b"hodios.guard.worker": "guard"}
_PATIENCE_S = 300.0


class Row(Struct, frozen=True):
    """After a part of all requests."""

    num_sent: int
    seconds: float
    resident_mib: dict[str, float]
    """By process."""
    together_mib: float
    """Of all processes, each page counted once."""
    num_files: int
    journal_kib: float
    database_mib: float
    """With what waits in its log of writes."""
    num_attempts: int
    """In the ledger."""
    num_requests: int
    """In the log."""


class Server:
    """`hodios serve` in front of the upstreams, with a home of its own that is empty at first."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path, ports: dict[bool, int]) -> None:
        self.home = folder / "home"
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.port = free_port()
        env = {name: value for name, value in os.environ.items() if not name.startswith("HODIOS_")}
        command = [str(Path(sys.executable).with_name("hodios")), "serve"]
        self._process = Process(command, folder / "hodios.log", env=env | self._settings(ports))
        stack.callback(self._process.close)
        self._wait_ready()

    def _settings(self, ports: dict[bool, int]) -> dict[str, str]:
        remotes = {
            name: {
                "base_url": f"http://127.0.0.1:{ports[is_streamed]}/v1",
                "models": [{"id": model, "context_length": 8192, "price": _PRICES}],
            }
            for name, (is_streamed, model) in {"whole": (False, plan.MODEL), "streamed": (True, STREAMED)}.items()
        }
        return {
            "HODIOS_HOME": str(self.home),
            "HODIOS_PORT": str(self.port),
            "HODIOS_ADMIN_KEY": KEY,
            "HODIOS_MODELS": "",
            "HODIOS_REMOTE": json.dumps(remotes),
        }

    def _wait_ready(self) -> None:
        deadline_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline_s:
            self._process.require_running()
            with contextlib.suppress(OSError):
                self.ask("/health")
                return
            time.sleep(0.2)
        raise BenchmarkError(f"Hodios does not come up: {self._process.last_words()}")

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise BenchmarkError(f"{path} is answered with {error.code}: {error.read()[:300]!r}") from None

    def new_keys(self) -> list[str]:
        """Their texts; all of them in one project, and all of them with budgets and limits that are looked at."""
        limits = {"requests_per_minute": 10**9, "tokens_per_minute": 10**9, "parallel_requests": 1000}
        project = self.ask("/admin/v1/projects", {"name": "endurance", "budget": _BUDGET, **limits})["id"]
        body = {"project": project, "budget": _BUDGET, **limits}
        return [str(self.ask("/admin/v1/keys", {"name": f"key {n}", **body})["key"]) for n in range(NUM_KEYS)]

    def spent_nano(self) -> int:
        """Of all keys together, as they are told by the admin API."""
        keys = self.ask("/admin/v1/keys")["data"]
        return sum(round(float(key["usage"]["total"]["spent"]) * 1e9) for key in keys)

    def wait_settled(self) -> None:
        """Until the store has everything."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline_s:
            accounts = self.ask("/health")["accounts"]
            if accounts["held"] == accounts["undrained"] == 0:
                return
            time.sleep(0.2)
        raise BenchmarkError(f"the store does not come to have everything: {accounts}")

    def row(self, num_sent: int, seconds: float) -> Row:
        pids = tree(self._process.pid)
        resident = {_name(pid): resident_mib(pid) for pid in pids}
        journal = sum(path.stat().st_size for path in (self.home / "journal").iterdir())
        database = sum(path.stat().st_size for path in self.home.glob("hodios.db*"))
        num_attempts, num_requests = self._counted()
        num_files = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
        return Row(
            num_sent=num_sent,
            seconds=seconds,
            resident_mib=resident,
            together_mib=family_mib(pids),
            num_files=num_files,
            journal_kib=journal / 1024,
            database_mib=database / 2**20,
            num_attempts=num_attempts,
            num_requests=num_requests,
        )

    def _counted(self) -> tuple[int, int]:
        with contextlib.closing(sqlite3.connect(f"file:{self.home / 'hodios.db'}?mode=ro", uri=True)) as database:
            (attempts,), (requests,) = (
                database.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("attempts", "requests")
            )
        return attempts, requests


STREAMED = f"{plan.MODEL}-streamed"


def _name(pid: int) -> str:
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return next((name for module, name in _MODULES.items() if module in arguments), "parent")


def body(*, is_streamed: bool) -> str:
    """Of a request in which the load writes another number each time."""
    request = json.loads(plan.body(is_streamed=is_streamed))
    request["messages"][1]["content"] = f"Hi there! I am number {NUMBER}."
    request |= {"user": f"user-{NUMBER}", "prompt_cache_key": f"key-{NUMBER}"}
    return json.dumps(request | ({"model": STREAMED} if is_streamed else {}))


def turns(num_requests: int, keys: list[str], port: int) -> Iterator[Load]:
    """Loads of so many requests in all, each with another key."""
    num_left, number = num_requests, 0
    while num_left:
        is_streamed = number % _STREAMED_EVERY == _STREAMED_EVERY - 1
        num = min(num_left, _TURN // _STREAMED_SHARE if is_streamed else _TURN)
        yield Load(
            body=body(is_streamed=is_streamed),
            num_connections=min(num, 8 if is_streamed else 32),
            num_requests=num,
            first_number=num_requests - num_left,
            texts=plan.texts() if is_streamed else [],
            port=port,
            headers={"Authorization": f"Bearer {keys[number % len(keys)]}"},
        )
        num_left -= num
        number += 1


def measure(num_requests: int, folder: Path = FOLDER) -> list[Row]:
    """A row before the first request, and one after each part. Raises BenchmarkError where the books are wrong."""
    with contextlib.ExitStack() as stack:
        ports = upstream.opened(stack, folder / "upstream", folder / "upstream.log")
        server = Server(stack, folder, ports)
        keys = server.new_keys()
        began_s, num_sent = time.monotonic(), 0
        rows = [server.row(0, 0.0)]
        for load in turns(num_requests, keys, server.port):
            num_sent += _sent(load)
            if num_sent * NUM_PARTS >= len(rows) * num_requests:
                server.wait_settled()
                rows.append(server.row(num_sent, time.monotonic() - began_s))
                print(_told(rows[-1]), file=sys.stderr, flush=True)
        _check(rows, server.spent_nano())
        return rows


def _sent(load: Load) -> int:
    command = [sys.executable, "-m", "benchmarks.load", msgspec.json.encode(load).decode()]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"the load ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return msgspec.json.decode(done.stdout, type=Seen).num


def _check(rows: list[Row], spent_nano: int) -> None:
    for row in rows:
        if not row.num_sent == row.num_attempts == row.num_requests:
            raise BenchmarkError(f"the ledger has not what was asked for: {structs.asdict(row)}")
    if spent_nano != rows[-1].num_sent * _NANO_AN_ANSWER:
        raise BenchmarkError(
            f"the keys have spent {spent_nano} nano-dollars for {rows[-1].num_sent} answers of {_NANO_AN_ANSWER}"
        )


def _told(row: Row) -> str:
    sizes = ", ".join(f"{name} {size:.1f} MiB" for name, size in row.resident_mib.items())
    return f"{row.num_sent:,} requests, {row.seconds:.0f} s: {sizes}, {row.num_attempts:,} rows in the ledger"


def report(rows: list[Row], system: str) -> list[str]:
    names = list(rows[0].resident_mib)
    head = [
        "requests",
        *(f"{name}, MiB" for name in names),
        "together, MiB",
        "open files",
        "journal, KiB",
        "database, MiB",
        "ledger",
        "log",
        "requests/s",
    ]
    table = [head]
    for before, row in zip([None, *rows], rows, strict=False):
        rate = (row.num_sent - before.num_sent) / (row.seconds - before.seconds) if before else None
        table.append(
            [
                f"{row.num_sent:,}",
                *(f"{row.resident_mib.get(name, 0):.1f}" for name in names),
                f"{row.together_mib:.1f}",
                str(row.num_files),
                f"{row.journal_kib:,.0f}",
                f"{row.database_mib:,.0f}",
                f"{row.num_attempts:,}",
                f"{row.num_requests:,}",
                f"{rate:,.0f}" if rate else "–",
            ]
        )
    return [system, "", *figures.markdown_table(table)]


def ratio(rows: list[Row]) -> float:
    """Resident memory after two parts ÷ after all of them: what is kept for a while is kept by then."""
    return rows[min(2, len(rows) - 1)].together_mib / rows[-1].together_mib


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000, help="how many in all (default: 1,000,000)")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name}")
    options = parser.parse_args(arguments)
    if options.requests < NUM_PARTS:
        parser.error(f"--requests must be at least {NUM_PARTS}")
    try:
        rows = measure(options.requests)
    except BenchmarkError as error:
        print(f"The benchmark stopped: {error}", file=sys.stderr)
        return 1
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    system = (
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu_model()}, {os.cpu_count()} CPUs; {rows[-1].seconds / 60:.0f} minutes; "
        f"load average at the end {load}."
    )
    lines = report(rows, system)
    print("\n".join(lines) + f"\n\nRESULT endurance-memory {ratio(rows):.3f}")
    if options.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(figures.replace_section(text, SECTION, lines, by=MODULE), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
