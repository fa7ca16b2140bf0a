"""What was judged is known again, no text is kept, and nothing grows without end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hodios.guard.memory import Memory


def fixed(secret: bytes) -> Memory:
    return Memory(4, random=lambda num: secret * num)


def test_what_was_put_is_known_by_the_same_text_alone() -> None:
    memory = Memory()
    digest, known = memory.look_up("calm")
    assert known is None
    memory.put(digest, {"hate": 0.25})
    assert memory.look_up("calm") == (digest, {"hate": 0.25})
    assert memory.look_up("calm ")[1] is None
    memory.clear()
    assert memory.look_up("calm") == (digest, None)


def test_a_digest_tells_nothing_without_the_secret() -> None:
    assert fixed(b"a").look_up("calm")[0] == fixed(b"a").look_up("calm")[0]
    assert fixed(b"a").look_up("calm")[0] != fixed(b"b").look_up("calm")[0]
    assert Memory().look_up("calm")[0] != Memory().look_up("calm")[0]


def test_no_text_is_kept() -> None:
    memory = Memory()
    digest, _ = memory.look_up("a secret that nobody is to know")
    memory.put(digest, {"hate": 0.1})
    assert "secret that" not in repr(vars(memory))


@given(st.lists(st.text(max_size=3), max_size=60))
def test_it_holds_what_was_asked_for_last_and_no_more_than_it_may(texts: list[str]) -> None:
    memory = fixed(b"s")
    for number, text in enumerate(texts):
        digest, known = memory.look_up(text)
        if known is None:
            memory.put(digest, {"hate": float(number)})
        assert memory.look_up(text)[1] is not None
        assert len(memory) <= 4
    if len(texts) > 1:
        assert memory.look_up(texts[-2])[1] is not None


def test_halves_of_characters_are_texts_too() -> None:
    memory = Memory()
    assert memory.look_up("\ud800")[0] != memory.look_up("\ud801")[0]
