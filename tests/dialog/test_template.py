"""Renderings against a second, independent jinja environment set up as Hugging Face documents it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest
from conversations import DAY
from hypothesis import given
from hypothesis import strategies as st
from jinja_reference import expected

from hodios.dialog.template import ChatTemplate
from hodios.dialog.tokenizer import Tokenizer
from hodios.errors import InvalidRequest, UnsupportedModel

NUM_GROUPS = 6
CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "f", "arguments": {"a": "é<1>"}}}
PARAMETERS = {"type": "object", "properties": {"a": {"type": "string", "description": "x & y"}}, "required": ["a"]}
TOOLS = [{"type": "function", "function": {"name": "f", "description": 'A <tool> "é"', "parameters": PARAMETERS}}]
CHATS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hi <b>'é'</b> & \"你\""}],
    [
        {"role": "system", "content": " Be brief. "},
        {"role": "user", "content": " a "},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c\n"},
    ],
    [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "abcdefghi", "name": "f", "content": "22"},
    ],
]


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, bos_token="<s>", eos_token="</s>", clock=lambda: DAY)


def outcome(render: Callable[..., str], *args: Any, **options: Any) -> tuple[str | None, str]:
    """The text, or the words of the refusal."""
    try:
        return render(*args, **options), ""
    except (InvalidRequest, jinja2.TemplateError, TypeError) as error:
        return None, str(error)


@pytest.mark.parametrize("group", range(NUM_GROUPS))
def test_published_templates_render_as_hugging_face_renders_them(group: int, llama_cpp_models: Path) -> None:
    paths = sorted((llama_cpp_models / "templates").glob("*.jinja"))
    num_rendered = 0
    for path in paths[group::NUM_GROUPS]:
        source = path.read_text()
        ours = template(source)
        for chat, tools, add_generation_prompt in itertools.product(CHATS, (None, TOOLS), (True, False)):
            options = {"tools": tools, "add_generation_prompt": add_generation_prompt}
            theirs, refusal = outcome(expected, source, messages=chat, **options)
            text, our_refusal = outcome(ours.render, chat, **options)
            assert text == theirs
            assert refusal in our_refusal
            num_rendered += text is not None
    assert num_rendered > 100


class TestFunctions:
    CHAT = ({"role": "user", "content": "x"},)

    def test_json_keeps_order_and_characters(self) -> None:
        source = "{{ messages[0].extra | tojson }}|{{ messages[0].extra | tojson(indent=2) }}"
        extra = {"b": "<é&'>", "a": [1, None]}
        chat = [{**self.CHAT[0], "extra": extra}]
        compact = json.dumps(extra, ensure_ascii=False)
        assert template(source).render(chat) == f"{compact}|{json.dumps(extra, ensure_ascii=False, indent=2)}"

    def test_the_clock_is_the_one_that_was_given(self) -> None:
        assert template("{{ strftime_now('%d %b %Y') }}").render(self.CHAT) == "02 Jan 2026"

    def test_generation_blocks_show_their_content_in_a_scope_of_their_own(self) -> None:
        source = "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}"
        assert template(source).render(self.CHAT) == expected(source) == "21"

    def test_loops_can_be_left(self) -> None:
        source = "{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}"
        assert template("{% for i in range(9) %}" + source + "{% endfor %}").render(self.CHAT) == "023"

    def test_blocks_take_their_lines(self) -> None:
        source = "  {% if true %}\n  a\n  {% endif %}\nb\n"
        assert template(source).render(self.CHAT) == expected(source) == "  a\nb"

    def test_special_tokens_documents_and_own_variables(self, starter: Tokenizer) -> None:
        source = "{{ bos_token }}{{ eos_token }}{{ pad_token }}{{ documents[0].title }}{{ date }}{{ tools is none }}"
        ours = ChatTemplate(
            source, bos_token="B", eos_token="E", clock=lambda: DAY, special_tokens={"pad_token": "P", "bos_token": "x"}
        )
        assert ours.render(self.CHAT, documents=[{"title": "T"}], kwargs={"date": "D"}) == "BEPTDTrue"

    def test_messages_cannot_be_changed(self) -> None:
        chat = [{"role": "user", "content": "x", "list": [1]}]
        for source in ("{{ messages[0].list.append(2) }}", "{{ messages[0].update({'role': 'y'}) }}"):
            with pytest.raises(InvalidRequest, match="unsafe"):
                template(source).render(chat)
        assert chat == [{"role": "user", "content": "x", "list": [1]}]


class TestRefusals:
    CHAT = ({"role": "user", "content": "x"},)

    @pytest.mark.parametrize(
        "source", ["{% if %}", "{{ x", "{% for x in %}", "{% nope %}", "{{ " + "(" * 500, "{% endif %}"]
    )
    def test_templates_that_do_not_compile(self, source: str) -> None:
        with pytest.raises(UnsupportedModel, match="compile"):
            template(source)

    def test_the_templates_own_words(self) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            template("{{ raise_exception('Roles must alternate!') }}").render(self.CHAT)
        assert refusal.value.message == "Roles must alternate!"
        assert refusal.value.param == "messages"

    @pytest.mark.parametrize(
        "source",
        ["{{ a.b.c }}", "{{ a() }}", "{{ 1 / 0 }}", "{{ messages['x'].y }}", "{{ 'a' + 1 }}", "{{ none | length }}",
         "{{ raise_exception() }}", "{% include 'x' %}", "{% import 'os' as os %}", "{{ x | tojson }}"],
    )  # fmt: skip
    def test_operations_that_fail(self, source: str) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            template(source).render(self.CHAT)
        assert refusal.value.param == "messages"
        assert "chat template" in refusal.value.message

    @pytest.mark.parametrize(
        "name",
        [
            "messages",
            "tools",
            "documents",
            "add_generation_prompt",
            "bos_token",
            "raise_exception",
            "range",
            "namespace",
        ],
    )
    def test_kwargs_that_shadow(self, name: str) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            template("x").render(self.CHAT, kwargs={name: 1, "fine": 2})
        assert refusal.value.param == "chat_template_kwargs"
        assert name in refusal.value.message

    def test_deep_kwargs(self) -> None:
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        with pytest.raises(InvalidRequest):
            template("{{ deep | tojson }}").render(self.CHAT, kwargs={"deep": deep})


class TestContinuing:
    PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    STRIPPING = PLAIN.replace("m.content", "m.content | trim")

    def render(self, source: str, content: object) -> str:
        chat = [{"role": "user", "content": "x"}, {"role": "assistant", "content": content}]
        return template(source).render(chat, add_generation_prompt=False, continue_final_message=True)

    def test_ends_with_the_message(self) -> None:
        assert self.render(self.PLAIN, "ab ") == "<user>x</><assistant>ab "
        assert self.render(self.STRIPPING, "ab ") == "<user>x</><assistant>ab"

    def test_ends_with_the_last_part(self) -> None:
        parts = [{"type": "text", "text": "ab "}]
        source = "{% for m in messages %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endfor %}"
        chat = [{"role": "user", "content": parts}, {"role": "assistant", "content": parts}]
        options = {"add_generation_prompt": False, "continue_final_message": True}
        assert template(source).render(chat, **options) == "<ab ><ab "

    @given(st.text(min_size=1))
    def test_ends_with_any_message(self, content: str) -> None:
        assert self.render(self.PLAIN, content) == f"<user>x</><assistant>{content}"

    def test_message_that_repeats_an_earlier_one(self) -> None:
        assert self.render(self.PLAIN, "x") == "<user>x</><assistant>x"

    @pytest.mark.parametrize("content", [None, "", []])
    def test_needs_text(self, content: object) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            self.render(self.PLAIN, content)
        assert refusal.value.param == "continue_final_message"

    def test_needs_a_template_that_shows_the_message(self) -> None:
        with pytest.raises(InvalidRequest, match="cannot be continued"):
            self.render("{{ messages[0].content }}", "ab")

    def test_excludes_a_generation_prompt(self) -> None:
        with pytest.raises(InvalidRequest, match="add_generation_prompt"):
            template(self.PLAIN).render([{"role": "user", "content": "x"}], continue_final_message=True)
