"""Who runs in the next step, on which blocks of the KV cache. Pure bookkeeping: no tensors, no model, no clock."""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from hodios.engine.fair_queue import FairQueue
from hodios.engine.kv_cache import BlockPool
from hodios.engine.sequence import Group, Sequence
from hodios.engine.shapes import floor_rows, round_rows
from hodios.errors import ConfigError, InvalidRequest, Overloaded

MIN_PREFILL = 2
"""A prefill chunk of one token would take the decode kernel, which rounds differently."""
MIN_ROOM = MIN_PREFILL + 1
"""With so many rows free, any number of prompt tokens has a chunk that leaves no single token for the end."""
MAX_SCORED = 64
"""Prompt positions per step whose logits are all kept: vocabulary × 64 floats is as much memory as that may take."""


class QueueFull(Overloaded):
    """As many sequences wait as may."""


class Unservable(InvalidRequest):
    """The submission could not run even if it had the engine to itself."""


class Chunk(NamedTuple):
    """Tokens of one sequence to compute in one step, all at positions from `start` on."""

    sequence: Sequence
    start: int
    tokens: list[int]
    """A stretch of the known tokens; in a decode step one of them and then the guesses to verify."""
    num_logits: int
    """So many rows at the chunk's end are worth their logits: 0 before the prompt's end, 1 to draw the next token,
    1 + guesses to verify them, and with prompt log-probabilities all that have not been handed out yet."""
    is_prefill: bool

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


