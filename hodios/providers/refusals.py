"""What other servers say when they will not or cannot answer, as errors of ours. Removes what may be a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from hodios.errors import ContextLengthExceeded, HodiosError, InvalidRequest, Overloaded, ProviderError

_MOST_SHOWN = 1000
_MOST_WAIT_S = 3600
_WAIT_S = 1
"""Where a server that has no room does not say how long to wait."""
_LEAST_ALIKE = 8
"""Characters in a row that a word may not share with the key."""
_CLIENTS_FAULT = (400, 413, 422)
_SECRETS = re.compile(
    r"(?i)\b(?:bearer|basic)\s+\S+|\b(?:api[_-]?key|token|secret|password|key)\s*[=:]\s*\S+"
    r"|\b(?:sk|pk|rk|hf|gsk|xai|key|api|token)[-_][A-Za-z0-9*_\-.]{6,}"
)
_TOO_LONG = re.compile(
    r"(?i)context.{0,20}(?:length|window|size)|maximum.{0,20}tokens|too many tokens|prompt is too long"
)
_OPERATORS_FAULT = re.compile(r"(?i)api.?key|credential|billing|quota|unauthori[sz]ed")


class Judge:
    """Makes errors of one server's refusals. `key` is never shown, nor any part of it."""

    def __init__(self, provider: str, key: str | None) -> None:
        self._provider = provider
        self._key = key or ""

    def refusal(self, status: int, body: bytes, *, retry_after: str | None, now: datetime) -> HodiosError:
        """For an answer of another status than 200. `now` is aware of its time zone."""
        told = _fields(body)
        return self._error(status, told, wait_s(retry_after, now))

    def told_midway(self, error: object) -> HodiosError:
        """For an error that came as an event of the stream, or in the body of a 200."""
        told = _error_fields(error)
        code = told.get("code") if told.get("code") is not None else told.get("status")
        status = int(code) if isinstance(code, int | str) and str(code).isdecimal() and 400 <= int(code) < 600 else 502
        return self._error(status, told, None)

    def broken(self, what: str) -> ProviderError:
        """For an answer that makes no sense, or never came."""
        metadata = {"provider": self._provider}
        return ProviderError(f"{self._provider} {self.cleaned(what)}", metadata=metadata)

    def cleaned(self, text: str) -> str:
        """`text` on one line, not too long, without anything that looks like a secret."""
        text = " ".join(text[: 4 * _MOST_SHOWN].split())
        if self._key:
            text = text.replace(self._key, "(removed)")
        text = _SECRETS.sub("(removed)", text)
        text = " ".join("(removed)" if self._is_like_key(word) else word for word in text.split(" "))
        text = "".join(character if character.isprintable() else "?" for character in text)
        return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"

    def _is_like_key(self, word: str) -> bool:
        if len(word) < _LEAST_ALIKE or len(self._key) < _LEAST_ALIKE:
            return False
        parts = {self._key[at : at + _LEAST_ALIKE] for at in range(len(self._key) - _LEAST_ALIKE + 1)}
        return any(word[at : at + _LEAST_ALIKE] in parts for at in range(len(word) - _LEAST_ALIKE + 1))

    def _error(self, status: int, told: Mapping[str, Any], retry_after: int | None) -> HodiosError:
        message = self.cleaned(_text(told.get("message")) or "it gave no reason")
        metadata = {"provider": self._provider, "status": status, "message": message}
        sentence = f"{self._provider} answered with status {status}: {message}"
        if status == Overloaded.status or status == 429:
            return self._overloaded(status, sentence, metadata, retry_after)
        if status in _CLIENTS_FAULT and not _OPERATORS_FAULT.search(message):
            param = told.get("param")
            param = self.cleaned(param)[:100] if isinstance(param, str) and param else None
            is_too_long = told.get("code") == ContextLengthExceeded.code or _TOO_LONG.search(message)
            kind = ContextLengthExceeded if is_too_long else InvalidRequest
            return kind(f"{self._provider} refused the request: {message}", param=param, metadata=metadata)
        return ProviderError(sentence, metadata=metadata)

    @staticmethod
    def _overloaded(status: int, sentence: str, metadata: dict[str, object], retry_after: int | None) -> HodiosError:
        if status == Overloaded.status and retry_after is None:
            return ProviderError(sentence, metadata=metadata)
        return Overloaded(sentence, metadata=metadata, retry_after=retry_after or _WAIT_S)


def wait_s(retry_after: str | None, now: datetime) -> int | None:
    """The seconds that a `Retry-After` header asks for, in either of its forms, within reason."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    try:
        seconds = float(text) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text) else _until(text, now)
    except (ValueError, OverflowError):
        return None
    return max(1, min(_MOST_WAIT_S, int(-(-seconds // 1))))


def _until(date: str, now: datetime) -> float:
    when = parsedate_to_datetime(date)
    return (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds()


def _fields(body: bytes) -> Mapping[str, Any]:
    """`message`, and perhaps `code` and `param`, wherever a server puts them."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        # A page for people: of what it says, the beginning has to do.
        return {"message": re.sub(r"<[^>]*>", " ", body[:_MOST_SHOWN].decode("utf-8", "replace"))}
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict) and value.get("error") is not None:
        return _error_fields(value["error"])
    return _error_fields(value)


def _error_fields(error: object) -> Mapping[str, Any]:
    if not isinstance(error, dict):
        return {"message": _text(error)}
    for name in ("message", "detail", "error", "msg"):
        if error.get(name):
            return {**error, "message": error[name]}
    return error


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()
