from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.engine.draw import Draw, TokenCounts
from hodios.errors import InvalidRequest
from hodios.types import Sampling


def new_draw(sampling, prompt=(0,), size=10):
    rng = np.random.default_rng(1)
    return Draw(sampling, prompt=prompt, eos_ids=[99], vocab_size=size, index=0, rng=rng, matcher=None)


@given(st.lists(st.integers(0, 30)), st.lists(st.integers(0, 300), max_size=400))
def test_counts_are_those_of_the_whole_list(start, later):
    counts = TokenCounts(start)
    for token in later:
        counts.add(token)
    assert dict(zip(counts.ids.tolist(), counts.counts.tolist(), strict=True)) == Counter(start + later)


@pytest.mark.parametrize("token", [-1, 10, 2**40])
def test_a_bias_outside_the_vocabulary_is_refused(token):
    with pytest.raises(InvalidRequest, match="logit_bias") as raised:
        new_draw(Sampling(logit_bias=((token, 1.0),)))
    assert raised.value.param == "logit_bias"


@pytest.mark.parametrize("token", [-1, 10])
def test_a_prompt_outside_the_vocabulary_is_refused_where_it_would_be_looked_up(token):
    with pytest.raises(InvalidRequest, match="prompt"):
        new_draw(Sampling(repetition_penalty=1.1), prompt=[1, token])


def test_end_tokens_outside_the_vocabulary_do_no_harm():
    draw = new_draw(Sampling(min_tokens=2, stop_token_ids=(-3, 4, 10**6)))
    assert draw.forbidden.tolist() == [4]


def test_without_a_seed_the_shared_generator_decides():
    shared = np.random.default_rng(1)
    assert [new_draw(Sampling()).uniform(), new_draw(Sampling()).uniform()] == [shared.random()] * 2
    draw = new_draw(Sampling())
    assert draw.uniform() != draw.uniform()
