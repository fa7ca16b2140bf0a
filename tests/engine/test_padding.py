from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.engine.padding import leave_out_guesses
from hodios.engine.scheduler import Batch, Chunk
from hodios.engine.shapes import round_rows


def batch_of(*nums_guesses: int, num_prompt: int = 0) -> Batch:
    batch = Batch()
    sequence = SimpleNamespace(is_seeded=False)
    for number in nums_guesses:
        batch.add(Chunk(sequence, 9, list(range(1 + number)), 1 + number, is_prefill=False))
    if num_prompt:
        batch.add(Chunk(sequence, 0, [0] * num_prompt, 1, is_prefill=True))
    return batch


@pytest.mark.parametrize(
    ("nums_guesses", "row_cost", "left"),
    [
        ([1, 0, 0, 0, 0, 0, 0, 0], 0.65, [0] * 8),
        ([1, 0, 0, 0, 0, 0, 0, 0], 0.05, [1] + [0] * 7),
        ([2, 1, 0, 0, 0, 0, 0, 0], 0.65, [2, 1] + [0] * 6),
        ([4, 0, 0, 0, 0, 0, 0, 0], 1.0, [4] + [0] * 7),
        ([4, 1, 0, 0, 0, 0, 0, 0], 1.0, [3, 1] + [0] * 6),
        ([1, 0, 0, 0, 0], 1.0, [1, 0, 0, 0, 0]),
        ([4], 0.9, [3]),
        ([1], 0.9, [1]),
    ],
)
def test_guesses_go_where_padding_costs_more_than_they_save(nums_guesses, row_cost, left):
    batch = batch_of(*nums_guesses)
    leave_out_guesses(batch, row_cost)
    assert [len(chunk.tokens) - 1 for chunk in batch.chunks] == left
    assert [chunk.num_logits - 1 for chunk in batch.chunks] == left
    assert batch.num_tokens == sum(left) + len(left)


def test_prompts_fill_a_step_and_so_guesses_stay():
    batch = batch_of(1, *[0] * 7, num_prompt=20)
    leave_out_guesses(batch, 1.0)
    assert [len(chunk.tokens) for chunk in batch.chunks] == [2, *[1] * 7, 20]


@given(st.lists(st.integers(0, 7), min_size=1, max_size=30), st.floats(-1, 3))
def test_everybody_keeps_a_row_and_the_padding_never_grows(nums_guesses, row_cost):
    batch = batch_of(*nums_guesses)
    padded = batch.padded_tokens
    leave_out_guesses(batch, row_cost)
    assert all(1 <= len(chunk.tokens) == chunk.num_logits for chunk in batch.chunks)
    assert batch.num_tokens == sum(len(chunk.tokens) for chunk in batch.chunks) >= len(nums_guesses)
    assert batch.padded_tokens in (padded, round_rows(batch.num_tokens))
    assert batch.padded_tokens <= padded
    for chunk, number in zip(batch.chunks, nums_guesses, strict=True):
        assert chunk.tokens == list(range(1 + number))[: len(chunk.tokens)]
