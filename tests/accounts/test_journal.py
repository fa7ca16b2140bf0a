from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hodios.accounts.journal import Handle, Journal
from hodios.accounts.journal_format import (
    MOST_SLOTS,
    SLOT_BYTES,
    TEXT_AT,
    Contents,
    Entry,
    Phase,
    read_segment,
)
from hodios.errors import Overloaded, SetupError

LARGEST = MOST_SLOTS * SLOT_BYTES - TEXT_AT


def contents(home: Path) -> tuple[dict[bytes, Entry], int]:
    found: list[Contents] = [read_segment(path.read_bytes()) for path in (home / "journal").glob("*.segment")]
    entries = [entry for segment in found for entry in segment.entries]
    by_text = {entry.text: entry for entry in entries}
    assert len(by_text) == len(entries)
    return by_text, sum(segment.num_torn for segment in found)


class JournalMachine(RuleBasedStateMachine):
    """Whoever reads the files finds at any time what was written, and nothing else."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        # Hypothesis runs many machines in one test: each has a folder of its own.
        self.home = Path(TMP[0]) / f"{random.Random(seed).getrandbits(128):x}-{len(list(TMP[0].iterdir()))}"
        self.journal = Journal(self.home, num_slots=70, most_segments=4)
        self.held: dict[bytes, Handle] = {}
        self.number = 0

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close(is_done=True)
            assert list((self.home / "journal").iterdir()) == []

    @rule(size=st.sampled_from([0, 1, 895, 896, 897, 5000, LARGEST - 8]), is_log=st.booleans())
    def write(self, size: int, is_log: bool) -> None:
        self.number += 1
        text = b"%8d" % self.number + bytes(size % 251 for _ in range(size))
        try:
            handle = self.journal.log(text) if is_log else self.journal.hold(text, 7, 1.5)
        except Overloaded:
            assert len(list((self.home / "journal").glob("*.segment"))) == 4
        else:
            self.held[text] = handle

    @rule(which=st.integers(0, 99), num=st.integers(0, 2**40))
    def progress(self, which: int, num: int) -> None:
        if self.held:
            self.journal.progress(list(self.held.values())[which % len(self.held)], num, 3, 4)

    @rule(which=st.integers(0, 99), cost=st.one_of(st.none(), st.integers(0, 2**60)))
    def settle(self, which: int, cost: int | None) -> None:
        if self.held:
            self.journal.settle(list(self.held.values())[which % len(self.held)], "broke_off", cost, True, 9.25)

    @rule(which=st.integers(0, 99))
    def free(self, which: int) -> None:
        if self.held:
            self.journal.free(self.held.pop(list(self.held)[which % len(self.held)]))

    @invariant()
    def the_files_say_it(self) -> None:
        if not hasattr(self, "journal"):
            return
        found, num_torn = contents(self.home)
        assert num_torn == 0
        assert {text: entry.state for text, entry in found.items()} == {
            text: handle.state for text, handle in self.held.items()
        }


TMP: list[Path] = []


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    TMP[:] = [tmp_path]


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=25, stateful_step_count=25)


def test_of_a_state_that_was_cut_short_the_one_before_is_left(tmp_path: Path) -> None:
    journal = Journal(tmp_path, num_slots=4)
    handle = journal.hold(b"text", 1, 1.0)
    path = next((tmp_path / "journal").glob("*.segment"))
    before, state = path.read_bytes(), copy.copy(handle.state)
    journal.progress(handle, 100, 50, 25)
    after = path.read_bytes()
    changed = [at for at in range(len(before)) if before[at] != after[at]]
    assert len(changed) > 20
    for num in range(len(changed) + 1):
        torn = bytearray(before)
        for at in changed[:num]:
            torn[at] = after[at]
        entry = read_segment(bytes(torn)).entries[0]
        assert entry.state == (handle.state if num == len(changed) else state)
    journal.close(is_done=True)


@given(st.lists(st.tuples(st.integers(0, 5 * SLOT_BYTES - 1), st.integers(0, 255)), max_size=30))
def test_damage_is_never_taken_for_an_entry(damage: list[tuple[int, int]]) -> None:
    home = TMP[0] / f"{len(list(TMP[0].iterdir()))}"
    journal = Journal(home, num_slots=4)
    texts = [b"first", b"x" * 1500]
    for text in texts:
        journal.hold(text, 1, 1.0)
    data = bytearray(next((home / "journal").glob("*.segment")).read_bytes())
    journal.close(is_done=False)
    for at, value in damage:
        data[at] = value
    try:
        found = read_segment(bytes(data))
    except ValueError:
        return
    assert {entry.text for entry in found.entries} <= set(texts)
    assert len(found.entries) + found.num_torn >= 1


def test_what_was_never_begun_is_empty_and_what_is_something_else_is_refused() -> None:
    assert read_segment(b"") == read_segment(bytes(4096)) == Contents((), 0)
    with pytest.raises(ValueError, match="not a segment"):
        read_segment(b"something else")


def test_more_than_an_entry_can_hold_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path, num_slots=MOST_SLOTS)
    journal.free(journal.log(bytes(LARGEST)))
    with pytest.raises(ValueError, match="at most"):
        journal.log(bytes(LARGEST + 1))
    journal.close(is_done=True)


def test_a_full_journal_refuses_and_takes_again_what_fits(tmp_path: Path) -> None:
    journal = Journal(tmp_path, num_slots=4, most_segments=2)
    handles = [journal.log(b"%d" % at) for at in range(8)]
    with pytest.raises(Overloaded):
        journal.log(b"too many")
    journal.free(handles[3])
    journal.log(b"again")
    assert journal.num_bytes == 8 * SLOT_BYTES
    journal.close(is_done=True)


async def test_there_is_always_a_segment_to_spare_and_no_more(tmp_path: Path) -> None:
    journal = Journal(tmp_path, num_slots=8)
    handles = []
    for at in range(40):
        handles.append(journal.log(b"%d" % at))
        assert await journal.commit()
    assert len(list((tmp_path / "journal").glob("*.segment"))) == 6
    for handle in handles:
        journal.free(handle)
    assert len(list((tmp_path / "journal").glob("*.segment"))) == 2
    assert await journal.commit()
    journal.close(is_done=True)


def test_a_folder_that_cannot_be_written_is_an_error_of_the_operator(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("in the way")
    with pytest.raises(SetupError, match="cannot be kept"):
        Journal(tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_whoever_is_killed_has_lost_nothing(tmp_path: Path, seed: int) -> None:
    program = Path(__file__).with_name("journal_writer.py")
    writer = subprocess.Popen([sys.executable, program, tmp_path, str(seed)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    told = [json.loads(writer.stdout.readline()) for _ in range(random.Random(seed).randrange(50, 3000))]
    writer.kill()
    told += [json.loads(line) for line in writer.stdout if line.endswith("\n")]
    writer.wait()
    writer.stdout.close()
    certain: dict[str, tuple[Phase, int]] = {}
    possible = certain
    for line in told[1:]:
        if line[0] == "begin":
            certain, possible = possible, dict(possible)
            _, what, text, number = line
            if what == "free":
                del possible[text]
            else:
                phase = Phase.SETTLED if what == "settle" else Phase.HELD
                possible[text] = (phase, possible.get(text, (phase, 0))[1] if what == "settle" else number)
        else:
            certain = possible
    found, num_torn = contents(tmp_path)
    assert num_torn == 0
    assert {text.decode(): (one.state.phase, one.state.completion_tokens) for text, one in found.items()} in (
        certain,
        possible,
    )
