"""`hodios chat --schema`: answers in JSON of a form that the user has written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Said, ScriptedServer
from scripted_upstream import HANG, Reply, called, chunk, event, said
from terminal import Terminal

Chat = Callable[..., Said]

MODELS = '''
from __future__ import annotations
from dataclasses import dataclass, field
from typing import Literal, NotRequired, Optional, TypedDict
import pydantic


class Line(pydantic.BaseModel):
    text: str
    amount: int = pydantic.Field(ge=1)


class Invoice(pydantic.BaseModel):
    """A bill."""
    lines: list[Line]
    note: Optional[str] = None

    @pydantic.field_validator("lines")
    @classmethod
    def _has_lines(cls, lines):
        if not lines:
            raise ValueError("a bill has lines")
        return lines


@dataclass
class Tree:
    """A tree."""
    kind: Literal["leaf", "branch"]
    below: list[Tree] = field(default_factory=list)
    label: str | None = None

    def __post_init__(self):
        if self.kind == "leaf" and self.below:
            raise ValueError("nothing hangs below a leaf")


class Search(TypedDict):
    words: list[str]
    limit: NotRequired[int]


class Outer:
    class Inner(TypedDict):
        x: int


Words = list[str]
RAW = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
WRONG = {"type": "objekt"}
NUMBER = 5
'''
BILL = {"lines": [{"text": "tea – été", "amount": 2}], "note": None}


@pytest.fixture(autouse=True)
def models(hodios_home: Path, tmp_path: Path) -> Path:
    """In the working directory."""
    path = tmp_path / "my_models.py"
    path.write_text(MODELS)
    (tmp_path / "point.json").write_text(
        '{"type": "object", "required": ["x"], "properties": {"x": {"type": "integer"}}}'
    )
    return path


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        ("my_models:Invoice", BILL),
        ("my_models.py:Invoice", BILL),
        ("./my_models.py:Invoice", BILL),
        ("my_models:Tree", {"kind": "branch", "below": [{"kind": "leaf", "label": None}]}),
        ("my_models:Search", {"words": ["a"], "limit": 2}),
        ("my_models:Outer.Inner", {"x": 1}),
        ("my_models:Words", ["a", "b"]),
        ("my_models:RAW", {"x": 1, "y": 2}),
        ("point.json", {"x": 1}),
    ],
)
def test_an_answer_of_the_form_is_printed_well(scripted: ScriptedServer, chat: Chat, schema: str, answer: Any) -> None:
    scripted.replies = [said(json.dumps(answer))]
    ended = chat("--schema", schema, "Make one.")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == json.dumps(answer, indent=2, ensure_ascii=False) + "\n"
    (body,) = scripted.chats
    form = body["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["name"] in ("Invoice", "Tree", "Search", "Inner", "Words", "RAW", "point")
    assert "nullable" not in json.dumps(form), "which JSON Schema does not know"


def test_no_fields_are_asked_for_that_a_model_does_not_have(scripted: ScriptedServer, chat: Chat) -> None:
    """pydantic ignores them, and so its schema allows them."""
    answer = {"lines": [{"text": "tea", "amount": 2, "more": 1}]}
    scripted.replies = [said(json.dumps(answer)), said('{"x": 1}')]
    assert chat("--schema", "my_models:Invoice", "Make one.").code == 0
    chat("--schema", "my_models:RAW", "Make one.")
    invoice, raw = (body["response_format"]["json_schema"]["schema"] for body in scripted.chats)
    assert invoice["additionalProperties"] is False
    assert invoice["$defs"]["Line"]["additionalProperties"] is False
    assert "additionalProperties" not in raw


def test_what_the_server_is_sent(scripted: ScriptedServer, chat: Chat) -> None:
    scripted.replies = [said('{"kind": "leaf"}')]
    chat("--schema", "my_models:Tree", "Make one.")
    assert scripted.chats[0]["response_format"]["json_schema"]["schema"] == {
        "$ref": "#/$defs/Tree",
        "$defs": {
            "Tree": {
                "description": "A tree.",
                "type": "object",
                "properties": {
                    "kind": {"type": "string", "enum": ["leaf", "branch"]},
                    "below": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
                    "label": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
                "required": ["kind"],
                "additionalProperties": False,
            }
        },
    }


@pytest.mark.parametrize(
    ("schema", "answer", "told"),
    [
        ("my_models:Invoice", "Here you are: {}", "The answer is not JSON"),
        ("my_models:Invoice", "", "The answer is not JSON"),
        ("my_models:Invoice", '{"lines": NaN}', "NaN is no number in JSON"),
        ("my_models:Invoice", "[" * 100_000, "The answer is not JSON"),
        ("my_models:Invoice", "{}", "The answer is not a valid Invoice: "),
        (
            "my_models:Invoice",
            '{"lines": [{"text": "a", "amount": 0}]}',
            "not a valid Invoice: at $.lines[0].amount",
        ),
        ("my_models:Invoice", '{"lines": []}', "Invoice refuses it: lines: Value error, a bill has lines"),
        (
            "my_models:Tree",
            '{"kind": "leaf", "below": [{"kind": "leaf"}]}',
            "refuses it: ValueError: nothing hangs below a leaf",
        ),
        ("my_models:Tree", '{"kind": "root"}', "The answer is not a valid Tree: at $.kind"),
        ("my_models:Search", '{"words": ["a"], "x": 1}', "is not a valid Search"),
        ("point.json", '{"x": "1"}', "The answer is not a valid point: at $.x"),
    ],
)
def test_an_answer_of_another_form_is_told(
    scripted: ScriptedServer, chat: Chat, schema: str, answer: str, told: str
) -> None:
    scripted.replies = [said(answer)]
    ended = chat("--schema", schema, "Make one.")
    assert (ended.code, ended.out) == (1, "")
    assert told in ended.err
    assert "Traceback" not in ended.err


def test_an_answer_that_was_cut_off_is_told_as_such(scripted: ScriptedServer, chat: Chat) -> None:
    scripted.replies = [said('{"lines": [', finish="length")]
    assert "It was cut off; see --max-tokens." in chat("--schema", "my_models:Invoice", "Make one.").err


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ("my_models", "'my_models' is not understood; write module:Name"),
        ("my_models:", "'my_models:' is not understood"),
        (":Invoice", "':Invoice' is not understood"),
        ("my_models:Bill", "my_models has no 'Bill'"),
        ("my_models:Outer.Bill", "my_models has no 'Outer.Bill'"),
        ("my_models:NUMBER", "the type 5 cannot be described"),
        ("my_models:WRONG", "the JSON schema is not valid"),
        ("no_such_module:Bill", "The module no_such_module cannot be loaded: ModuleNotFoundError"),
        ("..:Bill", "cannot be loaded"),
        ("nothing.py:Bill", "nothing.py is not a file"),
        ("broken.py:Bill", "broken.py cannot be loaded: "),
        ("nothing.json", "nothing.json cannot be read: No such file"),
        ("broken.json", "broken.json holds no JSON: "),
        ("list.json", "list.json holds no JSON schema"),
        ("deep.json", "deep.json holds no JSON"),
        ("bytes.json", "bytes.json holds no JSON"),
    ],
)
def test_a_schema_that_cannot_be_used_is_told_in_a_sentence(
    hodios_home: Path, tmp_path: Path, chat: Chat, schema: str, told: str
) -> None:
    files = {"broken.py": b"class:", "broken.json": b"{", "list.json": b"[]", "deep.json": b"[" * 100_000}
    for name, content in (files | {"bytes.json": b"\xff\xfe"}).items():
        (tmp_path / name).write_bytes(content)
    ended = chat("--schema", schema, "Make one.")
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err
    assert "Traceback" not in ended.err


def test_tools_may_be_called_on_the_way(scripted: ScriptedServer, chat: Chat, tmp_path: Path) -> None:
    (tmp_path / "my_tools.py").write_text('def price() -> int:\n    "The price."\n    return 2\n')
    scripted.replies = [called(("price", {}), text="Let me look."), said(json.dumps(BILL))]
    ended = chat("--tools", "my_tools.py", "--yes", "--schema", "my_models:Invoice", "Make one.")
    assert json.loads(ended.out) == BILL
    assert all({"tools", "response_format"} <= body.keys() for body in scripted.chats)


def test_a_conversation_goes_on_after_a_wrong_answer(scripted: ScriptedServer) -> None:
    scripted.replies = [said("Sorry?"), said('{"x": 1}')]
    terminal = Terminal("--schema", "point.json")
    terminal.until(r"/help for commands[\s\S]*> ")
    terminal.type("one\n")
    terminal.until(r"Sorry\?[\s\S]*The answer is not JSON[\s\S]*> ")
    terminal.type("two\n")
    terminal.until(r'"x": 1[\s\S]*> ')
    terminal.type("\x04")
    assert terminal.end() == 0
    assert [message["content"] for message in scripted.chats[1]["messages"]] == ["one", "Sorry?", "two"]


def test_interrupting_an_answer_keeps_what_came(scripted: ScriptedServer) -> None:
    scripted.replies = [Reply([event(chunk(content="Once upon")), HANG]), said("The end.")]
    terminal = Terminal()
    terminal.until(r"/help for commands[\s\S]*> ")
    terminal.type("Tell\n")
    terminal.until(r"Once upon")
    terminal.interrupt(r"stopped[\s\S]*> ")
    terminal.type("on\n")
    terminal.until(r"The end\.[\s\S]*tokens[\s\S]*> ")
    terminal.type("\x04")
    assert terminal.end() == 0
    assert [message["content"] for message in scripted.chats[1]["messages"]] == ["Tell", "Once upon", "on"]
