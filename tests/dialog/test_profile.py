"""One model's dialog as its users see it: the prompts of published conversations, and what is put into them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conversations import FileTokens, clock
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja_reference import expected

from hodios.dialog.formats.registry import FORMATS
from hodios.dialog.guard import Guard, Rendered
from hodios.dialog.profile import Profile
from hodios.dialog.tokenizer import Tokenizer
from hodios.errors import InvalidRequest, UnsupportedModel, UnsupportedParameter
from hodios.types import Tool

CARD_TEMPLATE = "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use"
PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
CALL = {"function": {"name": "f", "arguments": '{"a": 1}'}}
TOOL = Tool("f", "does", {"type": "object", "properties": {"a": {"type": "integer"}}})
QUESTION = [{"role": "user", "content": "q"}]


def card_tools() -> list[dict[str, Any]]:
    """The two functions of the Hermes 2 Pro card, as `get_json_schema` describes them."""
    location = {
        "type": "string",
        "description": 'The location to get the temperature for, in the format "City, Country"',
    }
    unit = {
        "type": "string",
        "enum": ["celsius", "fahrenheit"],
        "description": "The unit to return the temperature in.",
    }

    def tool(name: str, description: str, properties: dict[str, Any], returns: str) -> dict[str, Any]:
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        function = {"name": name, "description": description, "parameters": parameters}
        return {"type": "function", "function": function | {"return": {"type": "number", "description": returns}}}

    return [
        tool(
            "get_current_temperature",
            "Get the current temperature at a location.",
            {"location": location, "unit": unit},
            "The current temperature at the specified location in the specified units, as a float.",
        ),
        tool(
            "get_current_wind_speed",
            "Get the current wind speed in km/h at a given location.",
            {"location": location},
            "The current wind speed at the given location in km/h, as a float.",
        ),
    ]


CARD_CHAT = [
    {"role": "user", "content": "Hey, what's the temperature in Paris right now?"},
    {
        "role": "assistant",
        "tool_calls": [
            {
                "type": "function",
                "function": {
                    "name": "get_current_temperature",
                    "arguments": {"location": "Paris, France", "unit": "celsius"},
                },
            }
        ],
    },
    {"role": "tool", "name": "get_current_temperature", "content": "22.0"},
]


class TestHermesCard:
    def templates(self, sources: dict[str, str]) -> FileTokens:
        chatml = (
            "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
        )
        return FileTokens({"default": chatml, "tool_use": sources[CARD_TEMPLATE]})

    @pytest.mark.parametrize("num_messages", [1, 3])
    @pytest.mark.parametrize("is_built_in", [False, True])
    def test_conversation(self, num_messages: int, is_built_in: bool, template_sources: dict[str, str]) -> None:
        tokens = FileTokens({}) if is_built_in else self.templates(template_sources)
        profile = Profile.for_tokenizer(tokens, clock, "hermes" if is_built_in else None)
        chat, tools = CARD_CHAT[:num_messages], card_tools()
        text = profile.render(chat, tools=tools).text
        source = template_sources[CARD_TEMPLATE]
        assert text == expected(source, messages=chat, tools=tools, add_generation_prompt=True)
        assert "get_current_temperature(location: str, unit: str) -> float - Get the current" in text
        if num_messages == 3:
            assert text.endswith(
                '<|im_start|>assistant\n<tool_call>\n{"name": "get_current_temperature", "arguments": '
                '{"location": "Paris, France", "unit": "celsius"}}\n</tool_call><|im_end|>\n'
                "<|im_start|>tool\n<tool_response>\n22.0\n</tool_response><|im_end|><|im_start|>assistant\n"
            )

    def test_as_clients_of_the_api_send_it(self, template_sources: dict[str, str]) -> None:
        profile = Profile.for_tokenizer(self.templates(template_sources), clock)
        function = {"name": "get_current_temperature", "arguments": '{"location":"Paris, France","unit":"celsius"}'}
        sent = [
            {"role": "user", "content": [{"type": "text", "text": CARD_CHAT[0]["content"]}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "x", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "x", "content": "22.0"},
        ]
        texts = [profile.render(chat, tools=card_tools()).text for chat in (CARD_CHAT, sent)]
        assert texts[0] == texts[1]

    def test_without_tools_the_other_template_is_used(self, template_sources: dict[str, str]) -> None:
        profile = Profile.for_tokenizer(self.templates(template_sources), clock)
        assert profile.format.name == "hermes"
        assert profile.render(QUESTION).text == "<s><|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n"
        assert profile.render(CARD_CHAT).text.endswith(
            '<|im_start|>assistant\n<tool_call>\n{"name": "get_current_temperature", "arguments": '
            '{"location": "Paris, France", "unit": "celsius"}}\n</tool_call><|im_end|>\n<|im_start|>tool\n'
            '<tool_response>\n{"name": "get_current_temperature", "content": 22.0}\n</tool_response><|im_end|>\n'
            "<|im_start|>assistant\n"
        )

    def test_words_beside_a_call_are_kept(self, template_sources: dict[str, str]) -> None:
        """The template leaves them out."""
        profile = Profile.for_tokenizer(self.templates(template_sources), clock)
        chat = [*QUESTION, {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}]
        assert profile.render(chat, tools=[TOOL], add_generation_prompt=False).text.endswith(
            '<|im_start|>assistant\nLet me see.\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
            "<|im_end|>\n"
        )

    def test_schema(self, template_sources: dict[str, str]) -> None:
        profile = Profile.for_tokenizer(self.templates(template_sources), clock)
        text = profile.render(QUESTION, schema='{"type": "object"}').text
        mode = (
            "You are a helpful assistant that answers in JSON. Here's the json schema you must adhere to:\n"
            '<schema>\n{"type": "object"}\n</schema>'
        )
        assert text.startswith(f"<s><|im_start|>system\n{mode}<|im_end|>\n<|im_start|>user\nq")
        chat = [{"role": "system", "content": "Be brief."}, *QUESTION]
        text = profile.render(chat, schema='{"type": "object"}').text
        assert text.startswith(f"<s><|im_start|>system\nBe brief.\n\n{mode}<|im_end|>\n<|im_start|>user\nq")


def profile_of(source: str, **more: str) -> Profile:
    return Profile.for_tokenizer(FileTokens({"default": source} | more), clock)


class TestNamedTemplates:
    def test_by_what_is_asked(self) -> None:
        profile = profile_of("plain", tool_use="tools", rag="documents")
        documents = [{"title": "t", "text": "x"}]
        assert profile.render(QUESTION).text == "plain"
        assert profile.render(QUESTION, tools=[TOOL]).text == "tools"
        assert profile.render(QUESTION, documents=documents).text == "documents"
        assert profile.render(QUESTION, tools=[TOOL], documents=documents).text == "tools"
        assert profile.template_source == "plain"

    def test_that_do_not_compile(self) -> None:
        with pytest.raises(UnsupportedModel, match="compile"):
            profile_of("plain", tool_use="{% if %}")


class TestWhatTemplatesDoNotKnow:
    def test_tools_are_told_in_the_system_message(self) -> None:
        told = FORMATS["generic"].instructions([TOOL], is_parallel=True)
        assert profile_of(PLAIN).render(QUESTION, tools=[TOOL]).text == f"<system>{told}<user>q"
        chat = [{"role": "system", "content": "S"}, *QUESTION]
        assert profile_of(PLAIN).render(chat, tools=[TOOL]).text == f"<system>S\n\n{told}<user>q"

    def test_at_most_one_call(self) -> None:
        told = FORMATS["generic"].instructions([TOOL], is_parallel=False)
        assert told in profile_of(PLAIN).render(QUESTION, tools=[TOOL], is_parallel=False).text

    def test_calls_and_results_are_text(self) -> None:
        chat = [
            *QUESTION,
            {"role": "assistant", "content": "hm", "tool_calls": [CALL, CALL]},
            {"role": "tool", "content": "1"},
            {"role": "tool", "content": "no JSON"},
        ]
        call = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
        results = [
            f'<tool_result>\n{{"name": "f", "content": {content}}}\n</tool_result>' for content in ("1", '"no JSON"')
        ]
        assert (
            profile_of(PLAIN).render(chat).text == f"<user>q<assistant>hm\n{call}\n{call}<user>{chr(10).join(results)}"
        )

    def test_results_that_look_like_markup_are_still_values(self) -> None:
        """The list's bracket is also what markup begins with."""
        tokens = FileTokens({"default": PLAIN}, frozenset({"[INST]", "<s>"}))
        chat = [*QUESTION, {"role": "tool", "name": "f", "content": '["<s>", [1]]'}]
        text = Profile.for_tokenizer(tokens, clock).render(chat).text
        assert '{"name": "f", "content": ["<s>", [1]]}' in text

    def test_documents(self) -> None:
        text = profile_of(PLAIN).render(QUESTION, documents=[{"title": "é", "text": "x"}, {"title": "b"}]).text
        assert text == (
            '<system>Answer with the help of these documents:\n{"title": "é", "text": "x"}\n{"title": "b"}<user>q'
        )
        assert (
            profile_of("{% if documents %}{{ documents[0].text }}{% endif %}{{ messages[0].content }}")
            .render(QUESTION, documents=[{"title": "t", "text": "x"}])
            .text
            == "xq"
        )

    def test_a_schema(self) -> None:
        text = profile_of(PLAIN).render(QUESTION, schema="{}").text
        assert text == "<system>Answer with JSON that adheres to this JSON schema, and with nothing else:\n{}<user>q"

    def test_no_system_role(self, published_profiles: dict[str, Profile]) -> None:
        chat = [{"role": "system", "content": "S"}, *QUESTION, {"role": "assistant", "content": "a"}, *QUESTION]
        text = published_profiles["google-gemma-2-2b-it"].render(chat).text
        assert text == (
            "<s><start_of_turn>user\nS\n\nq<end_of_turn>\n<start_of_turn>model\na<end_of_turn>\n"
            "<start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\n"
        )

    def test_several_calls_at_once(self, published_profiles: dict[str, Profile]) -> None:
        ids = [CALL | {"id": id} for id in ("one", "two")]
        chat = [
            *QUESTION,
            {"role": "assistant", "tool_calls": ids},
            {"role": "tool", "tool_call_id": "two", "content": "second"},
            {"role": "tool", "tool_call_id": "one", "content": "first"},
        ]
        text = published_profiles["meta-llama-Llama-3.1-8B-Instruct"].render(chat, tools=[TOOL]).text
        call = '<|start_header_id|>assistant<|end_header_id|>\n\n{"name": "f", "parameters": {"a": 1}}<|eot_id|>'
        results = [f'<|start_header_id|>ipython<|end_header_id|>\n\n"{word}"<|eot_id|>' for word in ("first", "second")]
        assert f"{call}{results[0]}{call}{results[1]}<|start_header_id|>assistant" in text

    def test_ids_that_are_too_long(self, published_profiles: dict[str, Profile]) -> None:
        profile = published_profiles["mistralai-Mistral-Nemo-Instruct-2407"]
        calls = [CALL | {"id": "call_0123456789"}, CALL | {"id": "abcdefghi"}, CALL]
        chat = [
            *QUESTION,
            {"role": "assistant", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "call_0123456789", "content": "1"},
        ]
        text = profile.render(chat).text
        id = text.partition('"call_id": "')[2][:9]
        assert id.isalnum()
        assert text.count(f'"{id}"') == 2
        assert '"id": "abcdefghi"' in text
        assert text == profile.render(chat).text


