from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sampling_oracle import CloseCall, distribution

from hodios.engine.grammar import GrammarFailure
from hodios.engine.sampler import BadLogits, Draw, Sampler
from hodios.types import Sampling


class FixedNumber:
    """Randomness that a test decides."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


class SetMatcher:
    """A grammar that always allows the same tokens."""

    is_finished = False

    def __init__(self, allowed) -> None:
        self.allowed = sorted(allowed)
        self.accepted: list[int] = []

    def fill_mask(self, bitmask, row) -> None:
        if not self.allowed:
            raise GrammarFailure("nothing")
        bits = np.zeros(bitmask.shape[1] * 32, np.uint8)
        bits[self.allowed] = 1
        bitmask[row] = np.packbits(bits, bitorder="little").view(np.int32)

    def accept(self, token) -> None:
        self.accepted.append(token)


def new_draw(sampling, size, *, number=0.5, prompt=(0,), output=(), ends=(), index=0, allowed=None):
    draw = Draw(
        sampling,
        prompt=list(prompt),
        eos_ids=list(ends),
        vocab_size=size,
        index=index,
        rng=FixedNumber(number),
        matcher=None if allowed is None else SetMatcher(allowed),
    )
    for token in output:
        draw.accept(token)
    return draw


def tokens_of(logits, draws):
    return [drawn.token for drawn in Sampler(logits.shape[1]).sample(logits.copy(), draws)]


def check_against_oracle(logits, sampling, **state):
    """Every token with a share gets exactly its interval of the numbers in [0, 1), in the order of ids."""
    try:
        wanted = distribution(logits, sampling, **state)
    except CloseCall:
        assume(False)
    state["allowed"] = state.pop("grammar", None)
    reached = np.cumsum(wanted)
    numbers, tokens = [0.0, 1 - 2**-53], [None, None]
    for token in np.flatnonzero(wanted > 1e-5):
        margin = min(4e-6, wanted[token] / 4)
        numbers += [max(reached[token] - wanted[token], 0.0) + margin, reached[token] - margin]
        tokens += [token, token]
    draws = [new_draw(sampling, len(logits), number=number, **state) for number in numbers]
    drawn = tokens_of(np.repeat(logits[None], len(draws), axis=0), draws)
    assert wanted[: drawn[0]].sum() <= 1e-12
    for got, token in zip(drawn, tokens, strict=True):
        assert wanted[got] > 0
        if token is not None and (wanted[token] > 1e-5):
            assert got == token


def token_lists(size, most=12):
    return st.lists(st.integers(0, size - 1), max_size=most)


@st.composite
def rows(draw, most=48):
    size = draw(st.integers(1, most))
    if draw(st.booleans()):
        logits = draw(st.lists(st.integers(-12, 12), min_size=size, max_size=size))
        return (np.array(logits) / 2).astype(np.float32)
    seed, scale = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.1, 1.0, 4.0]))
    return np.random.default_rng(seed).normal(0, scale, size).astype(np.float32)


@st.composite
def biases(draw, size):
    tokens = draw(st.lists(st.integers(0, size - 1), max_size=5, unique=True))
    return tuple((token, draw(st.sampled_from([-100.0, -3.0, 0.0, 0.5, 7.0, 100.0]))) for token in tokens)


def field(name, size):
    return {
        "temperature": st.sampled_from([0.0, 0.3, 0.7, 1.0, 1.5, 2.0]),
        "top_p": st.floats(0.01, 1.0),
        "min_p": st.floats(0.0, 1.0),
        "top_k": st.integers(0, size + 2),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "repetition_penalty": st.floats(0.5, 2.5),
        "logit_bias": biases(size),
        "min_tokens": st.integers(0, 6),
        "stop_token_ids": token_lists(size, 3).map(tuple),
    }[name]


FIELDS = [
    "temperature",
    "top_p",
    "min_p",
    "top_k",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logit_bias",
    "min_tokens",
    "stop_token_ids",
]


@st.composite
def situations(draw, names):
    logits = draw(rows())
    size = len(logits)
    sampling = Sampling(**{name: draw(field(name, size)) for name in names})
    grammar = draw(st.none() | st.sets(st.integers(0, size - 1), min_size=1, max_size=9))
    state = {name: draw(token_lists(size)) for name in ("prompt", "output")}
    return logits, sampling, state | {"ends": draw(token_lists(size, 2)), "grammar": grammar}


@pytest.mark.parametrize("name", FIELDS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_each_parameter_alone_has_the_distribution_it_promises(name, data):
    logits, sampling, state = data.draw(situations([name]))
    check_against_oracle(logits, sampling, **state)


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_parameters_together_have_the_distribution_they_promise(data):
    names = data.draw(st.lists(st.sampled_from(FIELDS), min_size=2, unique=True))
    logits, sampling, state = data.draw(situations(names))
    check_against_oracle(logits, sampling, **state)


@pytest.mark.full
@settings(max_examples=10_000, deadline=None)
@given(data=st.data())
def test_all_parameters_together_have_the_distribution_they_promise(data):
    logits, sampling, state = data.draw(situations(FIELDS))
    check_against_oracle(logits, sampling, **state)


@pytest.mark.parametrize("size", [511, 512, 513, 5000])
def test_every_block_boundary_of_a_large_vocabulary_is_reached(size):
    """One token after another carries all the weight."""
    for token in sorted({0, 1, 510, size // 2, size - 2, size - 1} | {t for t in (511, 512, 1023, 1024) if t < size}):
        logits = np.full((1, size), -200, np.float32)
        logits[0, token] = 3
        for sampling in (Sampling(), Sampling(top_p=0.9), Sampling(top_k=3), Sampling(min_p=0.1)):
            for number in (0.0, 0.5, 1 - 2**-53):
                assert tokens_of(logits, [new_draw(sampling, size, number=number)]) == [token]


COMBINATIONS = [
    Sampling(),
    Sampling(temperature=0.6),
    Sampling(top_k=5),
    Sampling(top_p=0.7),
    Sampling(min_p=0.2),
    Sampling(temperature=1.7, top_k=20, top_p=0.8, min_p=0.05),
    Sampling(repetition_penalty=1.4, frequency_penalty=0.7, presence_penalty=-0.4),
    Sampling(logit_bias=((1, 3.0), (2, -100.0)), min_tokens=10**9, stop_token_ids=(5,)),
    Sampling(logit_bias=((1, 100.0), (7, 100.0), (9, 100.0)), temperature=2.0),
]


@pytest.mark.parametrize("sampling", COMBINATIONS)
def test_twenty_thousand_draws_follow_the_distribution(sampling):
    size, num_rows, num_steps = 40, 50, 400
    logits = np.random.default_rng(5).normal(0, 1.5, size).astype(np.float32)
    state = {"prompt": [3, 4, 8, 8], "output": [1, 1, 9], "ends": [0]}
    seeded = {name: getattr(sampling, name) for name in sampling.__struct_fields__} | {"seed": 11}
    draws = [new_draw(Sampling(**seeded), size, index=index, **state) for index in range(num_rows)]
    sampler, counts = Sampler(size), np.zeros(size)
    for _ in range(num_steps):
        for drawn in sampler.sample(np.repeat(logits[None], num_rows, axis=0), draws):
            counts[drawn.token] += 1
        for draw in draws:
            draw.num_generated += 1
    wanted = distribution(logits, sampling, **state) * num_rows * num_steps
    assert not counts[wanted == 0].any()
    rare = (wanted > 0) & (wanted < 8)
    observed = np.append(counts[wanted >= 8], counts[rare].sum())
    expected = np.append(wanted[wanted >= 8], wanted[rare].sum())
    observed, expected = observed[expected > 0], expected[expected > 0]
    statistic = ((observed - expected) ** 2 / expected).sum()
    freedom = len(expected) - 1
    # Wilson and Hilferty's approximation of the 99.9 % quantile.
    assert statistic < freedom * (1 - 2 / (9 * freedom) + 3.09 * math.sqrt(2 / (9 * freedom))) ** 3


def random_sampling(rng, size):
    choose = rng.choice
    return Sampling(
        temperature=float(choose([0.0, 0.5, 1.0, 1.0, 1.3])),
        top_p=float(choose([1.0, 1.0, 0.5, 0.95, 0.999])),
        min_p=float(choose([0.0, 0.0, 0.02, 0.5])),
        top_k=int(choose([0, 0, 1, 7, 40, 300, 2000])),
        presence_penalty=float(choose([0.0, 0.0, 0.6])),
        frequency_penalty=float(choose([0.0, 0.0, -0.3])),
        repetition_penalty=float(choose([1.0, 1.0, 1.2])),
        seed=int(rng.integers(-(2**63), 2**63)),
        logit_bias=((int(rng.integers(size)), float(choose([-100.0, 2.0, 100.0]))),) if rng.random() < 0.3 else (),
        min_tokens=int(choose([0, 0, 5])),
        logprobs=[None, 0, 1, 5, 20][rng.integers(5)],
    )


@pytest.mark.parametrize(("size", "num_batches"), [(50, 60), (997, 60), (4097, 30), (49_152, 3)])
def test_a_row_is_the_same_alone_and_in_a_crowd(size, num_batches):
    rng = np.random.default_rng(size)
    sampler = Sampler(size)
    for _ in range(num_batches):
        logits = rng.normal(0, rng.uniform(0.5, 4), (17, size)).astype(np.float32)
        kept = logits.copy()

        def draws_of(seed, index, sampling):
            state = np.random.default_rng(seed)
            allowed = state.choice(size, min(size, 30), replace=False) if state.random() < 0.2 else None
            output = state.integers(0, size, 6)
            return new_draw(sampling, size, prompt=output[:3], output=output, ends=[1, 2], index=index, allowed=allowed)

        people = [(int(rng.integers(2**31)), index, random_sampling(rng, size)) for index in range(17)]
        together = sampler.sample(logits, [draws_of(*person) for person in people])
        alone = [
            Sampler(size).sample(kept[i : i + 1].copy(), [draws_of(*person)])[0] for i, person in enumerate(people)
        ]
        assert together == alone


def check_named_rows(rng, share_greedy):
    size = 997
    logits = rng.normal(0, 2, (6, size)).astype(np.float32)
    kept = logits.copy()
    numbers = sorted(rng.choice(6, int(rng.integers(1, 9))).tolist())
    kinds = [Sampling(temperature=0.8 * (rng.random() >= share_greedy), seed=int(rng.integers(2**31))) for _ in kept]
    sets = [np.sort(rng.choice(size, int(rng.choice([1, 30, 900])), replace=False)) for _ in kept]
    is_bound = rng.random(6) < 0.6

    def draw_of(index, number):
        return new_draw(kinds[number], size, index=index, allowed=sets[number] if is_bound[number] else None)

    together = Sampler(size).sample(logits, [draw_of(*each) for each in enumerate(numbers)], numbers)
    for (index, number), drawn in zip(enumerate(numbers), together, strict=True):
        assert [drawn] == Sampler(size).sample(kept[number : number + 1].copy(), [draw_of(index, number)])
        ids = sets[number] if is_bound[number] else np.arange(size)
        assert drawn.token in ids
        if kinds[number].temperature == 0:
            assert drawn.token == ids[kept[number, ids].argmax()]


@pytest.mark.parametrize("share_greedy", [0.0, 0.5, 1.0])
def test_rows_may_be_left_out_and_shared(share_greedy):
    """Guesses that were wrong leave rows out; several answers to one prompt begin at the same row."""
    rng = np.random.default_rng(int(share_greedy * 10))
    for _ in range(60):
        check_named_rows(rng, share_greedy)


def test_broken_rows_that_nobody_draws_from_are_nobodys_fault():
    logits = np.zeros((4, 9), np.float32)
    logits[[0, 2]] = math.nan
    assert len(Sampler(9).sample(logits.copy(), [new_draw(Sampling(), 9) for _ in range(2)], [1, 3])) == 2
    with pytest.raises(BadLogits) as raised:
        Sampler(9).sample(logits.copy(), [new_draw(Sampling(), 9) for _ in range(3)], [1, 2, 3])
    assert raised.value.rows == (1,)


@given(seed=st.integers(-(2**63), 2**64 - 1), index=st.integers(0, 127))
def test_every_seed_has_its_own_numbers_which_can_be_asked_for_again(seed, index):
    numbers = []
    for _ in range(2):
        draw = new_draw(Sampling(seed=seed), 10, index=index)
        mine = []
        for _ in range(70):
            mine.append(draw.uniform())
            assert mine[-1] == draw.uniform()
            draw.accept(1)
        numbers.append(mine)
    assert numbers[0] == numbers[1]
    assert len(set(numbers[0])) == 70
    assert all(0 <= number < 1 for number in numbers[0])
    assert new_draw(Sampling(seed=seed), 10, index=index + 1).uniform() != numbers[0][0]


def test_greedy_takes_the_lowest_id_of_equals_whatever_else_is_asked():
    logits = np.array([[1, 5, 5, 5, 0]], np.float32)
    assert tokens_of(logits, [new_draw(Sampling(temperature=0, top_k=3, top_p=0.1, min_p=0.5), 5)]) == [1]


def test_ties_at_a_cut_go_to_lower_ids():
    logits = np.zeros((2, 10), np.float32)
    for sampling in (Sampling(top_k=3), Sampling(top_p=0.3)):
        assert tokens_of(logits, [new_draw(sampling, 10, number=n) for n in (0.3, 0.999)]) == [0, 2]


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-38, 1e-6, 1e30, 1e300])
@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e37, 3e38])
def test_no_finite_logit_or_temperature_makes_nan(temperature, scale):
    logits = (np.array([[-1, 1, 0.5, -0.5, 0, 1]]) * scale).astype(np.float32)
    for extra in ({}, {"top_p": 0.5}, {"top_k": 2}, {"min_p": 0.3}, {"repetition_penalty": 0.01, "logprobs": 3}):
        draw = new_draw(Sampling(temperature=temperature, **extra), 6, prompt=range(6), number=0.99)
        with np.errstate(all="raise", under="ignore", over="ignore"):
            assert 0 <= tokens_of(logits, [draw])[0] < 6
        if temperature < 1e-5 and scale == 1 and not extra:
            assert tokens_of(logits, [draw]) == [5]


def test_what_would_leave_no_token_is_ignored_and_the_grammar_is_not():
    logits = np.arange(6, dtype=np.float32)[None]

    def chosen(allowed=None, ends=(), **fields):
        return tokens_of(logits, [new_draw(Sampling(temperature=0, **fields), 6, allowed=allowed, ends=ends)])[0]

    ban_all = tuple((token, -100.0) for token in range(6))
    assert chosen(logit_bias=ban_all) == 5
    assert chosen(allowed=[1, 2], logit_bias=((1, -100.0), (2, -100.0))) == 2
    assert chosen(allowed=[1, 2], logit_bias=((2, -100.0),)) == 1
    assert chosen(allowed=[1, 2], logit_bias=((4, 100.0),)) == 2
    assert chosen(allowed=[1, 2], logit_bias=((4, 100.0), (1, 100.0))) == 1
    assert chosen(allowed=[3], ends=[3], min_tokens=9) == 3
    assert chosen(ends=[5], min_tokens=1, stop_token_ids=(4,)) == 3
    assert chosen(ends=[5], logit_bias=((5, 100.0),), min_tokens=1) == 5
    assert chosen(ends=range(6), min_tokens=1) == 5


def test_min_tokens_counts_what_was_accepted():
    draw = new_draw(Sampling(temperature=0, min_tokens=2), 3, ends=[2])
    chosen = []
    for _ in range(3):
        chosen += tokens_of(np.array([[0, 1, 2]], np.float32), [draw])
        draw.accept(chosen[-1])
    assert chosen == [1, 1, 2]
    assert draw.num_generated == 3


def test_broken_logits_name_their_rows_and_leave_everything_as_it_was():
    for bad in (math.nan, math.inf, -math.inf):
        logits = np.random.default_rng(1).normal(size=(5, 700)).astype(np.float32)
        logits[1, 699] = bad
        logits[3, :] = bad
        before = logits.copy()
        rng = np.random.default_rng(3)
        draws = [new_draw(Sampling(presence_penalty=1, logprobs=2), 700, output=[1]) for _ in range(5)]
        for draw in draws:
            draw._rng = rng
        with pytest.raises(BadLogits) as raised:
            Sampler(700).sample(logits, draws)
        assert raised.value.rows == (1, 3)
        assert np.array_equal(logits, before, equal_nan=True)
        assert rng.random() == np.random.default_rng(3).random()


def test_a_failing_grammar_leaves_the_logits_as_they_were():
    logits = np.ones((2, 40), np.float32)
    draws = [new_draw(Sampling(presence_penalty=1), 40, output=[1]), new_draw(Sampling(), 40, allowed=[])]
    with pytest.raises(GrammarFailure):
        Sampler(40).sample(logits, draws)
    assert (logits == 1).all()


def test_logprobs_are_of_the_untouched_distribution():
    logits = np.array([[0.0, 1.0, 2.0, 3.0]], np.float32)
    sampling = Sampling(temperature=0, logit_bias=((0, 100.0),), repetition_penalty=2.0, logprobs=2)
    (drawn,) = Sampler(4).sample(logits.copy(), [new_draw(sampling, 4, prompt=[1, 2, 3])])
    true = logits[0] - math.log(np.exp(logits[0].astype(np.float64)).sum())
    assert drawn.token == drawn.logprobs.token_id == 0
    assert drawn.logprobs.logprob == pytest.approx(true[0], abs=1e-6)
    assert drawn.logprobs.top_ids == [3, 2, 0]
    assert drawn.logprobs.top_logprobs == pytest.approx([true[3], true[2], true[0]], abs=1e-6)


def test_the_smallest_cases():
    assert Sampler(3).sample(np.empty((0, 3), np.float32), []) == []
    for sampling in (Sampling(), Sampling(top_p=0.1), Sampling(min_p=1.0), Sampling(top_k=1), Sampling(logprobs=20)):
        assert tokens_of(np.zeros((1, 1), np.float32), [new_draw(sampling, 1)]) == [0]
    with pytest.raises(ValueError, match="logits are"):
        Sampler(3).sample(np.empty((1, 4), np.float32), [new_draw(Sampling(), 3)])
