from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hodios.engine.logprobs import BadLogits, prompt_alternatives


def log_softmax(logits):
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.sampled_from([1, 2, 30, 1535, 1537, 5000]), st.integers(0, 25), st.integers(0, 2**32))
def test_alternatives_are_the_true_log_probabilities(num_rows, size, num_top, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 5, (num_rows, size)).astype(np.float32)
    if seed % 2:
        logits = logits.round()
    tokens = rng.integers(0, size, num_rows).tolist()
    before = logits.copy()
    found = prompt_alternatives(logits, tokens, num_top)
    assert np.array_equal(logits, before)
    for row, (token, true, each) in enumerate(zip(tokens, log_softmax(logits), found, strict=True)):
        assert each.token_id == token
        assert each.logprob == pytest.approx(true[token], abs=3e-6)
        best = np.lexsort((np.arange(size), -logits[row]))[:num_top].tolist()
        wanted = best if token in best or not best else [*best, token]
        assert each.top_ids == wanted
        assert each.top_logprobs == pytest.approx(true[wanted].tolist(), abs=3e-6)


def test_far_apart_logits_stay_finite():
    (found,) = prompt_alternatives(np.array([[3e38, 0, -3e38]], np.float32), [1], 1)
    assert found.logprob == pytest.approx(-3e38, rel=1e-6)


def test_no_rows_have_no_alternatives():
    assert prompt_alternatives(np.empty((0, 5), np.float32), [], 3) == []


def test_broken_rows_are_named():
    logits = np.zeros((40, 9), np.float32)
    logits[33, 2] = math.nan
    with pytest.raises(BadLogits) as raised:
        prompt_alternatives(logits, [0] * 40, 2)
    assert raised.value.rows == (33,)
