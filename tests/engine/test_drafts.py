from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.engine.drafts import PromptLookup

tokens_of_few = st.lists(st.integers(0, 3), max_size=60)


@given(tokens_of_few, st.lists(tokens_of_few, max_size=4), st.integers(1, 3), st.integers(0, 3), st.integers(1, 9))
def test_every_proposal_followed_the_same_tokens_before(prompt, pieces, min_ngram, more, max_drafts):
    lookup = PromptLookup(prompt, min_ngram=min_ngram, max_ngram=min_ngram + more, max_drafts=max_drafts)
    for piece in pieces:
        lookup.extend(piece)
    tokens = prompt + [token for piece in pieces for token in piece]
    guesses = lookup.propose()
    assert len(guesses) <= max_drafts
    end = tokens[-min_ngram:]
    places = [p for p in range(min_ngram, len(tokens)) if tokens[p - min_ngram : p] == end]
    if len(tokens) < min_ngram or not places:
        assert guesses == []
        return
    assert guesses
    whole = tokens + guesses
    assert any(whole[p : p + len(guesses)] == guesses for p in places)


@given(tokens_of_few, st.integers(0, 60))
def test_the_same_sequence_gives_the_same_proposal_however_it_came(tokens, cut):
    pieces = PromptLookup(tokens[:cut])
    pieces.extend(tokens[cut:])
    assert pieces.propose() == PromptLookup(tokens).propose() == pieces.propose()


def test_the_longest_agreement_wins_and_of_equals_the_latest():
    assert PromptLookup([9, 1, 2, 50, 8, 1, 2, 60, 9, 1, 2], max_drafts=1).propose() == [50]
    assert PromptLookup([7, 1, 2, 50, 8, 1, 2, 60, 9, 1, 2], max_drafts=1).propose() == [60]


def test_a_loop_goes_on_beyond_its_own_end():
    lookup = PromptLookup([4, 5, 6, 4, 5, 6, 4], max_drafts=7)
    assert lookup.propose() == [5, 6, 4]
    lookup.report(3, 3)
    lookup.extend([5, 6, 4, 5])
    assert lookup.propose() == [6, 4, 5, 6, 4, 5, 6]


def test_failures_make_it_pause_ever_longer_and_a_success_ends_that():
    lookup = PromptLookup([1, 2] * 4)
    silences = []
    for _ in range(9):
        lookup.report(len(lookup.propose()), 0)
        silence = 0
        while not lookup.propose():
            lookup.extend([1] if silence % 2 == 0 else [2])
            silence += 1
        assert len(lookup.propose()) == 1
        silences.append(silence)
    assert silences == sorted(silences)
    assert silences[0] == 1
    assert silences[-2:] == [64, 64]
    lookup.report(1, 1)
    assert len(lookup.propose()) == 3
    lookup.report(3, 1)
    assert len(lookup.propose()) == 2
    lookup.report(0, 0)
    assert len(lookup.propose()) == 2


def test_a_long_monotonous_sequence_is_quick():
    lookup = PromptLookup([7] * 200_000)
    for _ in range(2000):
        assert lookup.propose() == [7, 7, 7]
        lookup.extend([7])


@pytest.mark.parametrize("wrong", [{"min_ngram": 0}, {"min_ngram": 5, "max_ngram": 4}, {"max_drafts": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="no guesses"):
        PromptLookup([], **wrong)


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 20))
def test_a_demanded_match_is_there_and_changes_nothing_else(tokens, least_match):
    lookup = PromptLookup(tokens)
    whole, demanding = lookup.propose(), lookup.propose(least_match)
    assert demanding in ([], whole)
    if demanding:
        end = tokens[len(tokens) - least_match :]
        places = range(least_match, len(tokens))
        assert any(tokens[place - least_match : place] == end for place in places)


def test_a_crowd_guesses_only_after_long_repetitions():
    loop = list(range(10))
    assert PromptLookup(loop + loop[:5]).propose(16) == []
    assert PromptLookup(loop * 3).propose(16)[:3] == [0, 1, 2]


def test_what_is_guessed_already_counts_as_said():
    lookup = PromptLookup([1, 2, 3, 4, 5, 1])
    assert lookup.propose() == []
    assert lookup.propose(0, [2]) == [3, 4, 5]
    assert lookup.propose(2, [2]) == [3, 4, 5]
    assert lookup.propose(3, [2]) == []
    assert lookup.propose(0, [1, 2, 9]) == []
    assert PromptLookup([4, 5, 6, 4, 5]).propose(0, [6, 4]) == [5, 6, 4]
    assert lookup.propose() == []
