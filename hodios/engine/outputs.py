"""What one step brought, gathered per continuation until it is told. Holds no state beyond the step."""

from __future__ import annotations

from typing import Literal, NamedTuple

from hodios.engine.messages import Output, TokenAlternatives
from hodios.engine.sequence import Sequence


class Told(NamedTuple):
    """One output and the connection it belongs to."""

    owner: object
    output: Output


class Draft:
    """An output that is still being written."""

    __slots__ = (
        "accepted_drafts",
        "cumulative_logprob",
        "error",
        "error_param",
        "finish_reason",
        "is_first",
        "logprobs",
        "prompt_logprobs",
        "sequence",
        "stop_token",
        "tokens",
    )

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.tokens: list[int] = []
        self.logprobs: list[TokenAlternatives] = []
        self.prompt_logprobs: list[TokenAlternatives] = []
        self.finish_reason: Literal["stop", "length", "error"] | None = None
        self.stop_token: int | None = None
        self.error: str | None = None
        self.error_param: str | None = None
        self.accepted_drafts = 0
        self.cumulative_logprob: float | None = None
        self.is_first = False

    def finished(self) -> Told:
        sequence, group = self.sequence, self.sequence.group
        output = Output(
            id=group.submit.id,
            index=sequence.index,
            tokens=self.tokens,
            logprobs=self.logprobs or None,
            prompt_logprobs=self.prompt_logprobs or None,
            finish_reason=self.finish_reason,
            stop_token=self.stop_token,
            error=self.error,
            error_param=self.error_param,
            cached_tokens=group.cached_tokens if self.is_first else 0,
            queue_s=(group.first_scheduled_s or group.arrival_s) - group.arrival_s if self.is_first else 0.0,
            accepted_drafts=self.accepted_drafts,
            cumulative_logprob=self.cumulative_logprob,
        )
        return Told(group.owner, output)


class Outputs:
    """The step's outputs, one per continuation, in the order in which they began."""

    def __init__(self) -> None:
        self._drafts: dict[Sequence, Draft] = {}

    def of(self, sequence: Sequence) -> Draft:
        draft = self._drafts.get(sequence)
        if draft is None:
            draft = self._drafts[sequence] = Draft(sequence)
        return draft

    def told(self) -> list[Told]:
        return [draft.finished() for draft in self._drafts.values()]
