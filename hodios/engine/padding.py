"""Which guesses are worth the rows that a step is padded to. Knows no model."""

from __future__ import annotations

from hodios.engine.scheduler import Batch
from hodios.engine.shapes import floor_rows, round_rows

MEASURED_ROWS = 16
"""Of so many rows `Runner.row_cost` tells the share that rows have in a step's time."""


def leave_out_guesses(batch: Batch, row_cost: float) -> None:
    """Take guesses out of a batch where these, even if all are right, cost more than they save.

    A step of nine rows, eight of them sure, is padded to twelve: the one guess costs four rows. Prompts fill what is
    left of a step, so nothing is done where there is one. Whoever has most guesses gives up the last.
    """
    if any(chunk.is_prefill for chunk in batch.chunks):
        return
    fewer = max(floor_rows(batch.num_tokens), round_rows(len(batch.chunks)))
    # In rows: what a step costs before it has any.
    fixed = MEASURED_ROWS * (1.0 / min(max(row_cost, 0.01), 1.0) - 1.0)
    if batch.num_tokens * (fixed + fewer) >= fewer * (fixed + batch.padded_tokens):
        return
    while batch.num_tokens > fewer:
        place, chunk = max(enumerate(batch.chunks), key=lambda each: len(each[1].tokens))
        batch.chunks[place] = chunk._replace(tokens=chunk.tokens[:-1], num_logits=chunk.num_logits - 1)
        batch.num_tokens -= 1
