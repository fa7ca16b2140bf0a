"""What a subject can be asked to compute. Every subject of a task gets the same token ids."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

Prompt = list[int]
Figures = dict[str, float]
"""`rate` in tokens/s or `seconds`, whichever the task is about, and what else was seen."""


class Prefill(Struct, frozen=True, tag=True):
    """Prompts that share nothing, handed over together, one token from each: prompt tokens ÷ time until the last."""

    prompts: list[Prompt]


class Decode(Struct, frozen=True, tag=True):
    """Greedy answers of `num_tokens` to `num_streams` prompts at a time, ends of answers ignored.

    The rate counts only the time in which every stream has produced its first token and none has ended.
    """

    prompts: list[Prompt]
    num_streams: int
    num_tokens: int


class FirstTokens(Struct, frozen=True, tag=True):
    """Prompts handed over together: the mean time to a first token."""

    prompts: list[Prompt]
    may_share: bool
    """Whether one may use what was computed for another."""


class Answers(Struct, frozen=True, tag=True):
    """Whole greedy answers of `num_tokens` to prompts handed over together, from submission to the last token."""

    prompts: list[Prompt]
    num_tokens: int
    schema: str | None = None


Task = Prefill | Decode | FirstTokens | Answers


class Subject(Protocol):
    """Something that is measured. It runs only between `resume` and `pause`."""

    name: str

    def resume(self) -> None: ...

    def pause(self) -> None: ...

    def measure(self, task: Task) -> Figures: ...

    def describe(self) -> str:
        """Version and settings, for the report; what it has found to be fastest is known after the first tasks."""
        ...

    def close(self) -> None: ...
