"""Built-in templates beside the published ones, and published ones beside themselves in an independent environment."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest
from conversations import ARGUMENTS, NAMES, PARAMETERS, WORD, FileTokens, clock
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja_reference import expected

from hodios.dialog.families import FAMILIES, family_of_template, find_family
from hodios.dialog.formats.writing import to_json
from hodios.dialog.messages import normalize, tool_definitions
from hodios.dialog.profile import Profile
from hodios.errors import UnsupportedParameter
from hodios.types import Tool

NUM_GROUPS = 4
HERMES = "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use"
META = ("meta-llama-Llama-3.1-8B-Instruct", "meta-llama-Llama-3.2-3B-Instruct", "meta-llama-Llama-3.3-70B-Instruct")
WITH_TOOLS = {
    "hermes": (HERMES, "Qwen-Qwen2.5-7B-Instruct", "Qwen-QwQ-32B", "Qwen-Qwen3-0.6B", "ibm-granite-granite-4.0"),
    "llama3": META,
    "mistral": (
        *("mistralai-Mistral-Nemo-Instruct-2407", "Mistral-Small-3.2-24B-Instruct-2506"),
        *("mistralai-Ministral-3-14B-Reasoning-2512", "unsloth-mistral-Devstral-Small-2507"),
    ),
}
"""Published templates that write calls as one of our formats does."""
FORGETS_SYSTEM = "mistralai-Mistral-Nemo-Instruct-2407"
"""It leaves out the system message unless the last turn is the user's; we show it in the user's last turn."""


def said(role: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda content: {"role": role, "content": content}, WORD)


def called(arguments: dict[str, Any], result: str) -> list[dict[str, Any]]:
    call = {"id": "abcdefghi", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "abcdefghi", "name": "f", "content": result},
    ]


def joined(*parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for part in parts for message in part]


SYSTEM = st.lists(said("system"), max_size=1)
USER = said("user").map(lambda message: [message])
ANSWER = said("assistant").map(lambda message: [message])
ROUND = st.builds(joined, USER, ANSWER)
CALLING_ROUND = st.builds(joined, USER, st.builds(called, ARGUMENTS, WORD), ANSWER)
CHATS = st.builds(joined, SYSTEM, st.lists(ROUND, max_size=2).map(lambda rounds: joined(*rounds)), USER)
CALLING_CHATS = st.builds(
    joined,
    SYSTEM,
    st.lists(ROUND | CALLING_ROUND, max_size=2).map(lambda rounds: joined(*rounds)),
    USER,
    st.just([]) | st.builds(called, ARGUMENTS, WORD),
)
TOOLS = st.lists(st.builds(Tool, NAMES, WORD, PARAMETERS), min_size=1, max_size=2)


def compare(
    profile: Profile, source: str, chat: list[dict[str, Any]], tools: list[Tool], *, add_generation_prompt: bool
) -> bool:
    """Whether `source` could render it at all."""
    options = {"add_generation_prompt": add_generation_prompt}
    try:
        text = expected(source, messages=normalize(chat), tools=tool_definitions(tools) or None, **options)
    except (jinja2.TemplateError, TypeError, RecursionError):
        return False
    assert profile.render(chat, tools=tools, **options).text == text
    return True


@pytest.mark.parametrize("name", [name for names in WITH_TOOLS.values() for name in names])
@settings(max_examples=20)
@given(chat=CALLING_CHATS, tools=TOOLS, add=st.booleans())
def test_published_templates_with_tools(
    name: str,
    chat: Any,
    tools: Any,
    add: bool,
    template_sources: dict[str, str],
    published_profiles: dict[str, Profile],
) -> None:
    if name == FORGETS_SYSTEM and chat[-1]["role"] != "user":
        chat = [message for message in chat if message["role"] != "system"]
    compare(published_profiles[name], template_sources[name], chat, tools, add_generation_prompt=add)


def test_a_template_that_forgets_the_system_message(published_profiles: dict[str, Profile]) -> None:
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "q"}, *called({}, "22")]
    assert "[INST]S\n\nq[/INST][TOOL_CALLS]" in published_profiles[FORGETS_SYSTEM].render(chat).text


@pytest.mark.parametrize("group", range(NUM_GROUPS))
@settings(max_examples=10)
@given(chat=CHATS, add=st.booleans())
def test_published_templates(
    group: int, chat: Any, add: bool, template_sources: dict[str, str], published_profiles: dict[str, Profile]
) -> None:
    for name in list(template_sources)[group::NUM_GROUPS]:
        compare(published_profiles[name], template_sources[name], chat, [], add_generation_prompt=add)


@pytest.fixture(scope="module")
def built_in() -> dict[str, Profile]:
    return {name: Profile.for_tokenizer(FileTokens({}), clock, name) for name in FAMILIES if FAMILIES[name].template}


@given(chat=CALLING_CHATS, tools=TOOLS, add=st.booleans())
def test_hermes_writes_what_its_published_template_writes(
    chat: Any, tools: Any, add: bool, template_sources: dict[str, str], built_in: dict[str, Profile]
) -> None:
    is_rendered = compare(built_in["hermes"], template_sources[HERMES], chat, tools, add_generation_prompt=add)
    assert is_rendered or '"null"' in str(to_json(tool_definitions(tools))), "it goes round in circles at null"


@pytest.mark.parametrize("name", META)
@settings(max_examples=50)
@given(chat=CALLING_CHATS, tools=TOOLS | st.just([]), add=st.booleans())
def test_llama3_writes_what_its_published_templates_write(
    name: str, chat: Any, tools: Any, add: bool, template_sources: dict[str, str], built_in: dict[str, Profile]
) -> None:
    assert compare(built_in["llama3"], template_sources[name], chat, tools, add_generation_prompt=add)


CHAT = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c"},
]
WRITTEN = {
    "chatml": "<s><|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
    "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n",
    "llama2": "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] b </s><s>[INST] c [/INST]",
    "mistral-v1": "<s> [INST] S\n\na [/INST] b</s> [INST] c [/INST]",
    "mistral-v2": "<s>[INST] a[/INST] b</s>[INST] S\n\nc[/INST]",
    "mistral-v3": "<s>[INST] a[/INST] b</s>[INST] S\n\nc[/INST]",
    "mistral-v3-tekken": "<s>[INST]a[/INST]b</s>[INST]S\n\nc[/INST]",
    "mistral-v7": "<s>[SYSTEM_PROMPT] S[/SYSTEM_PROMPT][INST] a[/INST] b</s>[INST] c[/INST]",
    "mistral-v7-tekken": "<s>[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST]a[/INST]b</s>[INST]c[/INST]",
    "alpaca": "<s>S\n\n### Instruction:\na\n\n### Response:\nb\n\n### Instruction:\nc\n\n### Response:\n",
    "vicuna": "<s>S USER: a ASSISTANT: b</s>USER: c ASSISTANT:",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_families_without_a_published_template(name: str, built_in: dict[str, Profile]) -> None:
    assert built_in[name].render(CHAT).text == WRITTEN[name]
    as_text, num_broken = Profile.for_family(name, clock).render(CHAT).neutralised()
    assert num_broken == 0
    assert as_text == (WRITTEN[name].removeprefix("<s>"))


def test_stop_strings(built_in: dict[str, Profile]) -> None:
    assert built_in["alpaca"].stop_strings == ("### Instruction:",)
    assert built_in["chatml"].stop_strings == ("<|im_end|>",)
    with_token = FileTokens({}, frozenset({"<|im_start|>", "<|im_end|>"}))
    assert Profile.for_tokenizer(with_token, clock).stop_strings == ()


class TestChoice:
    def family(self, *markup: str, is_sentence_piece: bool = False, model: str = "") -> tuple[str, str]:
        tokens = FileTokens({}, frozenset(markup))
        tokens.is_sentence_piece = is_sentence_piece
        profile = Profile.for_tokenizer(tokens, clock, model=model)
        return profile.family.name, profile.format.name

    def test_by_vocabulary(self) -> None:
        assert self.family("<|im_start|>", is_sentence_piece=True) == ("chatml", "generic")
        assert self.family("<|im_start|>", "<tool_call>") == ("hermes", "hermes")
        assert self.family(is_sentence_piece=True) == ("llama2", "generic")
        assert self.family("[INST]", is_sentence_piece=True) == ("mistral-v3", "mistral")

    @pytest.mark.parametrize(
        ("model", "family"),
        [
            ("NousResearch/Nous-Hermes-Llama2-13b", "alpaca"),
            ("chronos-hermes-13b-v2", "alpaca"),
            ("nousresearch/hermes-2-pro-llama-3-8b", "hermes"),
            ("NousResearch/Hermes-3-Llama-3.1-8B", "hermes"),
            ("teknium/OpenHermes-2.5-Mistral-7B", "chatml"),
            ("lmsys/vicuna-13b-v1.5", "vicuna"),
            ("meta-llama/Meta-Llama-3-8B-Instruct", "llama3"),
            ("meta-llama/Llama-Guard-3-8B", "llama-guard3"),
            ("meta-llama/Llama-2-7b-chat-hf", "llama2"),
            ("mistralai/Mistral-7B-Instruct-v0.2", "mistral-v1"),
            ("mistralai/Mistral-7B-Instruct-v0.3", "mistral-v3"),
            ("mistralai/Mistral-Nemo-Instruct-2407", "mistral-v3-tekken"),
        ],
    )
    def test_by_the_models_name(self, model: str, family: str) -> None:
        assert self.family(model=model)[0] == family

    def test_nothing_to_go_by(self) -> None:
        with pytest.raises(UnsupportedParameter, match="/v1/completions"):
            self.family(model="gpt2")

    @pytest.mark.parametrize("format", WITH_TOOLS)
    def test_by_what_the_template_writes(self, format: str, published_profiles: dict[str, Profile]) -> None:
        assert {published_profiles[name].format.name for name in WITH_TOOLS[format]} == {format}

    @pytest.mark.parametrize(
        ("name", "family"),
        [
            (HERMES, "hermes"),
            ("Qwen-Qwen3-0.6B", "hermes"),
            (META[0], "llama3"),
            ("mistralai-Mistral-Nemo-Instruct-2407", "mistral-v3"),
            ("Mistral-Small-3.2-24B-Instruct-2506", "mistral-v7"),
            ("google-gemma-2-2b-it", "other"),
        ],
    )
    def test_family_of_a_template(self, name: str, family: str, template_sources: dict[str, str]) -> None:
        assert family_of_template(template_sources[name]).name == family

    def test_a_name_overrides_the_file(self) -> None:
        profile = Profile.for_tokenizer(FileTokens({"default": "x"}), clock, "alpaca")
        assert profile.render(CHAT).text == WRITTEN["alpaca"]

    def test_a_name_that_is_none(self) -> None:
        with pytest.raises(UnsupportedParameter, match=r"'alpacca'.*alpaca"):
            find_family("alpacca")
