"""The loop's body: schedule, run, sample, tell. Token ids in, token ids out; no sockets, no text, no OpenVINO.

`Engine.step` is the engine: everything else here is one of its four verbs, or how a request enters and leaves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hodios.engine.bound_drafts import MOST_CHOICES, GuessingMatcher
from hodios.engine.drafts import PromptLookup
from hodios.engine.grammar import Constraint, GrammarCompiler, GrammarFailure, Matcher
from hodios.engine.kv_cache import BlockPool
from hodios.engine.messages import Refused, Stats, Submit, TokenAlternatives
from hodios.engine.opening import Opening
from hodios.engine.outputs import Outputs, Told
from hodios.engine.padding import leave_out_guesses
from hodios.engine.sampler import BadLogits, Draw, Drawn, Sampler, prompt_alternatives
from hodios.engine.scheduler import Batch, Chunk, QueueFull, Scheduler, Unservable
from hodios.engine.sequence import Group
from hodios.engine.sequence import Sequence as Continuation
from hodios.errors import InvalidRequest
from hodios.types import Grammar

Logits = NDArray[np.float32]

FEW_SEQUENCES = 4
"""While so few are running a row costs next to nothing, and any guess may be verified."""
CROWD_MATCHES = (3, 16)
"""With more of them, only guesses after so long a repetition are: the first where rows are cheap, else the second."""
CHEAP_ROW = 0.5
"""Below this share of what rows cost on average, one more is cheap."""
BOUND_MATCH = 3
"""In a crowd, within a grammar: what is repeated there is mostly form, and nine of ten guesses are right."""
DEAR_CHOICES = 16
"""In a crowd where rows are dear, what was said last is guessed again only where the grammar leaves so few tokens."""


class Model(Protocol):
    """What runs a batch; see `runner.Runner`."""

    def start(self, batch: Batch) -> None: ...

    def wait(self) -> Logits: ...


class Voice:
    """What the engine keeps of one continuation besides its tokens: how it draws, guesses and ends."""

    __slots__ = ("cumulative", "draw", "guesser", "stops")

    def __init__(self, draw: Draw, guesser: PromptLookup | GuessingMatcher | None, stops: frozenset[int]) -> None:
        self.draw = draw
        self.guesser = guesser
        self.stops = stops
        self.cumulative = 0.0
        """Log-probability of all that was said, where log-probabilities are asked for."""


class Speaker:
    """A continuation in the step in which it draws: `row` has the logits for its next token."""

    __slots__ = ("chunk", "guesses", "row", "said", "sequence", "voice")

    def __init__(self, sequence: Continuation, voice: Voice, chunk: Chunk, row: int) -> None:
        self.sequence = sequence
        self.voice = voice
        self.chunk = chunk
        self.guesses = [] if chunk.is_prefill else chunk.tokens[1:]
        self.row = row
        self.said: list[int] = []

    @property
    def was_guessed(self) -> bool:
        """Whether the token said last is the one whose successor's row was computed too."""
        position = len(self.said) - 1
        return position < len(self.guesses) and self.guesses[position] == self.said[position]

    @property
    def num_right(self) -> int:
        """Guesses that were said."""
        return sum(1 for guess, token in zip(self.guesses, self.said, strict=False) if guess == token)


