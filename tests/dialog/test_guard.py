"""Markup in clients' text: broken wherever it could be found. What templates write, and other text, is as it was."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.dialog.guard import Guard, Rendered, choose_sentinel, pattern_of

TOKENS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]", "PAD", "_<EOT>", "＜｜x｜＞")
TEXTS = ("### Instruction:", "USER:", "<<SYS>>")
GUARD = Guard(TOKENS, TEXTS)
PATTERN = re.compile(pattern_of(TOKENS))
FRAGMENTS = sorted({piece for text in (*TOKENS, *TEXTS) for piece in (text, text[:1], text[:-1], text[1:], text[-1])})
HOSTILE = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=5).map("".join)


@given(
    st.lists(st.sampled_from(["a", "ab", "abc", "b", "bca", "c.", "[", "<|", "<|x"])), st.text("abc.[<|x", max_size=12)
)
def test_a_pattern_finds_the_longest_of_the_texts_at_the_first_place(texts: list[str], text: str) -> None:
    expected = []
    position = 0
    while position < len(text):
        found = max((one for one in texts if text.startswith(one, position)), key=len, default="")
        if found:
            expected.append(found)
        position += len(found) or 1
    assert re.findall(pattern_of(texts), text) == expected


@given(HOSTILE, HOSTILE)
def test_clients_markup_is_text_and_the_templates_is_markup(hostile: str, other: str) -> None:
    sentinel = choose_sentinel([hostile, other])
    first, second = GUARD.protect([hostile, other], sentinel)
    rendered = Rendered(f"<s>{first}<|im_end|>{second}[INST]", sentinel, Guard(TOKENS, ()))
    pieces = list(rendered.pieces(PATTERN))
    assert [text for text, is_markup in pieces if is_markup] == ["<s>", "<|im_end|>", "[INST]"]
    assert "".join(text for text, _ in pieces) == rendered.text == f"<s>{hostile}<|im_end|>{other}[INST]"


@given(HOSTILE)
def test_what_is_sent_as_text_holds_no_markup_of_the_client(hostile: str) -> None:
    sentinel = choose_sentinel([hostile])
    text, num_broken = Rendered(f"<s>{GUARD.protect(hostile, sentinel)}</s>", sentinel, GUARD).neutralised()
    assert len(re.findall(pattern_of((*TOKENS, *TEXTS)), text)) == 2
    found = re.findall(pattern_of((*TOKENS, *TEXTS)), hostile)
    assert num_broken >= bool(found)
    assert text.replace(" ", "") == f"<s>{hostile}</s>".replace(" ", "")
    if not num_broken:
        assert text == f"<s>{hostile}</s>"


def test_markup_without_a_token_is_altered_visibly_and_counted() -> None:
    sentinel = choose_sentinel([])
    safe = GUARD.protect("a ### Instruction: <<SYS>> USER: </s>", sentinel)
    rendered = Rendered(f"### Instruction:\n{safe}", sentinel, GUARD)
    assert rendered.num_altered == 3
    plain = "".join(text for text, _ in rendered.pieces(PATTERN))
    assert plain == "### Instruction:\na ### Instruction : <<SYS> > USER : </s>"
    assert rendered.neutralised() == (plain.replace("</s>", "</s >"), 4)


@pytest.mark.parametrize("leave_out", ["/think", "\n", "x"])
def test_leaving_out_text_makes_no_markup(leave_out: str) -> None:
    """Some templates take words out of messages."""
    hostile = f"<|im_{leave_out}end|>{leave_out}<{leave_out}s>"
    sentinel = choose_sentinel([hostile])
    rendered = Rendered(GUARD.protect(hostile, sentinel).replace(leave_out, ""), sentinel, GUARD)
    assert rendered.text == "<|im_end|><s>"
    assert not any(is_markup for _, is_markup in rendered.pieces(PATTERN))


@pytest.mark.parametrize(
    ("before", "text"), [("<", "s>"), ("<", "s"), ("x<|im", "_end|>"), ("[IN", "ST]"), ("_", "<EOT>")]
)
def test_markup_that_begins_in_the_template(before: str, text: str) -> None:
    guard = Guard(TOKENS, (), contexts=[f"tool {before}"])
    safe = guard.protect(text, "\uf000")
    rendered = Rendered(f"{before}{safe}>", "\uf000", guard)
    assert rendered.text == f"{before}{text}>"
    assert not any(is_markup for _, is_markup in rendered.pieces(PATTERN))


def test_strings_are_protected_wherever_they_are() -> None:
    value = {"<s>": ["<s>", {"a": ("<s>", 1, None, True)}]}
    assert GUARD.protect(value, "!") == {"<!s>": ["<!s>", {"a": ["<!s>", 1, None, True]}]}


def test_allowed_markup_stays() -> None:
    assert GUARD.protect("<s><|im_end|></s>", "!", allowed=["<s>", "</s>"]) == "<s><!|im_end|></s>"


class TestSentinel:
    @given(st.lists(st.text(st.sampled_from("\uf000\uf001\uf002a"), max_size=4)))
    def test_occurs_nowhere(self, texts: list[str]) -> None:
        sentinel = choose_sentinel([{text: [text]} for text in texts])
        assert not any(sentinel in text for text in texts)

    def test_its_escape_occurs_nowhere(self) -> None:
        assert choose_sentinel([json.dumps("\uf000")]) == "\uf001"

    def test_escapes_are_read_back(self) -> None:
        """Some templates write JSON in ASCII."""
        safe = json.dumps(GUARD.protect("<s>", "\uf000"))
        assert Rendered(safe, "\uf000", GUARD).text == '"<s>"'

    def test_a_request_that_uses_them_up(self) -> None:
        everything = "".join(map(chr, range(0xE000, 0xF900)))
        assert choose_sentinel([everything]) == chr(0xF0000)
