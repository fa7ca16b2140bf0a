"""What the chunks of other servers have in common, whatever the route: choices, their ends, and usage. Sans-IO.

Everything in a chunk is checked before it is believed; what is not of the protocol is passed over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from hodios.events import TokenLogprob, Usage
from hodios.providers.call_deltas import CallDeltas, Called
from hodios.providers.surrogates import SurrogateJoiner
from hodios.types import FinishReason

CHARACTERS_PER_TOKEN = 4
"""Where a server does not count."""
UNKNOWN_TOKEN = -1
"""The id of a token of which only the text is known."""
_FINISH_REASONS: Mapping[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "error": "error",
}


class Said(Struct, frozen=True):
    """More of one choice, as the server sent it."""

    index: int
    text: str = ""
    thought: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


class Ended(Struct, frozen=True):
    """The end of one choice: `stop`, `length`, `content_filter` or `error`, and the calls that it made."""

    index: int
    finish_reason: FinishReason
    stop_reason: str | int | None = None
    calls: tuple[Called, ...] = ()


class OpenChoice:
    """One choice while it comes."""

    def __init__(self, index: int, names: Sequence[str] = ()) -> None:
        self.index = index
        self.calls = CallDeltas(names)
        self.has_any = False
        self._text = SurrogateJoiner()
        self._thought = SurrogateJoiner()
        self._finish_reason: str | None = None
        self._stop_reason: str | int | None = None

    @property
    def is_over(self) -> bool:
        return self._finish_reason is not None

    def say(self, text: str, thought: str = "", logprobs: tuple[TokenLogprob, ...] = ()) -> Said | None:
        self.has_any = True
        text, thought = self._text.push(text), self._thought.push(thought)
        return Said(self.index, text, thought, logprobs) if text or thought or logprobs else None

    def close(self, choice: Mapping[str, Any]) -> None:
        """Note the end, if `choice` says it; more may come all the same."""
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self._finish_reason = reason
        stop_reason = choice.get("stop_reason")
        if isinstance(stop_reason, str | int) and not isinstance(stop_reason, bool):
            self._stop_reason = stop_reason

    def finish(self) -> list[Said | Ended]:
        text, thought = self._text.flush(), self._thought.flush()
        said: list[Said | Ended] = [Said(self.index, text, thought)] if text or thought else []
        reason = finish_reason_of(self._finish_reason or "")
        return [*said, Ended(self.index, reason, self._stop_reason, tuple(self.calls.finish()))]


class AnswerReader(ABC):
    """The chunks of one answer, or the one document of an answer that was not streamed. A dialect says where they have
    what."""

    def __init__(self, num_choices: int, names: Sequence[str] = ()) -> None:
        """`names`: of the tools that may be called."""
        self._choices = [OpenChoice(index, names) for index in range(num_choices)]
        self.usage: Usage | None = None
        self.is_over = False
        """Whether the server has told the end of every choice."""

    @property
    def has_all(self) -> bool:
        """Whether something of every choice has come."""
        return all(choice.has_any for choice in self._choices)

    def push(self, document: Mapping[str, Any]) -> list[Said]:
        choices = document.get("choices")
        if len(self._choices) == 1 and type(choices) is list and len(choices) == 1 and not document.get("usage"):
            text = self._text_alone(choices[0])
            if text is not None:
                said = self._choices[0].say(text)
                return [] if said is None else [said]
        return self._all(document)

    def _all(self, document: Mapping[str, Any]) -> list[Said]:
        self.usage = usage_of(document) or self.usage
        said = []
        for index, choice in choices_of(document, len(self._choices)):
            state = self._choices[index]
            found = self._read(state, choice)
            state.close(choice)
            if found is not None:
                said.append(found)
        self.is_over = all(choice.is_over for choice in self._choices)
        return said

    def finish(self) -> list[Said | Ended]:
        return [event for choice in self._choices for event in choice.finish()]

    @abstractmethod
    def _text_alone(self, choice: object) -> str | None:
        """The text of a choice that has nothing else, as nearly all have; None where one has to look closer."""

    @abstractmethod
    def _read(self, state: OpenChoice, choice: Mapping[str, Any]) -> Said | None:
        """Whatever the choice has."""


def has_more_than_text(choice: Mapping[str, Any]) -> bool:
    """Whether a choice says more than its text, or is not the first."""
    get = choice.get
    return bool(get("finish_reason") or get("index") or get("logprobs") or get("stop_reason"))


def finish_reason_of(reason: str) -> FinishReason:
    """What a server's own word for it means."""
    return _FINISH_REASONS.get(reason.lower(), "stop")


def string(value: object) -> str:
    return value if isinstance(value, str) else ""


def choices_of(document: Mapping[str, Any], num_choices: int) -> list[tuple[int, Mapping[str, Any]]]:
    """(index, choice) of what a chunk holds. A missing index is 0; one that nobody asked for is passed over."""
    choices = document.get("choices")
    found: list[tuple[int, Mapping[str, Any]]] = []
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            index = choice.get("index")
            index = index if isinstance(index, int) else 0
            if 0 <= index < num_choices:
                found.append((index, choice))
    return found


def usage_of(document: Mapping[str, Any]) -> Usage | None:
    """What a chunk says of tokens, if it says anything."""
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return None
    num_prompt, num_completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    if not num_prompt + num_completion:
        return None
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    if not prompt and not completion:
        return Usage(prompt_tokens=num_prompt, completion_tokens=num_completion)
    return Usage(
        prompt_tokens=num_prompt,
        completion_tokens=num_completion,
        cached_tokens=_count(prompt, "cached_tokens"),
        accepted_prediction_tokens=_count(completion, "accepted_prediction_tokens"),
        reasoning_tokens=_count(completion, "reasoning_tokens"),
    )


def _count(holder: object, name: str) -> int:
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


def number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def with_chosen(
    top: Sequence[tuple[int, str, bytes, float]], text: str, raw: bytes, logprob: float
) -> tuple[tuple[int, str, bytes, float], ...]:
    """The likeliest tokens, most likely first, with the chosen one among them where any were asked for."""
    ranked = sorted(top, key=lambda entry: -entry[3])
    if ranked and all(entry[2] != raw for entry in ranked):
        ranked.append((UNKNOWN_TOKEN, text, raw, logprob))
    return tuple(ranked)
