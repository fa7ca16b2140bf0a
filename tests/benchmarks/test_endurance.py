"""What `benchmarks.endurance` sends, and what it says of what it finds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from msgspec import structs

from benchmarks import endurance, load, upstream
from benchmarks import gateway_plan as plan
from benchmarks.endurance import Row
from benchmarks.processes import BenchmarkError

ROW = Row(
    num_sent=100,
    seconds=2.0,
    resident_mib={"parent": 40.0, "API process": 110.0},
    together_mib=140.0,
    num_files=70,
    journal_kib=4096.0,
    database_mib=12.5,
    num_attempts=100,
    num_requests=100,
)
SPENT = 100 * (46 * 1000 + 501 * 2000)


@pytest.mark.parametrize("num_requests", [10, 8000, 8050, 100_000])
def test_turns_are_so_many_requests_each_with_a_number_of_its_own(num_requests: int) -> None:
    keys = [f"key {number}" for number in range(20)]
    loads = [*endurance.turns(num_requests, keys, 4711)]
    numbers = [number for each in loads for number in range(each.first_number, each.first_number + each.num_requests)]
    assert numbers == list(range(num_requests))
    assert all(0 < each.num_connections <= each.num_requests for each in loads)
    streamed = [each for each in loads if each.texts]
    assert bool(streamed) == (num_requests > 8000)
    assert all(json.loads(each.body)["stream"] for each in streamed)
    used = Counter(each.headers["Authorization"] for each in loads)
    assert max(used.values()) - min(used.values()) <= 1
    assert len(used) == min(20, len(loads))


async def test_no_two_requests_are_the_same() -> None:
    bodies: list[dict[str, str]] = []
    answer = upstream.response(upstream.JSON, plan.whole_answer())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                length = re.search(rb"Content-Length: (\d+)", await reader.readuntil(b"\r\n\r\n"))
                assert length is not None
                bodies.append(json.loads(await reader.readexactly(int(length[1]))))
                writer.write(answer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        (asked, *_) = endurance.turns(50, ["key"], server.sockets[0].getsockname()[1])
        asked = structs.replace(asked, first_number=7, num_connections=4)
        found = await load.run(asked)
    assert found.num == 50
    assert sorted(body["user"] for body in bodies) == [f"user-{number:012}" for number in range(7, 57)]
    for name in ("prompt_cache_key", "messages"):
        assert len({json.dumps(body[name]) for body in bodies}) == 50


def test_books_that_are_wrong_end_the_benchmark() -> None:
    endurance._check([ROW], SPENT)
    for wrong in ({"num_attempts": 99}, {"num_requests": 101}):
        with pytest.raises(BenchmarkError, match="the ledger has not what was asked for"):
            endurance._check([structs.replace(ROW, **wrong)], SPENT)
    with pytest.raises(BenchmarkError, match="the keys have spent"):
        endurance._check([ROW], SPENT + 1)


def test_the_report_has_a_row_for_each_part() -> None:
    later = structs.replace(
        ROW, num_sent=300, seconds=4.0, resident_mib={"parent": 40.0, "API process": 160.0}, together_mib=175.0
    )
    first, _, *table = endurance.report([ROW, later], "a machine")
    assert first == "a machine"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert rows[0][:3] == ["requests", "parent, MiB", "API process, MiB"]
    assert rows[2] == ["100", "40.0", "110.0", "140.0", "70", "4,096", "12", "100", "100", "–"]
    assert rows[3] == ["300", "40.0", "160.0", "175.0", "70", "4,096", "12", "100", "100", "100"]
    assert endurance.ratio([ROW, ROW, ROW, later]) == 140 / 175


@pytest.mark.full
def test_a_short_one_is_right_in_all(tmp_path: Path) -> None:
    rows = endurance.measure(500, tmp_path)
    assert len(rows) == 2
    assert set(rows[-1].resident_mib) == {"parent", "guard", "API process"}
