"""A model of arithmetic instead of weights, and an engine loop around it that trusts the scheduler with nothing.

A cell of its KV cache holds what a real one would depend on: the salt, every token up to its position, and which kernel
(prefill or decode) computed each of them. Seeded sequences draw from all of that, so a seeded answer changes as soon as
the scheduler lets one position be computed differently; others draw from the tokens alone, as noise is theirs to bear.
"""

from __future__ import annotations

import random
import zlib
from typing import Any, NamedTuple

from hodios.engine.kv_cache import BlockPool, block_key, root_key
from hodios.engine.messages import Submit
from hodios.engine.scheduler import MAX_SCORED, Batch, Chunk, Scheduler
from hodios.engine.sequence import Group, Sequence
from hodios.engine.shapes import bucket_sizes
from hodios.types import Sampling

VOCAB_SIZE = 7
EOS = 0


class Cell(NamedTuple):
    text: int
    bits: int


def make_submit(
    id: int, prompt: list[int], max_tokens: int = 8, *, seed: int | None = None, ignore_eos: bool = False, **fields: Any
) -> Submit:
    sampling = Sampling(seed=seed, ignore_eos=ignore_eos)
    return Submit(id=id, prompt=prompt, max_tokens=max_tokens, sampling=sampling, **fields)


def after(cell: Cell, token: int, *, in_chunk: bool) -> Cell:
    return Cell(hash((cell.text, token)), hash((cell.bits, token, in_chunk)))


def root(salt: str) -> Cell:
    return Cell(zlib.crc32(salt.encode()), zlib.crc32(salt.encode()))


def draw(submit: Submit, index: int, cell: Cell) -> int:
    seed = submit.sampling.seed
    drawn = hash((cell.text, index) if seed is None else (cell.bits, index, seed)) // 8
    return 1 + drawn % (VOCAB_SIZE - 1) if submit.sampling.ignore_eos else drawn % VOCAB_SIZE


def lone_answer(submit: Submit, index: int) -> list[int]:
    """What the request is answered by a machine that does nothing else."""
    cell = root(submit.salt)
    for token in submit.prompt:
        cell = after(cell, token, in_chunk=len(submit.prompt) > 1)
    answer: list[int] = []
    while len(answer) < submit.max_tokens and EOS not in answer:
        answer.append(draw(submit, index, cell))
        cell = after(cell, answer[-1], in_chunk=False)
    return answer


