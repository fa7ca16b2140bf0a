"""What is stored of an exchange whose key's policy says so: the request's body, and the answer in one piece.

Both are cut at MOST_BYTES. Of other keys nothing is ever held here, and nothing of it is logged.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hodios.accounts.accounts import LONGEST_USER
from hodios.api.answers import Tally, Whole
from hodios.api.sse import Chunks
from hodios.api.wire import Call
from hodios.events import Event, Reasoning, Text, ToolCall
from hodios.store.records import LoggedRequest, StoredContent

MOST_BYTES = 128 * 1024
"""Of a request, and of an answer."""
_PER_LOGPROB = 64
_encode = msgspec.json.encode


class Content:
    """Of one exchange. `body`: as the client sent it."""

    def __init__(self, body: bytes) -> None:
        self._request = body[:MOST_BYTES]
        self._is_request_cut = len(body) > MOST_BYTES
        self._answer: bytes | None = None
        self._whole: Whole | None = None
        self._error: dict[str, Any] | None = None
        self._num_bytes = 0
        self._is_answer_cut = False

    def answered(self, body: bytes) -> None:
        """In one piece."""
        self._answer = body[:MOST_BYTES]
        self._is_answer_cut = len(body) > MOST_BYTES

    def failed(self, error: dict[str, Any]) -> None:
        """In the middle of a stream."""
        self._error = error

    def begin(self, whole: Whole) -> None:
        """The answer is streamed: `whole` is what its events come to."""
        self._whole = whole

    def add(self, event: Event) -> None:
        """The next one of a stream. Of a long answer no more than its beginning is held."""
        assert self._whole is not None
        size = _size(event)
        if size and self._num_bytes >= MOST_BYTES:
            self._is_answer_cut = True
            return
        self._num_bytes += size
        self._whole.add(event)

    def stored(self, logged: LoggedRequest) -> StoredContent:
        """At the end, with the entry of the log that it belongs to."""
        if self._answer is None and self._whole is not None:
            fields = self._whole.fields()
            body = _encode(fields if self._error is None else {**fields, "error": self._error})
            self._answer = body[:MOST_BYTES]
            self._is_answer_cut |= len(body) > MOST_BYTES
        return StoredContent(
            request_id=logged.request_id,
            key_id=logged.key_id,
            project_id=logged.project_id,
            user=logged.user and logged.user[:LONGEST_USER],
            request=self._request,
            answer=self._answer or b"",
            is_request_cut=self._is_request_cut,
            is_answer_cut=self._is_answer_cut,
            at_s=logged.at_s,
        )


class StoredChunks(Chunks):
    """As they are, and what they come to is stored."""

    def __init__(self, call: Call, tally: Tally, created: int, content: Content) -> None:
        super().__init__(call, tally, created)
        self._content = content
        content.begin(Whole(call, tally, created))

    def encode(self, event: Event) -> bytes:
        data = super().encode(event)
        self._content.add(event)
        return data


def content_fields(content: StoredContent | None) -> dict[str, Any] | None:
    """As clients are shown it: JSON as it came, and the beginning as text where it is not whole."""
    if content is None:
        return None
    cut = {"request": content.is_request_cut, "answer": content.is_answer_cut}
    return {
        "request": _shown(content.request),
        "answer": _shown(content.answer),
        "truncated": [name for name, is_cut in cut.items() if is_cut],
    }


def _shown(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return body.decode(errors="ignore") or None


def _size(event: Event) -> int:
    """Of what adds to an answer, about."""
    match event:
        case Text():
            num_logprobs = sum(1 + len(logprob.top) for logprob in event.logprobs)
            return len(event.text) + _PER_LOGPROB * num_logprobs
        case Reasoning():
            return len(event.text)
        case ToolCall():
            return len(event.name) + len(event.arguments)
    return 0
