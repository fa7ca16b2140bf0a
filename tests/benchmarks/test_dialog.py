"""What `benchmarks.dialog` measures is what it says: answers full of calls, all of which are read."""

from __future__ import annotations

import pytest

from benchmarks import dialog
from hodios.dialog.formats.registry import FORMATS
from hodios.dialog.pieces import CallName, Content
from hodios.types import Tool


@pytest.mark.parametrize("name", FORMATS)
def test_half_of_the_answer_is_calls(name: str) -> None:
    parser = FORMATS[name].parser([Tool("write_file")], is_trusted=False)
    pieces = [*parser.push(dialog.answer(name)), *parser.finish()]
    num_calls = sum(isinstance(piece, CallName) for piece in pieces)
    content = "".join(piece.text for piece in pieces if isinstance(piece, Content))
    assert num_calls > 50
    assert content == dialog.prose().rstrip()
    assert 0.4 < len(content) / len(dialog.answer(name)) < 0.6


def test_it_prints_a_line_for_each_subject(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialog, "LENGTH", 2_000)
    assert dialog.main(["--rounds", "1"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("RESULT ")]
    assert [name for _, name, _ in lines] == [f"splitter-{name}" for name in dialog.subjects()]
    assert all(float(ratio) > 0 for _, _, ratio in lines)
