"""A program: reads a grammar in llguidance's form and tries it out, in a process that may die of it.

Intersections of regular expressions can take exponential time in a place where llguidance counts nothing. Whoever
compiles an untrusted one runs this first, under a limit of CPU seconds; success says that compiling comes to an end,
not that the grammar is valid.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import Any

import llguidance

_CPU_SECONDS = 1
_CPU_SECONDS_OF_PARTS = 2
_BYTES = 4 << 30
_PATIENCE_S = 20.0
"""A busy machine may take that long to grant a second."""


def parser_limits(num_parts: int) -> Any:
    """What a grammar may cost; tighter than the defaults, which let one step take seconds. One with many parts, such
    as the schemas of tools, may take longer to compile: a hundred of 2 kB take a third of a second."""
    return llguidance.LLParserLimits(
        initial_lexer_fuel=min(200_000 + 20_000 * num_parts, 1_000_000),
        step_lexer_fuel=50_000,
        step_max_items=20_000,
        max_lexer_states=20_000,
        max_grammar_size=100_000,
        verbose_errors=False,
    )


def ends_in_time(grammar: str, num_parts: int) -> bool:
    """Whether `grammar` (llguidance's form) compiles within a second or two, one way or the other. Takes a tenth
    itself."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", __file__, str(num_parts)],
            input=grammar.encode(),
            capture_output=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


class _Bytes:
    """The least tokenizer that llguidance accepts: one token per byte, and an end token."""

    eos_token_id = 256
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>")
    special_token_ids = (256,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def main() -> None:
    num_parts = int(sys.argv[1])
    seconds = _CPU_SECONDS_OF_PARTS if num_parts else _CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Bytes()))
    grammar = sys.stdin.buffer.read().decode()
    state = llguidance.LLMatcher(tokenizer, grammar, log_level=0, limits=parser_limits(num_parts))
    if not state.is_error():
        state.compute_bitmask()


if __name__ == "__main__":
    main()