class Loop:
    """schedule, run, commit, append, over and over; every batch and every cell it reads is checked."""

    def __init__(
        self,
        *,
        num_blocks: int,
        block_size: int = 4,
        max_sequences: int = 4,
        max_batch_tokens: int = 16,
        max_queue: int = 10_000,
        context_length: int = 10_000,
        rng: random.Random | None = None,
    ) -> None:
        self.pool = BlockPool(num_blocks, block_size)
        self.scheduler = Scheduler(
            self.pool,
            max_sequences=max_sequences,
            max_batch_tokens=max_batch_tokens,
            max_queue=max_queue,
            context_length=context_length,
        )
        self.max_sequences = max_sequences
        self.max_batch_tokens = max_batch_tokens
        self.rng = rng or random.Random(0)
        self.cells: list[list[Cell | None]] = [[None] * block_size for _ in range(num_blocks)]
        self.groups: list[Group] = []
        self.now_s = 0.0
        self.num_computed = 0
        self.num_accepted = 0
        self.drafts_up_to = 4
        self.answers: dict[tuple[object, int, int], list[int]] = {}
        self.scored: dict[Group, list[int]] = {}

    def add(self, submit: Submit, owner: object = "owner") -> Group:
        group = Group(submit, owner=owner, arrival_s=self.now_s)
        self.scheduler.add(group, self.now_s)
        self.groups.append(group)
        return group

    def drain(self) -> None:
        while self.step() is not None:
            pass
        assert self.scheduler.num_running == self.scheduler.num_waiting == 0
        assert not self.scheduler.groups
        assert all(group.is_finished for group in self.groups)
        self.pool.check()
        assert self.pool.num_free == self.pool.num_usable, "blocks are lost"

    def step(self, *, then_abort: Group | None = None) -> Batch | None:
        """One step; `then_abort` is given up between the run and its results."""
        self.now_s += 1.0
        self._guess()
        has_work = self.scheduler.num_waiting + self.scheduler.num_running > 0
        before = [(sequence, sequence.blocks) for sequence in self._running()]
        batch = self.scheduler.schedule(self.now_s)
        # Who made way may be back already, if its caller's turn has come; then its blocks are others.
        made_way = [sequence.age for sequence, blocks in before if sequence.blocks is not blocks]
        stayed = [sequence.age for sequence, blocks in before if sequence.blocks is blocks]
        assert not (made_way and stayed) or min(made_way) > max(stayed), "an older sequence made way for a younger one"
        assert (batch is not None) == has_work, "work is left lying"
        self.pool.check()
        if batch is None:
            return None
        self._check(batch)
        for source, target in batch.copies:
            self.cells[target] = list(self.cells[source])
        rows = [self._run(chunk) for chunk in batch.chunks]
        if then_abort is not None:
            self.scheduler.abort(then_abort.owner, then_abort.submit.id)
        for chunk, cells in zip(batch.chunks, rows, strict=True):
            self._take(chunk, cells)
        self.pool.check()
        self._check_keys()
        return batch

    # What the engine does

    def _running(self) -> list[Sequence]:
        return [each for group in self.scheduler.groups for each in group.sequences if each.is_running]

    def _guess(self) -> None:
        for sequence in self._running():
            assert not sequence.drafts, "old guesses are left"
            if sequence.num_output:
                right = lone_answer(sequence.group.submit, sequence.index)[sequence.num_output :]
                num_right = self.rng.randint(0, self.drafts_up_to)
                wrong = [self.rng.randrange(VOCAB_SIZE) for _ in range(self.drafts_up_to)]
                sequence.drafts = (right[:num_right] + wrong)[: self.rng.randint(0, self.drafts_up_to)]

    def _run(self, chunk: Chunk) -> list[Cell]:
        cell = self._cell(chunk.sequence, chunk.start - 1)
        cells = []
        for position, token in enumerate(chunk.tokens, chunk.start):
            cell = after(cell, token, in_chunk=len(chunk.tokens) > 1)
            block, offset = divmod(position, self.pool.block_size)
            self.cells[chunk.sequence.blocks[block]][offset] = cell
            cells.append(cell)
        self.num_computed += len(cells)
        return cells

    def _take(self, chunk: Chunk, cells: list[Cell]) -> None:
        sequence = chunk.sequence
        if sequence.is_finished:
            self.scheduler.commit(chunk, len(chunk.tokens))
            return
        if not chunk.is_prefill and chunk.num_logits:
            self._verify(chunk, cells)
            return
        if sequence.is_unscored:
            self.scored.setdefault(sequence.group, []).extend(range(chunk.end - chunk.num_logits, chunk.end))
        self.scheduler.commit(chunk, len(chunk.tokens))
        if chunk.num_logits and chunk.end == len(sequence.tokens):
            siblings = self.scheduler.fork(sequence) if sequence.group.unforked else []
            for member in (sequence, *siblings):
                if member.num_to_come > 0:
                    member.tokens.append(draw(member.group.submit, member.index, cells[-1]))
                self._finish_if_done(member)

    def _verify(self, chunk: Chunk, cells: list[Cell]) -> None:
        sequence = chunk.sequence
        said: list[int] = []
        for cell, guess in zip(cells, [*chunk.tokens[1:], None], strict=True):
            said.append(draw(sequence.group.submit, sequence.index, cell))
            if said[-1] != guess or said[-1] == EOS:
                break
        self.num_accepted += len(said) - 1
        if self.rng.random() < 0.5:
            sequence.tokens.extend(said)
            self.scheduler.commit(chunk, len(said))
        else:
            self.scheduler.commit(chunk, len(said))
            sequence.tokens.extend(said)
        self._finish_if_done(sequence)

    def _finish_if_done(self, sequence: Sequence) -> None:
        submit, answer = sequence.group.submit, sequence.tokens[sequence.num_prompt :]
        if EOS in answer or len(answer) >= submit.max_tokens:
            self.scheduler.finish(sequence)
            assert not sequence.blocks
            assert answer == lone_answer(submit, sequence.index), "not what the same request is answered alone"
            self.answers[sequence.group.owner, submit.id, sequence.index] = answer
            if sequence.needs_prompt_logprobs:
                assert self.scored[sequence.group] == list(range(sequence.num_prompt))

    # What must be true of every batch

    def _cell(self, sequence: Sequence, position: int) -> Cell:
        if position < 0:
            return root(sequence.group.submit.salt)
        block, offset = divmod(position, self.pool.block_size)
        cell = self.cells[sequence.blocks[block]][offset]
        assert cell is not None, f"position {position} was never written"
        return cell

    def _check(self, batch: Batch) -> None:
        chunks = batch.chunks
        assert batch.num_tokens == sum(len(chunk.tokens) for chunk in chunks) <= self.max_batch_tokens
        assert batch.num_tokens <= batch.padded_tokens in bucket_sizes(self.max_batch_tokens)
        running = self._running()
        assert len(running) == self.scheduler.num_running
        assert sum(sequence.num_slots for sequence in running) <= self.max_sequences
        in_batch = [chunk.sequence for chunk in chunks]
        assert len(set(map(id, in_batch))) == len(in_batch), "a sequence is in the batch twice"
        assert all(sequence in running for sequence in in_batch)
        assert all(sequence in in_batch for sequence in running if not sequence.is_prefill), "a decode step is starved"
        prefills = [sequence for sequence in running if sequence.is_prefill]
        assert not prefills or min(prefills, key=lambda each: each.age) in in_batch, "prefill is starved"
        written = [block for chunk in chunks for block in self._written(chunk)]
        assert len(written) == len(set(written)), "two chunks write the same block"
        assert not any(self.pool.is_shared(block) for block in written)
        copied = {target: source for source, target in batch.copies}
        for chunk in chunks:
            (self._check_prefill if chunk.is_prefill else self._check_decode)(chunk)
            self._check_past(chunk, copied)

    def _check_keys(self) -> None:
        size = self.pool.block_size
        for sequence in self._running():
            key = root_key(sequence.group.submit.salt)
            for index, known in enumerate(sequence.keys[1:]):
                tokens = sequence.tokens[index * size : (index + 1) * size]
                key = block_key(key, tokens)
                assert key == known, "a sequence mistakes its own blocks"
                assert len(tokens) == size, "a block has a key before it is full"

    def _written(self, chunk: Chunk) -> list[int]:
        size = self.pool.block_size
        blocks = chunk.sequence.blocks[chunk.start // size : self.pool.blocks_for(chunk.end)]
        assert len(blocks) == self.pool.blocks_for(chunk.end) - chunk.start // size, "a chunk runs over its blocks"
        assert min(blocks) >= self.pool.num_reserved
        return blocks

    def _check_prefill(self, chunk: Chunk) -> None:
        sequence = chunk.sequence
        limit = sequence.num_prompt if sequence.is_seeded else len(sequence.tokens)
        assert chunk.tokens == sequence.tokens[chunk.start : chunk.end]
        assert chunk.end <= limit, "replayed output is prefilled"
        assert limit - chunk.end != 1, "a single token is left"
        assert len(chunk.tokens) >= 2 or limit == 1, "a chunk of one token"
        if not sequence.is_unscored:
            assert chunk.num_logits == (chunk.end == len(sequence.tokens))
        else:
            assert len(chunk.tokens) <= MAX_SCORED
            scored = self.scored.get(sequence.group, [])
            assert chunk.num_logits == max(0, chunk.end - max(chunk.start, len(scored)))

    def _check_decode(self, chunk: Chunk) -> None:
        sequence = chunk.sequence
        is_last = chunk.start == len(sequence.tokens) - 1
        assert chunk.start >= sequence.num_prompt
        assert chunk.tokens[0] == sequence.tokens[chunk.start]
        assert chunk.num_logits == (len(chunk.tokens) if is_last else 0)
        assert len(chunk.tokens) == 1 or not sequence.is_seeded, "a seeded sequence is guessed at"
        assert is_last or sequence.is_seeded, "output is replayed though nobody needs it exact"
        assert len(sequence.tokens) + len(chunk.tokens) - 1 < sequence.num_prompt + sequence.group.submit.max_tokens

    def _check_past(self, chunk: Chunk, copied: dict[int, int]) -> None:
        """Every position before the chunk holds its own token's cell, after the copies; a seeded one's exact bits."""
        sequence, size = chunk.sequence, self.pool.block_size
        cell = root(sequence.group.submit.salt)
        for position, token in enumerate(sequence.tokens[: chunk.start]):
            cell = after(cell, token, in_chunk=position < sequence.num_prompt > 1)
            block = sequence.blocks[position // size]
            found = self.cells[copied.get(block, block)][position % size]
            assert found is not None, f"position {position} was never written"
            assert found.text == cell.text, f"position {position} belongs to another prefix"
            assert not sequence.is_seeded or found.bits == cell.bits, f"position {position} was computed otherwise"