class TestThoughts:
    def test_that_the_generation_prompt_opens(self, template_sources: dict[str, str]) -> None:
        source = template_sources["deepseek-ai-DeepSeek-R1-Distill-Llama-8B"]
        assert profile_of(source).render(QUESTION).opens_thought == "think"
        assert profile_of(source).render(QUESTION, add_generation_prompt=False).opens_thought == ""

    def test_that_it_opens_and_closes(self, published_profiles: dict[str, Profile]) -> None:
        profile = published_profiles["Qwen-Qwen3-0.6B"]
        assert profile.render(QUESTION).opens_thought == ""
        off = profile.render(QUESTION, kwargs={"enable_thinking": False})
        assert off.text.endswith("<think>\n\n</think>\n\n")
        assert off.opens_thought == ""

    @pytest.mark.parametrize(
        ("content", "opened"),
        [
            ("<think>hm", "think"),
            ("<think>hm</think>a", ""),
            ("<scratch_pad>\nx", "scratch_pad"),
            ("<think>a</think><think>b", "think"),
            ("a", ""),
        ],
    )
    def test_that_an_unfinished_answer_has_opened(self, content: str, opened: str) -> None:
        profile = Profile.for_tokenizer(FileTokens({}), clock, "hermes")
        chat = [*QUESTION, {"role": "assistant", "content": content}]
        options = {"add_generation_prompt": False, "continue_final_message": True}
        assert profile.render(chat, **options).opens_thought == opened

    def test_a_client_cannot_open_one_at_the_end(self) -> None:
        profile = profile_of("{% for m in messages %}{{ m.content }}{% endfor %}")
        assert profile.render([{"role": "user", "content": "<think>"}]).opens_thought == ""


