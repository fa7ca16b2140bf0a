"""The answer to one prompt: its echo, its `n` continuations, or the best of more.

Sans-IO: engine outputs in, events out. Says which continuations the engine need not go on with.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from hodios.dialog.stop import StopStrings
from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.messages import Output
from hodios.events import Stopped, Text, TokenLogprob
from hodios.providers.continuation import Continuation, TokenTexts
from hodios.providers.healing import Begun
from hodios.types import Request


class Prompt(Struct, frozen=True):
    """One prompt, ready for the engine."""

    token_ids: list[int]
    """At least one."""
    echo: str
    """What is shown of it with `echo`."""
    max_tokens: int
    opened: str = ""
    """The name of the thought that a chat's prompt leaves open; "" for none."""
    num_altered: int = 0
    """How often a client's text had to be altered, because it was markup that the vocabulary has no tokens for."""
    begun: Begun | None = None
    """Of the answer, what is in the prompt already or has to come again; None where it is new."""


class Answer:
    """Turns the outputs for one prompt into its choices `first_index … first_index + n − 1`.

    With `best_of` > `n` nothing is shown before all continuations have ended; then the `n` with the highest mean
    log-probability follow, best first.
    """

    def __init__(
        self,
        prompt: Prompt,
        request: Request,
        first_index: int,
        tokenizer: Tokenizer,
        texts: TokenTexts,
        stop_strings: StopStrings | None,
        shown_ids: frozenset[int] = frozenset(),
    ) -> None:
        """Control tokens in `shown_ids` appear in the text."""
        self.cached_tokens = 0
        self.queue_s = 0.0
        self.accepted_tokens = 0
        self.prompt = prompt
        self._request = request
        self._texts = texts
        self._first_index = first_index
        self._continuations = [
            Continuation(first_index + number, request, tokenizer, texts, stop_strings, shown_ids, prompt.begun)
            for number in range(num_continuations(request))
        ]
        self._is_ranked = request.best_of > request.n
        self._unranked: list[list[Text | Stopped]] = [[] for _ in self._continuations]
        self._is_echo_due = request.echo
        self._echo_logprobs: list[TokenLogprob] = []
        self._before_echo: list[Output] = []
        self._superfluous: list[int] = []

    @property
    def num_tokens(self) -> int:
        """Generated for this prompt, shown or not."""
        return sum(continuation.num_tokens for continuation in self._continuations)

    def push(self, output: Output) -> list[Text | Stopped]:
        """The events that one output brings."""
        self.cached_tokens = max(self.cached_tokens, output.cached_tokens)
        self.queue_s = max(self.queue_s, output.queue_s)
        self.accepted_tokens += output.accepted_drafts
        if not self._is_echo_due:
            return self._read(output)
        if output.prompt_logprobs is not None:
            self._echo_logprobs += map(self._texts.describe, output.prompt_logprobs)
        if self._request.sampling.logprobs is not None:
            # The prompt's log-probabilities come with continuation 0; they are all there when its answer begins.
            is_complete = output.index == 0 and (output.tokens or output.finish_reason is not None)
            if not is_complete:
                self._before_echo.append(output)
                return []
        self._is_echo_due = False
        waiting, self._before_echo = self._before_echo, []
        return [*self._echo(), *(event for early in [*waiting, output] for event in self._read(early))]

    def take_superfluous(self) -> list[int]:
        """The continuations (as the engine counts) that have ended here and not yet there."""
        superfluous, self._superfluous = self._superfluous, []
        return superfluous

    def _echo(self) -> list[Text | Stopped]:
        logprobs = tuple(self._echo_logprobs)
        echoes: list[Text | Stopped] = [
            Text(self._first_index + number, self.prompt.echo, logprobs, 0, True) for number in range(self._request.n)
        ]
        return echoes

    def _read(self, output: Output) -> list[Text | Stopped]:
        continuation = self._continuations[output.index]
        events = continuation.push(output)
        has_ended = bool(events) and isinstance(events[-1], Stopped)
        if has_ended and output.finish_reason is None:
            self._superfluous.append(output.index)
        if not self._is_ranked:
            return events
        self._unranked[output.index] += events
        return self._rank() if has_ended and all(each.is_over for each in self._continuations) else []

    def _rank(self) -> list[Text | Stopped]:
        order = sorted(range(len(self._continuations)), key=lambda number: -self._continuations[number].mean_logprob)
        events: list[Text | Stopped] = []
        for rank, number in enumerate(order[: self._request.n]):
            num_tokens = self._continuations[number].num_tokens
            events += _fold(self._unranked[number], self._first_index + rank, num_tokens)
        return events


def num_continuations(request: Request) -> int:
    """How many continuations of each prompt the engine generates."""
    return max(request.n, request.best_of)


def _fold(events: list[Text | Stopped], index: int, num_tokens: int) -> list[Text | Stopped]:
    """One whole continuation as one text, moved to another choice."""
    texts = [event for event in events if isinstance(event, Text)]
    folded: list[Text | Stopped] = []
    if texts:
        logprobs = tuple(entry for text in texts for entry in text.logprobs)
        folded.append(Text(index, "".join(text.text for text in texts), logprobs, num_tokens))
    folded += [replace(event, index=index) for event in events if isinstance(event, Stopped)]
    return folded
