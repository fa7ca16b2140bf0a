"""Bad words are found by whole words, however they are masked, and innocent ones are left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.guard import words
from hodios.guard.classifier import DATA, WORDS

LIST = words.read(DATA / WORDS)


@pytest.mark.parametrize(
    "text",
    [
        "fuck", "Fuck!", "this is shit.", "you son of a bitch", "f**k off", "what the f***", "a b*tch", "fucktastic",
        "the bitch's", "an asshole\nindeed", "motherfucking", "SHIT",
    ],
)  # fmt: skip
def test_bad_words_are_found(text: str) -> None:
    assert LIST.profanity(text) > 0.5


@pytest.mark.parametrize(
    "text",
    [
        "Scunthorpe", "Penistone and Lightwater", "Essex, Sussex and Middlesex", "assassins of the class", "cocktails",
        "Moby Dick by Melville", "Dick Van Dyke", "pussy willow", "tit for tat", "great tits", "cock-a-doodle-doo",
        "Homo sapiens", "shiitake", "analysis of a canal", "x * y ** 2", "5 % of a", "therapist", "mishit", "grape",
        "the title of the arsenal", "circumstances", "document", "Hancock", "the peacock", "matsushita", "snigger", "",
    ],
)  # fmt: skip
def test_innocent_words_are_not(text: str) -> None:
    assert LIST.hits(text) == []
    assert LIST.profanity(text) == 0


def test_phrases_count_once_and_before_their_parts() -> None:
    assert [hit.word for hit in LIST.hits("you son of a bitch and shit")] == ["son of a bitch", "shit"]


def test_worse_words_score_higher() -> None:
    assert 0.5 < LIST.profanity("crap") < LIST.profanity("fuck") < LIST.profanity("nigger") <= 1


def test_features_say_kind_number_and_part() -> None:
    assert LIST.features("a quiet afternoon").tolist() == [0.0] * words.NUM_FEATURES
    one, two = LIST.features("shit happens"), LIST.features("shit shit happens")
    excrement = words.KINDS.index("excrement")
    assert one[excrement] == two[excrement] > 0
    assert one[-2] < two[-2]
    assert one[-1] == pytest.approx(1 / 2)
    assert two[-1] == pytest.approx(2 / 3)


@given(st.text(max_size=200))
def test_no_text_is_too_odd(text: str) -> None:
    features = LIST.features(text)
    assert features.shape == (words.NUM_FEATURES,)
    assert features.min() >= 0
    assert features[:-2].max() <= 1
    assert 0 <= LIST.profanity(text) <= 1


@given(st.sampled_from([word for word in LIST if " " not in word]), st.sampled_from(["{}", "a {} b", "{}!", "«{}»"]))
def test_every_word_of_the_list_is_found(word: str, frame: str) -> None:
    assert [hit.word for hit in LIST.hits(frame.format(word))] == [word]


@given(st.sampled_from([word for word in LIST if " " not in word and word.isascii()]))
def test_a_word_within_another_is_not_found(word: str) -> None:
    if not word.startswith(words._STEMS):
        assert word not in [hit.word for hit in LIST.hits(f"x{word}q")]
