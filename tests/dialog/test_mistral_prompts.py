"""Mistral's prompts and tekken's tokens, token by token against mistral-common, Mistral's own package."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conversations import ARGUMENTS
from hypothesis import given, settings
from hypothesis import strategies as st
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from mistral_files import DATA, FILES

from hodios.dialog.profile import Profile
from hodios.dialog.tokenizer import Tokenizer

VERSIONS = ("v1", "v2", "v3", "v3-tekken", "v7")
TEXT = st.text(st.sampled_from("abé你😀 \n\"'{}.,1"), min_size=1, max_size=12).filter(str.strip)
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'The "weather" é',
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
RESULT = TEXT | st.sampled_from(["22", '{"a": [1]}', "[]", "null", '"x"', "{"])
CORPUS = Path(__file__).parent.parent / "engine" / "data" / "corpus.txt"
LANGUAGES = (
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. 12.345,67 € — «naïve»",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "いろはにほへと ちりぬるを。漢字とカタカナ、123456。",
    "다람쥐 헌 쳇바퀴에 타고파. 안녕하세요!",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश",
    "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u200d \ufeff \t\r\n\r\n  \n x\u00a0y",
    "HTTPServer getURLPath iPhone mcDonald's WE'RE I'm DON'T x/y//z\n///\n",
    "def f(x):\n    return {'a': [x ** 2, 0xFF]}  # café\n\n\n\tif True:\r\n",
)


def said(role: str) -> Callable[[str], dict[str, Any]]:
    return lambda content: {"role": role, "content": content}


def called(arguments: dict[str, Any], result: str) -> list[dict[str, Any]]:
    function = {"name": "get_weather", "arguments": json.dumps(arguments)}
    call = {"id": "abcdefghi", "type": "function", "function": function}
    return [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "abcdefghi", "name": "get_weather", "content": result},
    ]


def joined(*parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message for part in parts for message in part]


USERS = st.lists(TEXT.map(said("user")), min_size=1, max_size=2)
ANSWERS = st.lists(TEXT.map(said("assistant")), min_size=1, max_size=2)
ROUNDS = st.lists(st.builds(joined, USERS, ANSWERS), max_size=2).map(lambda rounds: joined(*rounds))
SYSTEM = st.lists(TEXT.map(said("system")), max_size=2)
CHATS = st.builds(joined, SYSTEM, ROUNDS, USERS)
CALLS = st.builds(called, ARGUMENTS, RESULT)
CALLING_ROUND = st.builds(joined, USERS, CALLS, ANSWERS)
CALLING_CHATS = st.builds(joined, SYSTEM, CALLING_ROUND | ROUNDS, USERS, CALLS | st.just([]))


@pytest.fixture(scope="module")
def compare(mistral_tokenizer_of: Callable[[str], Tokenizer]) -> Callable[..., None]:
    theirs = {version: MistralTokenizer.from_file(str(DATA / FILES[version])) for version in VERSIONS}
    profiles = {
        version: Profile.for_tokenizer(
            mistral_tokenizer_of(version), lambda: datetime(2026, 1, 2, tzinfo=UTC), f"mistral-{version}"
        )
        for version in VERSIONS
    }

    def check(version: str, chat: list[dict[str, Any]], tools: list[dict[str, Any]]) -> None:
        request = ChatCompletionRequest.from_openai(chat, tools=tools or None)
        expected = theirs[version].encode_chat_completion(request).tokens
        rendered = profiles[version].render(chat, tools=tools)
        assert mistral_tokenizer_of(version).encode_rendered(rendered) == expected

    return check


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=25)
@given(chat=CHATS)
def test_chats(version: str, chat: list[dict[str, Any]], compare: Callable[..., None]) -> None:
    compare(version, chat, [])


@pytest.mark.parametrize("version", VERSIONS[1:])
@settings(max_examples=25)
@given(chat=CALLING_CHATS)
def test_chats_with_tools(version: str, chat: list[dict[str, Any]], compare: Callable[..., None]) -> None:
    compare(version, chat, [TOOL])


@pytest.fixture(scope="module", params=["v3-tekken", pytest.param("tekken-240718", marks=pytest.mark.full)])
def tekken(request: pytest.FixtureRequest, mistral_tokenizer_of: Callable[[str], Tokenizer]) -> Callable[[str], bool]:
    tokenizer = mistral_tokenizer_of(request.param)
    theirs = Tekkenizer.from_file(DATA / FILES[request.param])

    def is_same(text: str) -> bool:
        ours = tokenizer.encode(text, add_special=False, parse_special=False)
        return ours == theirs.encode(text, bos=False, eos=False)

    return is_same


def test_tekken_on_texts(tekken: Callable[[str], bool]) -> None:
    for text in (CORPUS.read_text(encoding="utf-8"), *LANGUAGES, " ".join(LANGUAGES)):
        assert tekken(text), text


@given(text=st.text(max_size=50) | st.text(st.sampled_from("aA1é你'/. \n\r\t"), max_size=30))
def test_tekken_on_any_text(text: str, tekken: Callable[[str], bool]) -> None:
    assert tekken(text)


@pytest.mark.full
@settings(max_examples=20_000)
@given(text=st.text(max_size=200))
def test_tekken_on_much_more_text(text: str, tekken: Callable[[str], bool]) -> None:
    assert tekken(text)