class Engine:
    """Continuous batching over one model."""

    def __init__(
        self,
        model: Model,
        scheduler: Scheduler,
        pool: BlockPool,
        *,
        vocab_size: int,
        grammars: GrammarCompiler | None,
        rng: np.random.Generator,
        speculates: bool = True,
        row_cost: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`grammars` is None for a model without end tokens: no grammar could end, so requests with one are refused.
        `row_cost`: what one more row costs in a step of many, as a share of what such a step's rows cost on average."""
        self._model = model
        self._scheduler = scheduler
        self._pool = pool
        self._vocab_size = vocab_size
        self._grammars = grammars
        self._rng = rng
        self._speculates = speculates
        self._row_cost = row_cost
        self._clock = clock
        self._sampler = Sampler(vocab_size)
        self._counts = dict.fromkeys(
            ("num_steps", "prompt_tokens", "cached_tokens", "generated_tokens", "drafted_tokens", "accepted_tokens"), 0
        )
        self._step_s = 0.0
        self._infer_s = 0.0

    def submit(self, submit: Submit, owner: object) -> Refused | None:
        """Queue a request. Returns why it is not taken, if it is not."""
        try:
            self._check(submit)
            group = Group(submit, owner=owner, arrival_s=self._clock())
            self._voice(submit, 0)
            self._scheduler.add(group, self._clock())
        except QueueFull as full:
            return Refused(id=submit.id, reason="full", message=str(full))
        except (Unservable, InvalidRequest) as invalid:
            return Refused(id=submit.id, reason="invalid", message=str(invalid), param=invalid.param)
        return None

    def compile(self, grammar: Grammar) -> object:
        """Make ready for submissions with this grammar, in whatever thread. Raises InvalidRequest."""
        return self._matcher(grammar)

    def prepare(self) -> None:
        """Make ready for the first grammar, in the thread that compiles."""
        if self._grammars is not None:
            self._grammars.prepare()

    def has_compiled(self, grammar: Grammar) -> bool:
        """Whether a submission with this grammar takes no longer than one without."""
        return self._grammars is not None and self._grammars.has(grammar)

    def abort(self, owner: object, id: int, index: int | None) -> None:
        self._scheduler.abort(owner, id, index)

    def abort_owner(self, owner: object) -> None:
        """Everything that a lost connection had asked for."""
        self._scheduler.abort_owner(owner)

    @property
    def is_idle(self) -> bool:
        return not self._scheduler.num_waiting and not self._scheduler.num_running

    def step(self, while_running: Callable[[], None]) -> list[Told]:
        """Run one batch; `while_running` has the time that the model takes, and must not touch the engine."""
        began = self._clock()
        batch = self._scheduler.schedule(began)
        if batch is None:
            return []
        leave_out_guesses(batch, self._row_cost)
        self._model.start(batch)
        started = self._clock()
        while_running()
        logits = self._model.wait()
        self._infer_s += self._clock() - started
        told = self._sample(batch, logits)
        self._counts["num_steps"] += 1
        self._step_s += self._clock() - began
        return told

    def stats(self) -> Stats:
        pool = self._pool
        return Stats(
            num_waiting=self._scheduler.num_waiting,
            num_running=self._scheduler.num_running,
            num_preemptions=self._scheduler.num_preemptions,
            free_blocks=pool.num_free,
            cached_blocks=pool.num_cached,
            num_blocks=pool.num_usable,
            step_s=self._step_s,
            infer_s=self._infer_s,
            **self._counts,
        )

    def _check(self, submit: Submit) -> None:
        for token in (min(submit.prompt, default=0), max(submit.prompt, default=0)):
            if not 0 <= token < self._vocab_size:
                raise InvalidRequest(
                    f"prompt holds the token id {token}; accepted: 0 to {self._vocab_size - 1}", param="prompt"
                )

    def _voice(self, submit: Submit, index: int) -> Voice:
        sampling = submit.sampling
        ends = [] if sampling.ignore_eos else submit.eos_ids
        matcher = self._start_of(submit)
        lookup = PromptLookup(submit.prompt) if self._speculates and sampling.seed is None else None
        bound: Constraint | None = matcher
        guesser: PromptLookup | GuessingMatcher | None = lookup
        if matcher is not None and sampling.seed is None:
            bound = guesser = GuessingMatcher(matcher, lookup, self._vocab_size)
        draw = Draw(
            sampling,
            prompt=submit.prompt,
            eos_ids=ends,
            vocab_size=self._vocab_size,
            index=index,
            rng=self._rng,
            matcher=Opening(submit.opening, bound) if submit.opening else bound,
            num_begun=submit.num_begun,
        )
        return Voice(draw, guesser, frozenset(ends) | frozenset(sampling.stop_token_ids))

    def _start_of(self, submit: Submit) -> Matcher | None:
        """Where the answer's grammar stands after what has been said of it."""
        matcher = None if submit.grammar is None else self._matcher(submit.grammar)
        if matcher is not None:
            try:
                for token in submit.prompt[len(submit.prompt) - submit.num_begun :]:
                    matcher.accept(token)
            except GrammarFailure as failure:
                message = f"an answer that began otherwise cannot go on in this form: {failure}"
                raise InvalidRequest(message, param="response_format") from failure
        return matcher

    def _matcher(self, grammar: Grammar) -> Matcher:
        if self._grammars is None:
            raise InvalidRequest(
                "this model has no end-of-sequence token, so an answer in a grammar could not end; ask without "
                "response_format",
                param="response_format",
            )
        return self._grammars.compile(grammar)

    def _sample(self, batch: Batch, logits: Logits) -> list[Told]:
        """Take each chunk's rows to its sequence: prompt log-probabilities, then new tokens."""
        outputs = Outputs()
        speaking: list[Speaker] = []
        end_row = 0
        for chunk in batch.chunks:
            first_row, end_row = end_row, end_row + chunk.num_logits
            if chunk.is_prefill:
                self._read_prompt(chunk, logits[first_row:end_row], outputs)
                self._scheduler.commit(chunk, len(chunk.tokens))
            if chunk.num_logits and chunk.end >= len(chunk.sequence.tokens):
                speaking += self._speakers(chunk, end_row - 1 if chunk.is_prefill else first_row, outputs)
            elif not chunk.is_prefill:
                self._scheduler.commit(chunk, len(chunk.tokens))
        self._speak(speaking, logits, outputs)
        for speaker in speaking:
            self._settle(speaker, outputs)
        return outputs.told()

    def _read_prompt(self, chunk: Chunk, logits: Logits, outputs: Outputs) -> None:
        """Give the prompt's log-probabilities where they are asked for."""
        sequence, submit = chunk.sequence, chunk.sequence.group.submit
        if submit.prompt_logprobs is None or not chunk.num_logits or not sequence.is_unscored:
            return
        first = chunk.end - chunk.num_logits
        alternatives = outputs.of(sequence).prompt_logprobs
        if first == 0:
            outputs.of(sequence).is_first = True
            alternatives.append(TokenAlternatives(sequence.tokens[0], None))
        known = sequence.tokens[first + 1 : min(chunk.end + 1, sequence.num_prompt)]
        alternatives += prompt_alternatives(logits[: len(known)], known, submit.prompt_logprobs)

    def _speakers(self, chunk: Chunk, row: int, outputs: Outputs) -> list[Speaker]:
        """Who draws from this row: the sequence itself, and its siblings once the prompt is done."""
        sequence, submit = chunk.sequence, chunk.sequence.group.submit
        family = [sequence]
        if not sequence.num_output:
            self._counts["prompt_tokens"] += sequence.num_prompt
            self._counts["cached_tokens"] += sequence.group.cached_tokens
        if sequence.group.unforked:
            family += self._scheduler.fork(sequence)
        for member in family:
            if not member.num_output:
                member.draw = self._voice(submit, member.index)
                outputs.of(member).is_first |= not member.needs_prompt_logprobs
        if submit.max_tokens == 0:
            for member in family:
                self._end(member, outputs, "length")
            return []
        return [Speaker(member, _voice_of(member), chunk, row) for member in family]

    def _speak(self, speaking: Sequence[Speaker], logits: Logits, outputs: Outputs) -> None:
        """Draw a token for each; where it is the one that was guessed, the next row counts too, and so on."""
        alive = list(speaking)
        while alive:
            drawn = self._draw(logits, alive, outputs)
            alive = [speaker for speaker, each in drawn if self._say(speaker, each, outputs)]

    def _draw(self, logits: Logits, speaking: Sequence[Speaker], outputs: Outputs) -> list[tuple[Speaker, Drawn]]:
        """One token each; who has broken logits or a broken grammar ends in an error, and the others go on."""
        draws, rows = [speaker.voice.draw for speaker in speaking], [speaker.row for speaker in speaking]
        try:
            return list(zip(speaking, self._sampler.sample(logits, draws, rows), strict=True))
        except BadLogits as bad:
            for place in bad.rows:
                self._fail(speaking[place].sequence, outputs, "the model gave numbers that are not finite")
            sound = [speaker for place, speaker in enumerate(speaking) if place not in bad.rows]
            return self._draw(logits, sound, outputs) if sound else []
        except GrammarFailure as failure:
            if len(speaking) == 1:
                self._fail(speaking[0].sequence, outputs, str(failure), "response_format")
                return []
            return [pair for speaker in speaking for pair in self._draw(logits, [speaker], outputs)]

    def _say(self, speaker: Speaker, drawn: Drawn, outputs: Outputs) -> bool:
        """Accept one token. True if it was guessed, so that the row after it is good for another."""
        sequence, voice, token = speaker.sequence, speaker.voice, drawn.token
        try:
            voice.draw.accept(token)
        except GrammarFailure as failure:
            self._fail(sequence, outputs, str(failure), "response_format")
            return False
        sequence.tokens.append(token)
        speaker.said.append(token)
        speaker.row += 1
        self._counts["generated_tokens"] += 1
        output = outputs.of(sequence)
        output.tokens.append(token)
        if drawn.logprobs is not None:
            output.logprobs.append(drawn.logprobs)
            voice.cumulative += drawn.logprobs.logprob or 0.0
        if token in voice.stops:
            self._end(sequence, outputs, "stop", stop_token=token)
        elif voice.draw.matcher is not None and voice.draw.matcher.is_finished:
            self._end(sequence, outputs, "stop")
        elif sequence.num_to_come <= 0:
            self._end(sequence, outputs, "length")
        return not sequence.is_finished and speaker.was_guessed

    def _settle(self, speaker: Speaker, outputs: Outputs) -> None:
        """Keep what was rightly guessed, and guess anew."""
        sequence, voice, chunk = speaker.sequence, speaker.voice, speaker.chunk
        if speaker.guesses:
            outputs.of(sequence).accepted_drafts = speaker.num_right
            self._counts["drafted_tokens"] += len(speaker.guesses)
            self._counts["accepted_tokens"] += speaker.num_right
        if sequence.is_finished:
            return
        if not chunk.is_prefill:
            self._scheduler.commit(chunk, 1 + speaker.num_right)
        if voice.guesser is not None:
            voice.guesser.report(len(speaker.guesses), speaker.num_right)
            voice.guesser.extend(speaker.said)
        sequence.drafts = self._guess(voice.guesser)

    def _guess(self, guesser: PromptLookup | GuessingMatcher | None) -> list[int]:
        """What a grammar forces is certain; what the text suggests is worth a row only while rows are cheap."""
        are_few = self._scheduler.num_running <= FEW_SEQUENCES
        are_cheap = are_few or self._row_cost < CHEAP_ROW
        if isinstance(guesser, GuessingMatcher):
            return guesser.propose(0 if are_few else BOUND_MATCH, MOST_CHOICES if are_cheap else DEAR_CHOICES)
        if guesser is None:
            return []
        return guesser.propose(0 if are_few else CROWD_MATCHES[0 if are_cheap else 1])

    def _end(
        self,
        sequence: Continuation,
        outputs: Outputs,
        reason: Literal["stop", "length", "error"],
        *,
        stop_token: int | None = None,
    ) -> None:
        output = outputs.of(sequence)
        output.finish_reason, output.stop_token = reason, stop_token
        if isinstance(sequence.draw, Voice) and sequence.group.submit.sampling.logprobs is not None:
            output.cumulative_logprob = sequence.draw.cumulative
        self._scheduler.finish(sequence)

    def _fail(self, sequence: Continuation, outputs: Outputs, message: str, param: str | None = None) -> None:
        draft = outputs.of(sequence)
        draft.error, draft.error_param = message, param
        self._end(sequence, outputs, "error")


def _voice_of(sequence: Continuation) -> Voice:
    assert isinstance(sequence.draw, Voice), "a continuation draws before it was given a voice"
    return sequence.draw
