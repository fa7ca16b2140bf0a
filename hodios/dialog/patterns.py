"""Regular expressions of clients against texts of models, in time that grows with the text alone.

Python's own engine may need years for a malicious expression, and nothing else runs meanwhile. What llguidance cannot
read (look-around, back-references) is refused, as it is where it constrains generation.
"""

from __future__ import annotations

import functools
import json
from typing import Any

from hodios.errors import InvalidRequest

_MOST_CHARACTERS = 32_768


class Pattern:
    """One expression, ready to be held against texts."""

    def __init__(self, source: str, *, is_search: bool = False) -> None:
        """The whole text must match; or, as with JSON Schema's `pattern`, with `is_search` any part of it.

        Raises InvalidRequest for an expression that cannot be read.
        """
        self._is_search = is_search
        if len(source) > _MOST_CHARACTERS:
            raise _refusal(f"it has {len(source)} characters, the most are {_MOST_CHARACTERS}")
        # Imported here because few requests have such expressions, and the library is large.
        import llguidance

        matcher = llguidance.LLMatcher
        try:
            if is_search:
                grammar = matcher.grammar_from_json_schema(json.dumps({"type": "string", "pattern": source}))
            else:
                grammar = matcher.grammar_from_regex(source)
        except ValueError as error:
            raise _refusal(str(error)) from error
        self._start: Any = matcher(_bytes_as_tokens(), grammar, log_level=0)
        if self._start.is_error():
            raise _refusal(self._start.get_error())

    def matches(self, text: str) -> bool:
        state = self._start.deep_copy()
        written = json.dumps(text, ensure_ascii=False) if self._is_search else text
        tokens = list(written.encode("utf-8", "replace"))
        return bool(state.try_consume_tokens(tokens) == len(tokens) and state.is_accepting())


@functools.cache
def _bytes_as_tokens() -> Any:
    import llguidance

    return llguidance.LLTokenizer("byte")


def _refusal(reason: str) -> InvalidRequest:
    told = " ".join(reason.replace("<non-verbose/>", "").split())[:300]
    return InvalidRequest(f"The regular expression cannot be honoured: {told}", param="response_format")
