"""Fenced code, found in answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.guard.code_blocks import MOST_BLOCKS, MOST_CHARACTERS, Block, blocks_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no code", []),
        ("a `span` and eval(x)", []),
        ("```python\neval(x)\n```", [Block("python", "eval(x)\n")]),
        ("so:\n\n~~~JS\nf()\n~~~\nand\n```c++\ng();\n```\n", [Block("javascript", "f()\n"), Block("cpp", "g();\n")]),
        ("  ```py title=x\n  a\n  ```", [Block("python", "  a\n")]),
        ("````python\n```\nx\n```\n````", [Block("python", "```\nx\n```\n")]),
        ("```python\nunfinished(", [Block("python", "unfinished(")]),
        ("```brainfuck\n+++\n```", []),
        ("```text\neval(x)\n```", []),
        ("```\nimport os\nos.system(x)\n```", [Block("python", "import os\nos.system(x)\n")]),
        ("```\n#include <stdio.h>\ngets(b);\n```", [Block("c", "#include <stdio.h>\ngets(b);\n")]),
        ("```\n#include <iostream>\n```", [Block("cpp", "#include <iostream>\n")]),
        ("```\nconst a = 1;\n```", [Block("javascript", "const a = 1;\n")]),
        ("```\nplain words\n```", []),
        ("```python\n\n```", []),
        ("> ```python\n> x = 1\n> ```", [Block("python", "> x = 1\n")]),
    ],
)
def test_blocks(text: str, expected: list[Block]) -> None:
    assert blocks_of(text) == expected


def test_no_more_than_can_be_scanned() -> None:
    assert len(blocks_of("```python\nx\n```\n" * 40)) == MOST_BLOCKS
    assert len(blocks_of("```python\n" + "x" * 100_000)[0].code) == MOST_CHARACTERS


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="`~", exclude_categories=["Cs"]), min_size=1)))
def test_every_block_that_was_written_is_found(codes: list[str]) -> None:
    text = "".join(f"words\n```python\n{code}\n```\n" for code in codes)
    assert [block.code for block in blocks_of(text)] == [f"{code}\n" for code in codes if code.strip()][:MOST_BLOCKS]


@given(st.text(alphabet="`~ \npyx>", max_size=60))
def test_no_text_is_too_strange(text: str) -> None:
    assert all(block.code.strip() in text for block in blocks_of(text))
