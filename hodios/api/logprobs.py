"""Token log-probabilities in the two public shapes: chat's list of objects, and the parallel lists of completions."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from hodios.events import Text, TokenLogprob

IMPOSSIBLE = -9999.0
"""Stands for minus infinity, which JSON cannot say."""


def chat_logprobs(tokens: Sequence[TokenLogprob], *, as_ids: bool) -> list[dict[str, Any]]:
    """One entry per token; `as_ids` writes tokens as `token_id:N`, as far as their ids are known."""
    return [
        {
            **_entry(token.token_id, token.text, token.raw, token.logprob, as_ids),
            "top_logprobs": [_entry(*alternative, as_ids) for alternative in token.top],
        }
        for token in tokens
    ]


def _entry(token_id: int, text: str, raw: bytes, logprob: float | None, as_ids: bool) -> dict[str, Any]:
    return {
        "token": f"token_id:{token_id}" if as_ids and token_id >= 0 else text,
        "logprob": _finite(logprob),
        "bytes": list(raw),
    }


def _finite(logprob: float | None) -> float | None:
    return None if logprob is None else max(logprob, IMPOSSIBLE)


def _name(token_id: int, text: str, raw: bytes, as_ids: bool) -> str:
    """The token as a string; one that is only part of a character as `bytes:\\xe2\\x82`, to tell it from others."""
    if as_ids and token_id >= 0:
        return f"token_id:{token_id}"
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw) if "�" in text and raw != text.encode() else text


class TextLogprobs:
    """The `logprobs` objects of one choice of a completion, piece by piece; offsets count characters of its `text`."""

    def __init__(self, *, as_ids: bool) -> None:
        self._as_ids = as_ids
        self._num_characters = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def piece(self, event: Text) -> dict[str, list[Any]]:
        """For the tokens of one event. A prompt's first token has null for both probabilities."""
        piece: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token in event.logprobs:
            piece["tokens"].append(_name(token.token_id, token.text, token.raw, self._as_ids))
            piece["token_logprobs"].append(_finite(token.logprob))
            piece["top_logprobs"].append(self._top(token))
            piece["text_offset"].append(self._num_characters)
            self._num_characters += len(self._decoder.decode(token.raw))
        if event.is_echo:
            self._num_characters = len(event.text)
            self._decoder.reset()
        return piece

    def _top(self, token: TokenLogprob) -> dict[str, float] | None:
        """By token; where two tokens read the same, the likelier one counts."""
        if token.logprob is None:
            return None
        alternatives = token.top or ((token.token_id, token.text, token.raw, token.logprob),)
        top: dict[str, float] = {}
        for token_id, text, raw, logprob in alternatives:
            top.setdefault(_name(token_id, text, raw, self._as_ids), max(logprob, IMPOSSIBLE))
        return top
