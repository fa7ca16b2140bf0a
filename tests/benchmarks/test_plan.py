"""Prompts and the list of measurements."""

import json
import re

import llguidance
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import plan, prompts
from benchmarks.tasks import Answers, Decode, FirstTokens, Prefill

TEXTS = {"corpus": list(range(100, 3900)), "request": [1, 2, 3]}


@given(st.integers(1, 70), st.integers(1, 200), st.integers(0, 500))
def test_windows_are_stretches_of_the_text_that_begin_differently(count: int, length: int, spare: int) -> None:
    text = list(range(count + length + spare))
    found = prompts.windows(text, count, length)
    assert len({window[0] for window in found}) == count
    assert all(window == text[window[0] : window[0] + length] for window in found)


def test_a_text_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="10 tokens of text"):
        prompts.windows(list(range(10)), 8, 5)


def test_sharing_prompts_share_exactly_their_prefix() -> None:
    sharing = prompts.shared_prefix(TEXTS["corpus"], 16, 2000, 32)
    assert {len(prompt) for prompt in sharing} == {2032}
    assert len({tuple(prompt[:2000]) for prompt in sharing}) == 1
    assert len({prompt[2000] for prompt in sharing}) == 16


def test_a_repeating_prompt_ends_within_the_passage() -> None:
    assert prompts.repeating(list(range(16)), 8, 3) == [*range(8), *range(8), *range(8), 0]


def test_random_prompts_share_no_beginning_and_keep_to_the_vocabulary() -> None:
    found = prompts.random_prompts(np.random.default_rng(0), 50, 64, 1000)
    assert len({tuple(prompt[:32]) for prompt in found}) == 50
    assert 100 <= min(map(min, found)) <= max(map(max, found)) < 1000


def test_the_schema_is_one_that_the_grammar_library_takes() -> None:
    grammar = llguidance.LLMatcher.grammar_from_json_schema(prompts.people_schema())
    assert json.loads(prompts.people_schema())["required"] == ["people"]
    assert llguidance.LLMatcher.validate_grammar(grammar) == ""


@pytest.mark.parametrize("is_quick", [False, True])
def test_every_ratio_is_about_something_that_is_measured(is_quick: bool) -> None:
    measured = plan.measurements(49152, TEXTS, is_quick=is_quick)
    kept = {(subject, figure) for each in measured for subject in each.subjects for figure in each.figures.values()}
    asked = {side for ratio in plan.ratios() for side in (ratio.ours, ratio.theirs) if side is not None}
    assert asked <= kept
    assert {figure for _, figure in kept} == set(plan.units())
    names = [ratio.name for ratio in plan.ratios()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


def test_prompts_are_new_in_each_round_where_a_cache_might_help() -> None:
    first = plan.measurements(49152, TEXTS, is_quick=False)[0]
    assert first.task(0) != first.task(1)
    assert first.task(1) == first.task(1)


def test_peers_are_asked_only_what_their_drivers_know() -> None:
    for measurement in plan.measurements(49152, TEXTS, is_quick=False):
        task = measurement.task(0)
        if set(measurement.subjects) & {plan.LLAMACPP, plan.BEST, plan.VLLM}:
            assert isinstance(task, Prefill | Decode)
        else:
            assert isinstance(task, Decode | FirstTokens | Answers)


def test_streams_take_their_prompts_from_the_front_of_one_list() -> None:
    tasks = [each.task(0) for each in plan.measurements(49152, TEXTS, is_quick=False) if each.name[:8] == "streams-"]
    longest = max((task.prompts for task in tasks if isinstance(task, Decode)), key=len)
    assert len(longest) == 64
    assert all(isinstance(task, Decode) and task.prompts == longest[: len(task.prompts)] for task in tasks)
