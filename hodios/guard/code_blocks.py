"""The code in an answer: its fenced blocks, each with the language that its fence or its text says. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

MOST_BLOCKS = 16
MOST_CHARACTERS = 65_536
"""Of one block; what comes after is not looked at."""
FENCES = ("```", "~~~")
_FENCE = re.compile(r"^[ \t>]*(`{3,}|~{3,})[ \t]*([^\s`{]*)[^\n`]*$", re.MULTILINE)
_LANGUAGES: Mapping[str, str] = {
    **dict.fromkeys(("python", "py", "python3", "ipython"), "python"),
    **dict.fromkeys(("javascript", "js", "jsx", "mjs", "node", "typescript", "ts", "tsx"), "javascript"),
    "c": "c",
    **dict.fromkeys(("cpp", "c++", "cc", "cxx", "hpp"), "cpp"),
    **dict.fromkeys(("csharp", "cs", "c#"), "csharp"),
    "java": "java",
    **dict.fromkeys(("kotlin", "kt"), "kotlin"),
    **dict.fromkeys(("objective-c", "objectivec", "objc"), "objective_c"),
    "php": "php",
    **dict.fromkeys(("ruby", "rb"), "ruby"),
    **dict.fromkeys(("rust", "rs"), "rust"),
    "swift": "swift",
    "xml": "xml",
}
"""What fences say → CodeShield's names."""
_SIGNS = (
    (r"#include\s*<(?:iostream|string|vector|memory)>|\bstd::", "cpp"),
    (r"#include\s*[<\"]", "c"),
    (r"<\?php", "php"),
    (r"^\s*(?:public|private)\s+(?:static\s+)?(?:class|void|String|int)\b", "java"),
    (r"^\s*(?:fn \w+|let mut |use std::)", "rust"),
    (r"^\s*(?:const|let|var)\s+\w+\s*=|\bconsole\.log\(|^\s*function\s+\w+\(|=>\s*{", "javascript"),
    (r"^\s*(?:def \w+\(|import \w+|from [\w.]+ import |class \w+.*:$|print\()", "python"),
)
"""What code in a fence that says nothing looks like, the most telling first."""


class Block(NamedTuple):
    language: str
    code: str


def blocks_of(text: str) -> list[Block]:
    """The first `MOST_BLOCKS` whose language CodeShield knows; a last fence that nothing closes counts too."""
    found: list[Block] = []
    for label, code in _fenced(text):
        language = _LANGUAGES.get(label.lower()) if label else _guessed(code)
        if language is not None and code.strip():
            found.append(Block(language, code[:MOST_CHARACTERS]))
        if len(found) == MOST_BLOCKS:
            break
    return found


def _fenced(text: str) -> Iterator[tuple[str, str]]:
    """(what stands after the fence, code)"""
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence[1].startswith(opened[1]) and not fence[2]:
            yield opened[2], text[opened.end() + 1 : fence.start()]
            opened = None
    if opened is not None:
        yield opened[2], text[opened.end() + 1 :]


def _guessed(code: str) -> str | None:
    return next((language for sign, language in _SIGNS if re.search(sign, code[:4096], re.MULTILINE)), None)