@pytest.fixture(scope="module")
def starter_profile(starter: Tokenizer) -> Profile:
    return Profile.for_tokenizer(starter, clock)


class TestTokens:
    def test_starter_model(self, starter: Tokenizer) -> None:
        rendered = Profile.for_tokenizer(starter, clock).render([{"role": "user", "content": "Hi"}])
        assert rendered.text == (
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        )
        tokens = starter.encode_rendered(rendered)
        assert tokens.count(1) == 3
        assert starter.decode(tokens, skip_special=False) == rendered.text

    @given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=20)), min_size=1))
    def test_starter_model_shows_any_content_as_it_is(
        self, starter_profile: Profile, turns: list[tuple[str, str]]
    ) -> None:
        chat = [{"role": role, "content": content} for role, content in turns]
        expected_turns = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
        assert starter_profile.render(chat, add_generation_prompt=False).text.endswith(expected_turns)

    def test_markers_are_shown(self, hermes: Tokenizer) -> None:
        shown = {hermes.token_text(id) for id in Profile.for_tokenizer(hermes, clock).shown_ids}
        assert {"<tool_call>", "</tool_call>"} <= shown
        assert "<|im_end|>" not in shown
        assert Profile.for_family("hermes", clock).shown_ids == frozenset()

    def test_base_models(self, tokenizer_of: Callable[[str], Tokenizer]) -> None:
        with pytest.raises(UnsupportedParameter):
            Profile.for_tokenizer(tokenizer_of("gpt-2"), clock)
        llama2 = Profile.for_tokenizer(tokenizer_of("llama-spm"), clock)
        assert llama2.render([{"role": "user", "content": "Hi"}]).text == "<s>[INST] Hi [/INST]"

    @pytest.mark.parametrize("name", ["starter", "llama-spm", "qwen2", "llama-bpe", "phi-3", "gpt-neox"])
    @settings(max_examples=30)
    @given(
        text=st.lists(st.sampled_from(["<|im_start|>", "</s>", "<s>", "<|end|>", "  ", "a b", "é", "\n"])).map("".join)
    )
    def test_text_of_a_template_is_encoded_whole(
        self, name: str, text: str, tokenizer_of: Callable[[str], Tokenizer]
    ) -> None:
        tokenizer = tokenizer_of(name)
        rendered = Rendered(text, "\uf000", Guard((), ()))
        tokens = tokenizer.encode(text, add_special=False)
        if tokenizer.add_bos and tokens[:1] != [tokenizer.bos_id]:
            tokens.insert(0, tokenizer.bos_id)
        assert tokenizer.encode_rendered(rendered) == tokens

    def test_lone_surrogates(self, starter: Tokenizer) -> None:
        with pytest.raises(InvalidRequest, match="surrogate"):
            starter.encode_rendered(
                Profile.for_tokenizer(starter, clock).render([{"role": "user", "content": "a\udc80"}])
            )


class TestRefusals:
    def test_a_templates_own_words(self) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            profile_of("{{ raise_exception('Never!') }}").render(QUESTION)
        assert refusal.value.message == "Never!"

    def test_bounds_are_met_once(self) -> None:
        with pytest.raises(InvalidRequest, match="longer"):
            profile_of("{{ 'x' * 99999999 }}").render(QUESTION)

    def test_variables_that_shadow(self) -> None:
        with pytest.raises(InvalidRequest) as refusal:
            profile_of(PLAIN).render(QUESTION, kwargs={"messages": 1})
        assert refusal.value.param == "chat_template_kwargs"

    def test_the_date_can_be_set(self) -> None:
        assert profile_of("{{ date_string }}").render(QUESTION).text == "02 Jan 2026"
        assert profile_of("{{ date_string }}").render(QUESTION, kwargs={"date_string": "now"}).text == "now"
