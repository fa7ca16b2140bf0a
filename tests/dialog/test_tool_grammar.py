"""Under the grammar of tools every finished answer is what the formats' own parsers read as text or as valid calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from random_walk import Walker

from hodios.dialog.formats.registry import FORMATS
from hodios.dialog.pieces import CallArguments, CallName, Content, LeftOut, Thought
from hodios.dialog.reasoning import ReasoningParser
from hodios.dialog.tokenizer import Tokenizer
from hodios.dialog.tool_grammar import ToolGrammar, tool_grammar
from hodios.errors import InvalidRequest
from hodios.types import Grammar, Tool

NODE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "next": {"$ref": "#/$defs/node"}},
    "required": ["value"],
    "additionalProperties": False,
}
TOOLS = (
    Tool(
        "get_weather",
        parameters={
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 9},
                "unit": {"enum": ["celsius", "</tool_call>", "}]", '"; ', "[/TOOL_CALLS]", "</function>", "é\n🙂"]},
                "when": {"type": "string", "format": "date"},
            },
            "required": ["unit"],
            "additionalProperties": False,
        },
    ),
    Tool("get"),
    Tool(
        "list",
        parameters={
            "type": "object",
            "properties": {"first": {"$ref": "#/$defs/node"}},
            "$defs": {"node": NODE},
            "required": ["first"],
            "additionalProperties": False,
        },
    ),
    Tool(
        "either",
        parameters={
            "oneOf": [
                {"properties": {"kind": {"const": "a"}, "x": {"type": "number"}}, "required": ["kind", "x"]},
                {"properties": {"kind": {"const": "b"}}, "required": ["kind"]},
            ],
            "type": "object",
        },
    ),
)
NAMES = (
    'say "hi"',
    "back\\slash",
    "</tool_call>",
    "ünï\n🙂",
    "// no comment",
    "@part",
    "<[1]>",
    "a/b",
    "'",
    "[x]",
    "(",
)
HOSTILE = tuple(
    Tool(name, parameters={"type": "object", "properties": {name: {"const": name}}, "required": [name]})
    for name in NAMES
)
OPENINGS = {
    "hermes": ("<tool_call>",),
    "generic": ("<tool_call>",),
    "mistral": ("[TOOL_CALLS]",),
    "llama3": ('{"name": "', "<function="),
}
MARKS = ("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[CALL_ID]", "<think>", "</think>")
NUMBER = Grammar("json_schema", '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}')
YES = Grammar("lark", 'start: "yes"')
FREE_TEXT = (
    "",
    " ",
    "Hello there.",
    "Is 1 < 2? <b>Yes</b>, and <tool_ca is no tag.\n\n```json\n[1, 2]\n```",
    "Zoë said: 你好 🙂 \\ \" ' \t \r\n [TOOL_CALL <|python_ta <function = [get_weather] }{",
    '{"temperature": 22.5, "name": "Paris"} is the answer',
    "[1, 2, 3]",
    "[get_weather](https://example.org)",
)


@pytest.fixture(scope="module")
def plain(starter: Tokenizer) -> Walker:
    """No marker is one token."""
    return Walker(starter)


@pytest.fixture(scope="module")
def marked(vocabulary_metadata: Callable[[str], dict[str, Any]]) -> Walker:
    """Llama 3's vocabulary, in which the markers of every format but Mistral's latest are control tokens."""
    metadata = dict(vocabulary_metadata("llama-bpe"))
    spare = [token for token in metadata["tokenizer.ggml.tokens"] if token.startswith("<|reserved_special_token_")]
    names = dict(zip(spare, MARKS, strict=False)) | {spare[-1]: "<|python_tag|>"}
    metadata["tokenizer.ggml.tokens"] = [names.get(token, token) for token in metadata["tokenizer.ggml.tokens"]]
    return Walker(Tokenizer.from_gguf(metadata))


@pytest.fixture(scope="module")
def spaced(llama2: Tokenizer) -> Walker:
    """SentencePiece, whose texts begin with a space of their own."""
    return Walker(llama2)


@pytest.fixture(params=["plain", "marked"])
def walker(request: pytest.FixtureRequest) -> Walker:
    found: Walker = request.getfixturevalue(request.param)
    return found


def make(walker: Walker, format_name: str, tools: Sequence[Tool] = TOOLS, **options: Any) -> ToolGrammar:
    options = {"choice": "auto", "is_parallel": True} | options
    return tool_grammar(format_name, tools, control_id=walker.tokenizer.control_id, **options)


def grammar_of(walker: Walker, format_name: str, tools: Sequence[Tool] = TOOLS, **options: Any) -> Grammar:
    made = make(walker, format_name, tools, **options)
    assert made.grammar is not None
    assert made.warnings == ()
    return made.grammar


def read(
    format_name: str, tools: Sequence[Tool], text: str, opened: str = ""
) -> tuple[str, str, list[tuple[str, dict[str, Any]]]]:
    """Thoughts, content and calls, which are valid."""
    parser = ReasoningParser(FORMATS[format_name].parser(tools, is_trusted=True), opened=opened)
    pieces = [*parser.push(text), *parser.finish()]
    assert not [piece for piece in pieces if isinstance(piece, LeftOut)], text
    names = [piece.name for piece in pieces if isinstance(piece, CallName)]
    texts = ["" for _ in names]
    for piece in pieces:
        if isinstance(piece, CallArguments):
            texts[piece.number] += piece.text
    calls = []
    for name, arguments in zip(names, map(json.loads, texts), strict=True):
        (tool,) = (tool for tool in tools if tool.name == name)
        Draft202012Validator({"type": "object"} | tool.parameters).validate(arguments)
        calls.append((name, arguments))
    content = "".join(piece.text for piece in pieces if isinstance(piece, Content))
    return "".join(piece.text for piece in pieces if isinstance(piece, Thought)), content, calls


@pytest.mark.parametrize("is_parallel", [True, False])
@pytest.mark.parametrize("tool_name", ["", "list"])
@pytest.mark.parametrize("format_name", FORMATS)
def test_calls_that_must_be_made_are_valid_from_the_first_token(walker, format_name, tool_name, is_parallel):
    grammar = grammar_of(walker, format_name, choice="required", tool_name=tool_name, is_parallel=is_parallel)
    answers = [answer for seed in range(12) if (answer := walker.answer(grammar, seed)) is not None]
    assert len(answers) > 3
    for answer in answers:
        _, content, calls = read(format_name, TOOLS, answer)
        assert content == ""
        assert calls
        assert is_parallel or len(calls) == 1
        assert not tool_name or {name for name, _ in calls} == {tool_name}


@pytest.mark.parametrize("format_name", FORMATS)
def test_sentence_piece_vocabularies_call_too(spaced, format_name):
    for options in ({"choice": "required"}, {}):
        grammar = grammar_of(spaced, format_name, **options)
        answers = [answer for seed in range(12) if (answer := spaced.answer(grammar, seed)) is not None]
        assert len(answers) > 3
        for answer in answers:
            assert bool(read(format_name, TOOLS, answer)[2]) or not options


@pytest.mark.parametrize("format_name", FORMATS)
def test_text_is_free_until_a_call_begins(walker, format_name):
    grammar = grammar_of(walker, format_name)
    for opening in OPENINGS[format_name]:
        said = "" if opening.startswith("{") else "Let me see. "
        for seed in range(8):
            answer = walker.answer(grammar, seed, begin=said + opening)
            if answer is not None:
                _, content, calls = read(format_name, TOOLS, answer)
                assert content == said.rstrip()
                assert calls


@pytest.mark.parametrize("format_name", FORMATS)
def test_random_text_is_read_as_text_or_as_valid_calls(walker, format_name):
    grammar = grammar_of(walker, format_name)
    for seed in range(40):
        answer = walker.answer(grammar, seed, begin=["", "{", "[", " \n", "<"][seed % 5], most=40)
        if answer is not None:
            read(format_name, TOOLS, answer)


@pytest.mark.parametrize("text", FREE_TEXT)
@pytest.mark.parametrize("format_name", FORMATS)
def test_text_may_say_anything_and_end_anywhere(walker, format_name, text):
    grammar = grammar_of(walker, format_name)
    assert walker.accepts(grammar, text)
    assert read(format_name, TOOLS, text)[1:] == (text, [])


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_very_form_of_the_format_is_accepted(walker, format_name):
    arguments = ({"city": "Zoë", "unit": "celsius", "when": "2026-02-28"}, {"any": [1, {"thing": None}]})
    calls = [
        {"id": f"abcdefgh{i}", "function": {"name": name, "arguments": each}}
        for i, (name, each) in enumerate(zip(("get_weather", "get"), arguments, strict=True))
    ]
    written = FORMATS[format_name].write_calls(calls)
    for choice in ("auto", "required"):
        assert walker.accepts(grammar_of(walker, format_name, choice=choice), written)
        assert not walker.accepts(grammar_of(walker, format_name, choice=choice), written.replace("celsius", "kelvin"))
        assert not walker.accepts(grammar_of(walker, format_name, choice=choice), written + " And then")
        assert not walker.accepts(grammar_of(walker, format_name, choice=choice, is_parallel=False), written)
        one = FORMATS[format_name].write_calls(calls[:1])
        assert walker.accepts(grammar_of(walker, format_name, choice=choice, is_parallel=False), one)
    assert not walker.accepts(grammar_of(walker, format_name, choice="required"), "Hello")


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_answer_does_not_end_within_a_call(walker, format_name):
    grammar = grammar_of(walker, format_name)
    call = {"id": "abcdefgh1", "function": {"name": "get_weather", "arguments": {"unit": "celsius"}}}
    written = FORMATS[format_name].write_calls([call])
    for end in range(written.index("name") + len('name": "'), len(written)):
        assert not walker.accepts(grammar, written[:end])


@pytest.mark.parametrize("format_name", FORMATS)
def test_hostile_names_are_called_as_they_are(walker, format_name):
    for tool in HOSTILE:
        grammar = grammar_of(walker, format_name, HOSTILE, choice="required", tool_name=tool.name, is_parallel=False)
        answers = [walker.answer(grammar, seed) for seed in range(3)]
        for answer in answers:
            if answer is not None:
                assert [name for name, _ in read(format_name, HOSTILE, answer)[2]] == [tool.name]
    grammar_of(walker, format_name, HOSTILE)


@pytest.mark.parametrize("content", [NUMBER, Grammar("json_object"), Grammar("regex", "yes|no"), YES], ids=str)
@pytest.mark.parametrize("format_name", FORMATS)
def test_an_answer_of_a_given_form_or_calls(walker, format_name, content):
    grammar = grammar_of(walker, format_name, content=content)
    call = {"id": "abcdefgh1", "function": {"name": "get", "arguments": {}}}
    assert walker.accepts(grammar, FORMATS[format_name].write_calls([call]))
    assert not walker.accepts(grammar, "Hello")
    assert walker.accepts(grammar, "yes" if content.kind in ("regex", "lark") else '{"n": 12}')
    for seed in range(4):
        answer = walker.answer(grammar, seed)
        if answer is not None:
            _, text, calls = read(format_name, TOOLS, answer)
            assert bool(text) != bool(calls)
            if text and content is NUMBER:
                assert isinstance(json.loads(text)["n"], int)


@pytest.mark.parametrize("format_name", FORMATS)
def test_thoughts_come_first_and_calls_in_them_are_text(walker, format_name):
    call = FORMATS[format_name].write_calls([{"id": "abcdefgh1", "function": {"name": "get", "arguments": {}}}])
    free = grammar_of(walker, format_name, thoughts=("think",))
    must = grammar_of(walker, format_name, thoughts=("think",), choice="required")
    begun = grammar_of(walker, format_name, thoughts=("think",), choice="required", opened="think")
    thought = "<think>\nHm, {[ <tool_call>nothing</tool_call> \n</think>\n\n"
    if walker.tokenizer.control_id("<tool_call>") is not None:
        thought = "<think>\nHm, {[ \n</think>\n\n"
    assert walker.accepts(free, f"{thought}{call}")
    assert walker.accepts(must, f"{thought}{call}")
    assert walker.accepts(must, call)
    assert walker.accepts(begun, f"Hm\n</think>\n\n{call}")
    assert not walker.accepts(must, thought)
    assert not walker.accepts(begun, call)
    assert walker.accepts(free, f"{thought}Hello.")
    assert walker.accepts(free, "<think>never ended")
    assert read(format_name, TOOLS, f"{thought}{call}")[2] == [("get", {})]


def test_without_tools_the_form_of_the_content_is_all_there_is(plain):
    for options in ({"choice": "none"}, {"tools": ()}):
        assert make(plain, "hermes", content=NUMBER, **options) == ToolGrammar(NUMBER)
        assert make(plain, "hermes", **options) == ToolGrammar(None)
        after_a_thought = make(plain, "hermes", content=NUMBER, opened="think", **options).grammar
        assert plain.accepts(after_a_thought, 'Hm.</think>\n\n{"n": 1}')
        assert not plain.accepts(after_a_thought, '{"n": 1}')


UNSUPPORTED = Tool("odd", parameters={"properties": {"a/b": {"type": "array", "uniqueItems": True}}})


def test_of_a_schema_that_cannot_be_followed_the_rest_holds(plain):
    made = make(plain, "hermes", (*TOOLS, UNSUPPORTED))
    (warning,) = made.warnings
    assert warning.param == "tools[4].function.parameters"
    assert "'odd'" in warning.message
    assert "#/properties/a~1b/uniqueItems" in warning.message
    call = '<tool_call>\n{"name": "odd", "arguments": %s}\n</tool_call>'
    assert plain.accepts(made.grammar, call % '{"a/b": [1, 1]}')
    for wrong in ('{"a/b": 1}', '{"c": 1}', "[]"):
        assert not plain.accepts(made.grammar, call % wrong)


def test_where_leaving_out_does_not_help_arguments_are_any_object(plain):
    for parameters in ({"type": "string"}, {"properties": {"a": {"const": "\x1f"}}}):
        made = make(plain, "hermes", (*TOOLS, Tool("odd", parameters=parameters)))
        (warning,) = made.warnings
        assert "an object and nothing more" in warning.message
        call = '<tool_call>\n{"name": "odd", "arguments": %s}\n</tool_call>'
        assert plain.accepts(made.grammar, call % '{"b": [1, 1]}')
        assert not plain.accepts(made.grammar, call % "[]")


@pytest.mark.parametrize(
    ("tool", "options"),
    [
        (UNSUPPORTED, {"choice": "required"}),
        (UNSUPPORTED, {"choice": "required", "tool_name": "odd"}),
        (Tool("odd", parameters=UNSUPPORTED.parameters, strict=True), {}),
        (Tool("odd", parameters={"type": "string"}), {"choice": "required"}),
        (Tool("odd"), {"choice": "required", "refused": {"tools[0].function.parameters": "uniqueItems and 'odd'"}}),
    ],
)
def test_where_it_must_be_followed_it_is_refused_with_its_place(plain, tool, options):
    with pytest.raises(InvalidRequest, match=r"'odd'") as raised:
        make(plain, "hermes", (tool,), **options)
    assert raised.value.param == "tools[0].function.parameters"


def test_other_tools_do_not_matter_where_one_is_named(plain):
    assert make(plain, "hermes", (UNSUPPORTED, *TOOLS), choice="required", tool_name="get").warnings == ()
    with pytest.raises(InvalidRequest, match="no tool 'none'"):
        make(plain, "hermes", choice="required", tool_name="none")


def test_what_only_compiling_finds_out_is_blamed_on_the_tool(plain):
    tools = (*TOOLS, Tool("odd", parameters={"properties": {"a": {"pattern": "(("}}}))
    grammar = grammar_of(plain, "hermes", tools)
    with pytest.raises(InvalidRequest, match="#/properties/a/pattern: ") as raised:
        plain.compiler.compile(grammar)
    assert raised.value.param == "tools[4].function.parameters"
    made = make(plain, "hermes", tools, refused={raised.value.param: raised.value.message})
    assert [warning.param for warning in made.warnings] == [raised.value.param]
    plain.compiler.compile(made.grammar)


def test_a_hundred_large_tools_compile(plain):
    kinds = (
        {"type": "string"},
        {"type": "integer", "minimum": 3},
        {"enum": ["one", "other"]},
        {"type": "array", "items": {"type": "number"}},
        {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        {"type": "object", "properties": {"x": {"type": "string", "pattern": "^[a-z]+$"}}, "required": ["x"]},
    )
    tools = [
        Tool(
            f"tool_{i}",
            parameters={"type": "object", "properties": {f"field_{i}_{k}": kinds[k % 6] for k in range(32)}},
        )
        for i in range(100)
    ]
    assert sum(len(json.dumps(tool.parameters)) for tool in tools) > 200_000
    grammar = grammar_of(plain, "hermes", tools)
    written = '<tool_call>\n{"name": "tool_99", "arguments": {"field_99_1": 3, "field_99_4": null}}\n</tool_call>'
    assert plain.accepts(grammar, f"Well: {written}")
    assert not plain.accepts(grammar, written.replace('_1": 3', '_1": 2'))


def test_arguments_that_no_schema_names_are_not_made_up() -> None:
    plain = Tool(name="now", parameters={"type": "object", "properties": {}})
    open_ended = Tool(name="log", parameters={"type": "object", "properties": {}, "additionalProperties": True})
    unknown = Tool(name="any")
    for tool, is_closed in ((plain, True), (open_ended, False), (unknown, False)):
        ruled = tool_grammar("hermes", [tool], choice="required", control_id=lambda _: None)
        assert ruled.grammar is not None
        text = str(ruled.grammar).replace(" ", "")
        assert ('"additionalProperties":false' in text or r"\"additionalProperties\":false" in text) == is_closed


def test_objects_within_arguments_hold_named_properties_alone_and_each_once(plain):
    point = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}}
    parameters = {
        "type": "object",
        "properties": {
            "from": point,
            "via": {"type": "array", "items": {"$ref": "#/$defs/point"}},
            "odd": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["b"]},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
        "$defs": {"point": point},
    }
    grammar = grammar_of(plain, "hermes", [Tool("go", parameters=parameters)], choice="required")

    def accepts(arguments: str) -> bool:
        return plain.accepts(grammar, f'<tool_call>\n{{"name": "go", "arguments": {arguments}}}\n</tool_call>')

    assert accepts('{"from": {"x": 1, "y": 2}, "via": [{"x": 1}], "odd": {"b": 1}, "map": {"n": 1}}')
    for wrong in (
        '{"to": 1}',
        '{"from": {"z": 1}}',
        '{"from": {"x": 1, "x": 2}}',
        '{"from": {"x": 1}, "from": {"x": 1}}',
        '{"via": [{"x": 1, "z": 1}]}',
        '{"via": [{"x": 1, "\\u0078": 1}]}',
        '{"odd": {"b": 1, "b": 2}}',
        '{"map": {"n": "1"}}',
    ):
        assert not accepts(wrong), wrong