@dataclass(slots=True)
class Batch:
    """One step. The copies come first, in their order; they make a block of one's own out of a shared one."""

    chunks: list[Chunk] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)
    """(source, destination) blocks."""
    num_tokens: int = 0
    is_repeatable: bool = False
    """Whether some of it must come out the same in any company: what is seeded, and prompts, which are shared."""

    @property
    def padded_tokens(self) -> int:
        return round_rows(self.num_tokens)

    def add(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.num_tokens += len(chunk.tokens)
        self.is_repeatable |= chunk.is_prefill or chunk.sequence.is_seeded


class Scheduler:
    """Continuous batching: `schedule()` a step, run it, `commit()` its chunks, append the new tokens, and again.

    Raises ConfigError if the limits leave no rows for prefill beside the decode steps.

    Nobody waits for ever:
    1. Decode steps take one row each, and rows are left for prefill whatever they and their guesses take.
    2. Only decode steps ask for blocks, for a whole prompt gets its blocks at admission. When there are none left the
       youngest running sequence is pre-empted, so the oldest always proceeds: alone it fits, or it had been refused.
    3. Nobody overtakes the head of the queue. Those who run finish, so slots and blocks for it come free.
    """

    def __init__(
        self, pool: BlockPool, *, max_sequences: int, max_batch_tokens: int, max_queue: int, context_length: int
    ) -> None:
        self._pool = pool
        self._max_sequences = max_sequences
        self._max_batch_tokens = floor_rows(max_batch_tokens)
        self._max_queue = max_queue
        self._context_length = context_length
        # Beside one row for everybody else, guesses may take half of what is left, and the other half is for a prompt.
        least = round_rows(max_sequences - 1 + 2 * MIN_ROOM)
        if self._max_batch_tokens < least:
            raise ConfigError(
                f"max_batch_tokens is {max_batch_tokens}: for {max_sequences} sequences it must be at least {least}"
            )
        self._groups: dict[tuple[object, int], Group] = {}
        self._num_added = 0
        self._waiting = FairQueue()
        self._running: list[Sequence] = []
        """Oldest first."""
        self.num_preemptions = 0

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def groups(self) -> Collection[Group]:
        """All that are not finished, in the order of their arrival."""
        return self._groups.values()

    def find(self, owner: object, id: int) -> Group | None:
        return self._groups.get((owner, id))

    # Submissions come and go

    def add(self, group: Group, now_s: float) -> None:
        """Let the group wait for its turn. Raises `Unservable` or `QueueFull`."""
        self._check_servable(group)
        if len(self._waiting) >= self._max_queue:
            waited_s = now_s - min(other.arrival_s for other in self._groups.values()) if self._groups else 0.0
            raise QueueFull(f"{len(self._waiting)} requests are waiting, the engine's oldest came {waited_s:.1f} s ago")
        self._num_added += 1
        group.number = self._num_added
        self._groups[group.owner, group.submit.id] = group
        self._waiting.append(group.sequences[0])

    def _check_servable(self, group: Group) -> None:
        submit = group.submit
        num_prompt, max_tokens = len(submit.prompt), submit.max_tokens
        if (group.owner, submit.id) in self._groups:
            raise Unservable(f"id {submit.id} is in use", param="id")
        if not num_prompt:
            raise Unservable("the prompt is empty: give at least one token", param="prompt")
        if max_tokens < 0:
            raise Unservable(f"max_tokens is {max_tokens}: it must be at least 0", param="max_tokens")
        if num_prompt + max_tokens > self._context_length:
            message = f"{num_prompt} prompt tokens and max_tokens {max_tokens} exceed the context of"
            raise Unservable(f"{message} {self._context_length} tokens", param="max_tokens")
        if not 1 <= submit.n <= self._max_sequences:
            raise Unservable(f"n is {submit.n}: it must be 1 to {self._max_sequences}", param="n")
        # The last token is never fed, so it needs no place in the cache.
        num_blocks = self._pool.blocks_for(num_prompt + max(max_tokens - 1, 0))
        if num_blocks > self._pool.num_usable:
            message = f"{num_prompt} prompt tokens and max_tokens {max_tokens} need {num_blocks} blocks of KV cache"
            raise Unservable(f"{message}, the engine has {self._pool.num_usable}", param="max_tokens")

    def abort(self, owner: object, id: int, index: int | None = None) -> None:
        """Drop a submission, or one continuation of it; their blocks are free on return. Unknown ones are ignored."""
        group = self.find(owner, id)
        if group is None:
            return
        if index in group.unforked:
            group.unforked.remove(index)
            return
        for sequence in group.sequences:
            if index is None or sequence.index == index:
                if index is not None and group.unforked:
                    sequence.index = group.unforked.pop(0)
                else:
                    self.finish(sequence)

    def abort_owner(self, owner: object) -> None:
        for group in tuple(self._groups.values()):
            if group.owner == owner:
                self.abort(owner, group.submit.id)

    def finish(self, sequence: Sequence) -> None:
        """Give back all that the sequence holds. Finishing twice is no error: an abort may have come first."""
        if sequence.is_finished:
            return
        if sequence.is_running:
            self._running.remove(sequence)
        else:
            self._waiting.remove(sequence)
        self._give_back(sequence)
        sequence.state = "finished"
        group = sequence.group
        if group.is_finished:
            del self._groups[group.owner, group.submit.id]
            # They know their group: what ends goes at once, and does not wait for the collector of cycles.
            group.sequences = []

    # A step

    def schedule(self, now_s: float) -> Batch | None:
        """The next step, to be run and committed before the next call. None if nobody is there to run."""
        batch = Batch()
        self._decode(batch)
        self._prefill(batch)
        self._admit(batch, now_s)
        self._trim(batch)
        return batch if batch.chunks else None

    def commit(self, chunk: Chunk, num_kept: int) -> None:
        """The chunk has run, and its first `num_kept` tokens are right: all of them, or 1 + the accepted guesses."""
        sequence = chunk.sequence
        if not sequence.is_running:
            return  # aborted while the step ran
        sequence.num_computed = chunk.start + num_kept
        sequence.drafts = []
        if chunk.is_prefill:
            if sequence.num_exact == chunk.start and len(chunk.tokens) >= MIN_PREFILL:
                sequence.num_exact = chunk.end
            if sequence.is_unscored:
                sequence.num_scored = max(sequence.num_scored, chunk.end)
        self._register(sequence)

    def fork(self, sequence: Sequence) -> list[Sequence]:
        """The other continuations of a leader whose prompt has been committed. They share all its blocks."""
        assert sequence.is_running, "only a running sequence is forked"
        assert sequence.num_computed == sequence.num_prompt, "it is forked when its prompt is computed and no later"
        group = sequence.group
        siblings = [sequence.fork(index) for index in group.unforked]
        group.unforked.clear()
        group.sequences += siblings
        for sibling in siblings:
            self._pool.incref(sibling.blocks)
            self._run(sibling)
        return siblings

    def _decode(self, batch: Batch) -> None:
        """One row for everybody whose prompt is computed, and some guesses."""
        guess_rows = (self._max_batch_tokens - len(self._running)) // 2
        # Oldest first, and the youngest make way: whoever is in the batch already stays in it.
        for sequence in tuple(self._running):
            if not sequence.is_running or sequence.is_prefill or not self._make_writable(sequence, batch):
                continue
            start = sequence.num_computed
            is_last = start == len(sequence.tokens) - 1
            guesses = self._guesses(sequence, guess_rows) if is_last and sequence.drafts else []
            guess_rows -= len(guesses)
            num_logits = 1 + len(guesses) if is_last else 0
            batch.add(Chunk(sequence, start, [sequence.tokens[start], *guesses], num_logits, is_prefill=False))

    def _guesses(self, sequence: Sequence, max_rows: int) -> list[int]:
        """As many of the drafts as there are rows, tokens to come and blocks for; nobody is pre-empted for them."""
        num_guesses = min(len(sequence.drafts), max_rows, sequence.num_to_come - 1)
        if sequence.is_seeded or num_guesses <= 0:
            return []
        num_missing = self._pool.blocks_for(len(sequence.tokens) + num_guesses) - len(sequence.blocks)
        if num_missing > 0:
            if not self._has_room(num_missing):
                return []
            sequence.blocks += self._pool.allocate(num_missing)
        return sequence.drafts[:num_guesses]

    def _prefill(self, batch: Batch) -> None:
        """The next chunks of those who run already, oldest first."""
        for sequence in self._running:
            room = self._max_batch_tokens - batch.num_tokens
            if room < MIN_ROOM:
                return
            if sequence.is_prefill:
                batch.add(_prefill_chunk(sequence, room))

    def _admit(self, batch: Batch, now_s: float) -> None:
        """Let in whose turn it is, as long as there are slots, rows and blocks."""
        while self._waiting and (room := self._max_batch_tokens - batch.num_tokens) >= MIN_ROOM:
            sequence = self._waiting.head()
            if not self._has_slots(sequence) or not self._take_blocks(sequence):
                return
            self._waiting.popleft()
            self._run(sequence)
            group = sequence.group
            if group.first_scheduled_s is None:
                group.first_scheduled_s = now_s
                group.cached_tokens = sequence.num_computed
            batch.add(_prefill_chunk(sequence, room))

    def _trim(self, batch: Batch) -> None:
        """Shorten the last chunk that is not its prompt's last, so that the step needs no padding."""
        excess = batch.num_tokens - floor_rows(batch.num_tokens)
        if not excess:
            return
        for position, chunk in reversed([*enumerate(batch.chunks)]):
            size = len(chunk.tokens) - excess
            if chunk.is_prefill and chunk.end < chunk.sequence.prefill_end and size >= MIN_PREFILL:
                batch.chunks[position] = _prefill_chunk(chunk.sequence, size)
                batch.num_tokens -= excess
                return

    # Slots and blocks

    def _run(self, sequence: Sequence) -> None:
        sequence.state = "running"
        insort(self._running, sequence, key=lambda other: other.age)

    def _has_slots(self, sequence: Sequence) -> bool:
        num_taken = sum(other.num_slots for other in self._running)
        return num_taken + sequence.num_slots <= self._max_sequences

    def _has_room(self, num_blocks: int) -> bool:
        """Besides these blocks, everybody who runs could have one more: else somebody would soon be pre-empted."""
        return self._pool.num_free >= num_blocks + len(self._running)

    def _take_blocks(self, sequence: Sequence) -> bool:
        """Give a waiting sequence what the prefix cache has of its tokens, and new blocks for all the others."""
        pool = self._pool
        # At least a whole chunk is left to compute, if only for its last token's logits.
        num_reusable = 0 if sequence.is_unscored else max(sequence.prefill_end - MIN_PREFILL, 0) // pool.block_size
        sequence.extend_keys(num_reusable, pool.block_size)
        found = pool.match(sequence.keys[1 : num_reusable + 1], exact_only=sequence.is_seeded)
        num_missing = pool.blocks_for(len(sequence.tokens)) - len(found)
        is_underway = len(found) < num_reusable and self._is_underway(sequence, len(found))
        if is_underway or (self._running and not self._has_room(num_missing + sequence.num_slots)):
            pool.free(found)
            return False
        sequence.num_exact = pool.block_size * next(
            (index for index, block in enumerate(found) if not pool.is_exact(block)), len(found)
        )
        sequence.num_computed = pool.block_size * len(found)
        sequence.num_registered = len(found)
        sequence.blocks = found + pool.allocate(num_missing)
        return True

    def _is_underway(self, sequence: Sequence, index: int) -> bool:
        """Whether somebody is just computing the block that this sequence needs next, so that it is worth waiting for.

        Nobody waits for prompt log-probabilities and their small chunks: reusing nothing, they hash nothing ahead.
        """
        key = sequence.keys[index + 1]
        return any(other.is_prefill and other.keys[index + 1 : index + 2] == [key] for other in self._running)

    def _make_writable(self, sequence: Sequence, batch: Batch) -> bool:
        """A block of its own for the next token. False if the sequence was the youngest and had to make way itself."""
        pool = self._pool
        while self._needs_block(sequence):
            if not pool.num_free:
                # That may also end the sharing of the block in question.
                youngest = self._running[-1]
                self._preempt(youngest)
                if youngest is sequence:
                    return False
                continue
            [block] = pool.allocate(1)
            index = sequence.num_computed // pool.block_size
            if index == len(sequence.blocks):
                sequence.blocks.append(block)
            else:
                shared = sequence.blocks[index]
                batch.copies.append((shared, block))
                pool.free([shared])
                sequence.blocks[index] = block
        return True

    def _needs_block(self, sequence: Sequence) -> bool:
        index = sequence.num_computed // self._pool.block_size
        return index == len(sequence.blocks) or self._pool.is_shared(sequence.blocks[index])

    def _register(self, sequence: Sequence) -> None:
        """Make blocks findable that have become full of accepted tokens."""
        pool = self._pool
        # Guesses may be committed before they are appended.
        num_full = min(sequence.num_computed, len(sequence.tokens)) // pool.block_size
        if num_full == sequence.num_registered:
            return
        sequence.extend_keys(num_full, pool.block_size)
        for index in range(sequence.num_registered, num_full):
            is_exact = (index + 1) * pool.block_size <= sequence.num_exact
            pool.register(sequence.blocks[index], sequence.keys[index + 1], exact=is_exact)
        sequence.num_registered = num_full

    def _preempt(self, sequence: Sequence) -> None:
        self._running.remove(sequence)
        self._give_back(sequence)
        sequence.state = "waiting"
        self._waiting.appendleft(sequence)
        self.num_preemptions += 1

    def _give_back(self, sequence: Sequence) -> None:
        self._register(sequence)
        self._pool.free(sequence.blocks)
        sequence.blocks = []
        sequence.drafts = []
        sequence.num_computed = sequence.num_exact = sequence.num_registered = 0


def _prefill_chunk(sequence: Sequence, room: int) -> Chunk:
    """The next chunk of at most `room` tokens. Never one token, and never all but one, but for prompts of one token."""
    start, is_unscored = sequence.num_computed, sequence.is_unscored
    num_left = sequence.prefill_end - start
    size = min(num_left, room, MAX_SCORED) if is_unscored else min(num_left, room)
    if num_left - size == 1:
        size -= 1
    end = start + size
    if is_unscored:
        num_logits = max(end - max(start, sequence.num_scored), 0)
    else:
        num_logits = int(end == len(sequence.tokens))
    return Chunk(sequence, start, sequence.tokens[start:end], num_logits, is_prefill=True)
