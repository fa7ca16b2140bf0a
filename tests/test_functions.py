"""Functions as tools: what a model is told of them, and what comes of its calls. Most are wrong in some way."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import functools
import importlib.util
import inspect
import json
import math
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, NewType, NotRequired, Optional, TypedDict, TypeVar

import pydantic
import pytest
import typing_extensions
from hypothesis import given
from hypothesis import strategies as st

from hodios.errors import SetupError
from hodios.functions import call, foreign_code, run, tool

DATA = Path(__file__).parent / "data"


def samples() -> ModuleType:
    spec = importlib.util.spec_from_file_location("function_samples", DATA / "function_samples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SAMPLES = {name: value for name, value in vars(samples()).items() if inspect.isfunction(value)}
RECORDED = {each["function"]["name"]: each for each in json.loads((DATA / "function_schemas.json").read_text())}


def written(source: str) -> Callable[..., Any]:
    """The last function or class of a source text, which lies in no file."""
    names: dict[str, Any] = {}
    exec(compile(source, "<source>", "exec", dont_inherit=True), names)  # noqa: S102
    return list(names.values())[-1]  # type: ignore[no-any-return]


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    return tool(function)["function"]["parameters"]  # type: ignore[no-any-return]


def hinted(hint: str, before: str = "") -> dict[str, Any]:
    """The schema of one parameter."""
    source = f'from typing import *\n{before}\ndef f(x: {hint}):\n    """F."""'
    return parameters(written(source))["properties"]["x"]  # type: ignore[no-any-return]


def result(function: Callable[..., Any], **arguments: Any) -> Any:
    outcome = run(function, json.dumps(arguments))
    assert not outcome.is_error, outcome.text
    return json.loads(outcome.text)


def error(function: Callable[..., Any], arguments: str = "{}") -> str:
    outcome = run(function, arguments)
    assert outcome.is_error, outcome.text
    assert call(function, arguments) == outcome.text
    told = json.loads(outcome.text)
    assert told.keys() == {"error"}
    return told["error"]  # type: ignore[no-any-return]


class Unit(enum.Enum):
    METRE = "m"
    FOOT = "ft"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


@dataclasses.dataclass
class Point:
    """A place on the map.

    Attributes:
        x: To the east
        label: What stands there (choices: ["tree", "house"])
    """

    x: float
    y: float = 0.0
    label: str = "tree"
    seen: dataclasses.InitVar[int] = 0
    total: float = dataclasses.field(init=False, default=0.0)

    def __post_init__(self, seen: int) -> None:
        if self.x < 0:
            raise ValueError("west is not on the map")
        self.total = self.x + self.y + seen


@dataclasses.dataclass
class Node:
    value: int
    children: list[Node] = dataclasses.field(default_factory=list)


class Options(TypedDict, total=False):
    depth: int


class Search(Options):
    """What to look for."""

    words: list[str]
    limit: NotRequired[int]


class Line(pydantic.BaseModel):
    text: str = pydantic.Field(description="What it says")
    amount: int = pydantic.Field(1, ge=1)


class Invoice(pydantic.BaseModel):
    """A bill."""

    lines: list[Line]
    due: datetime.date | None = None
    parent: Optional[Invoice] = None  # noqa: UP045

    @pydantic.field_validator("lines")
    @classmethod
    def _has_lines(cls, lines: list[Line]) -> list[Line]:
        if not lines:
            raise ValueError("a bill has lines")
        return lines


# --- definitions


@pytest.mark.parametrize("name", SAMPLES)
def test_definitions_equal_those_of_transformers(name: str) -> None:
    definition = tool(SAMPLES[name])
    assert definition == RECORDED[name]
    if name != "positional":  # Python lists the hints of positional-only parameters last.
        assert json.dumps(definition) == json.dumps(RECORDED[name])


def test_all_samples_are_recorded() -> None:
    assert list(SAMPLES) == list(RECORDED)


def test_the_card_s_functions_are_told_as_the_card_tells_them() -> None:
    definition = tool(SAMPLES["get_current_temperature"])["function"]
    assert definition["description"] == "Get the current temperature at a location."
    assert definition["parameters"]["properties"]["unit"] == {
        "type": "string",
        "enum": ["celsius", "fahrenheit"],
        "description": "The unit to return the temperature in.",
    }
    assert call(SAMPLES["get_current_temperature"], '{"location": "Paris, France", "unit": "celsius"}') == "22.0"


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        ("set[int]", {"type": "array", "items": {"type": "integer"}}),
        ("frozenset", {"type": "array"}),
        ("Set[str]", {"type": "array", "items": {"type": "string"}}),
        ("tuple[int, ...]", {"type": "array", "items": {"type": "integer"}}),
        ("tuple[int]", {"type": "array", "prefixItems": [{"type": "integer"}]}),
        ("Sequence[int]", {"type": "array", "items": {"type": "integer"}}),
        ("Mapping[str, int]", {"type": "object", "additionalProperties": {"type": "integer"}}),
        ("dict[int, str]", {"type": "object", "additionalProperties": {"type": "string"}}),
        ("dict[Any, Any]", {"type": "object", "additionalProperties": {}}),
        ("object", {}),
        ("Optional[Any]", {"nullable": True}),
        ("'int'", {"type": "integer"}),
        ("list['int']", {"type": "array", "items": {"type": "integer"}}),
        ("Optional[Literal['a']]", {"type": "string", "enum": ["a"], "nullable": True}),
    ],
)
def test_more_hints(hint: str, schema: dict[str, Any]) -> None:
    assert hinted(hint) == schema


@pytest.mark.parametrize(
    ("before", "hint", "schema"),
    [
        ("import datetime", "datetime.datetime", {"type": "string", "format": "date-time"}),
        ("import datetime", "datetime.date | None", {"type": "string", "format": "date", "nullable": True}),
        ("import uuid", "uuid.UUID", {"type": "string", "format": "uuid"}),
        ("import pathlib", "pathlib.Path", {"type": "string"}),
        ("Id = NewType('Id', int)", "list[Id]", {"type": "array", "items": {"type": "integer"}}),
        ("", "Annotated[int, 'how many']", {"type": "integer", "description": "how many"}),
        (
            "import pydantic",
            "Annotated[int, pydantic.Field(ge=1, description='how many')]",
            {"type": "integer", "minimum": 1, "description": "how many"},
        ),
    ],
)
def test_hints_from_elsewhere(before: str, hint: str, schema: dict[str, Any]) -> None:
    assert hinted(hint, before) == schema


def test_choices_of_a_list_are_those_of_its_items() -> None:
    source = 'def f(x: list[str]):\n    """F.\n\n    Args:\n        x: X (choices: ["a", "b"])\n    """\n    return x'
    function = written(source)
    items = {"type": "string", "enum": ["a", "b"]}
    assert parameters(function)["properties"]["x"] == {"type": "array", "items": items, "description": "X"}
    assert result(function, x=["a", "b"]) == ["a", "b"]
    assert "must be one of" in error(function, '{"x": ["a", "c"]}')


def test_types_in_the_docstring_are_passed_over() -> None:
    source = 'def f(x: int, y: int):\n    """F.\n\n    Args:\n        x (int): X\n        y (int, optional): Y\n    """'
    assert [each["description"] for each in parameters(written(source))["properties"].values()] == ["X", "Y"]


def move(point: Point, path: list[Point], search: Search | None = None) -> str:
    """Moves."""
    return repr((point, path, search))


def test_dataclasses_and_typed_dicts_are_described_in_place() -> None:
    schema = parameters(move)
    point = schema["properties"]["point"]
    assert point == {
        "description": "A place on the map.",
        "type": "object",
        "properties": {
            "x": {"type": "number", "description": "To the east"},
            "y": {"type": "number"},
            "label": {"type": "string", "enum": ["tree", "house"], "description": "What stands there"},
            "seen": {"type": "integer"},
        },
        "required": ["x"],
        "additionalProperties": False,
    }
    assert schema["properties"]["path"]["items"] == point
    assert schema["properties"]["search"]["required"] == ["words"]
    assert "$defs" not in schema


def grow(tree: Node, other: Node | None = None) -> int:
    """Grows."""
    return tree.value + sum(child.value for child in tree.children)


def test_types_that_hold_themselves_are_referred_to() -> None:
    schema = parameters(grow)
    assert schema["properties"]["tree"] == {"$ref": "#/$defs/Node"}
    assert schema["$defs"]["Node"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}
    assert result(grow, tree={"value": 1, "children": [{"value": 2}, {"value": 3}]}) == 6
    assert error(grow, '{"tree": {"value": 1, "children": [{"value": "2"}]}}').startswith(
        "tree.children[0].value must be"
    )


@dataclasses.dataclass
class Branch:
    leaf: Leaf | None = None


@dataclasses.dataclass
class Leaf:
    branch: Branch


def test_types_that_hold_each_other() -> None:
    def compare(branch: Branch, leaf: Leaf) -> list[bool]:
        """Compares."""
        return [branch == Branch(Leaf(Branch())), leaf == Leaf(Branch())]

    assert set(parameters(compare)["$defs"]) == {"Branch"}, "a leaf is described where it hangs"
    assert result(compare, branch={"leaf": {"branch": {}}}, leaf={"branch": {}}) == [True, True]


def bill(invoice: Invoice, line: Line | None = None) -> Invoice:
    """Bills."""
    assert isinstance(invoice, Invoice)
    return invoice


def test_pydantic_models_as_parameters() -> None:
    schema = parameters(bill)
    assert schema["properties"]["invoice"] == {"$ref": "#/$defs/Invoice"}
    assert schema["$defs"]["Line"]["properties"]["amount"]["minimum"] == 1
    made = result(bill, invoice={"lines": [{"text": "tea"}], "due": "2024-02-29"})
    assert made == {"lines": [{"text": "tea", "amount": 1}], "due": "2024-02-29", "parent": None}
    told = error(bill, '{"invoice": {"lines": [{"amount": 0}], "due": "soon"}}')
    assert "invoice.lines[0].text: Field required" in told
    assert "invoice.lines[0].amount: " in told
    assert "invoice.due: " in told
    assert "pydantic.dev" not in told
    assert "a bill has lines" in error(bill, '{"invoice": {"lines": []}}')


def test_models_are_tools_themselves() -> None:
    assert tool(Line)["function"] == {
        "name": "Line",
        "description": "",
        "parameters": {
            "type": "object",
            "properties": {
                "text": {"description": "What it says", "title": "Text", "type": "string"},
                "amount": {"default": 1, "minimum": 1, "title": "Amount", "type": "integer"},
            },
            "required": ["text"],
        },
    }
    invoice = tool(Invoice)["function"]
    assert invoice["description"] == "A bill."
    assert invoice["parameters"]["type"] == "object"
    assert set(invoice["parameters"]["$defs"]) == {"Invoice", "Line"}
    assert tool(Node)["function"]["parameters"]["properties"]["value"] == {"type": "integer"}
    assert tool(Search)["function"]["description"] == "What to look for."
    assert result(Line, text="tea") == {"text": "tea", "amount": 1}
    assert result(Point, x=1, seen=2)["total"] == 3.0
    assert result(Search, words=[]) == {"words": []}


def test_pydantic_is_imported_for_its_own_only() -> None:
    program = (
        "import sys\nfrom hodios.functions import call, tool\n"
        "def f(x: int) -> int:\n    'F.'\n    return x\n"
        "tool(f), call(f, '{\"x\": 1}'), call(f, '{\"x\": \"1\"}')\nprint('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def f(*values: int):\n    'F.'", "f, parameter 'values': *values: int takes any number of values"),
        ("def f(**values: int):\n    'F.'", "f, parameter 'values': **values: int takes any number"),
        ("def f(x):\n    'F.'", "f, parameter 'x': has no type hint"),
        ("def f(x: int): pass", "f has no docstring"),
        ("def f(x: complex):\n    'F.'", "f, parameter 'x': the type complex cannot be described"),
        ("def f(x: list[bytes]):\n    'F.'", "f, parameter 'x': the type bytes cannot"),
        ("def f(x: dict[bool, int]):\n    'F.'", "f, parameter 'x': the keys of a JSON object are strings"),
        ("def f(x: 'Nothing'):\n    'F.'", "f, parameter 'x': the type hint 'Nothing' cannot be read: name 'Nothing'"),
        ("def f(x: 'in t'):\n    'F.'", "f, parameter 'x': the type hint 'in t' cannot be read"),
        ("def f(x: [int]):\n    'F.'", "f, parameter 'x': the type [<class 'int'>] cannot"),
        ("def f(x: 5):\n    'F.'", "f, parameter 'x': "),
        ("from __future__ import annotations\ndef f(x: Nothing):\n    'F.'", "type hint 'Nothing' cannot be read"),
        ("from __future__ import annotations\ndef f(x: a.b):\n    'F.'", "f, parameter 'x': "),
        (
            "from dataclasses import *\n@dataclass\nclass A:\n    b: 'Nothing'\ndef f(x: list[A]):\n    'F.'",
            "f, parameter 'x': A: its type hints cannot be read: name 'Nothing'",
        ),
        (
            "from dataclasses import *\n@dataclass\nclass A:\n    b: bytes\ndef f(x: list[A]):\n    'F.'",
            "f, parameter 'x': A, parameter 'b': the type bytes cannot",
        ),
        ("from typing import *\nT = TypeVar('T')\ndef f(x: T):\n    'F.'", "parameter 'x': the type ~T cannot"),
        ("from typing import *\ndef f(x: Callable[[], int]):\n    'F.'", "parameter 'x': the type Callable"),
        ("from typing import *\ndef f(x: Literal[b'a']):\n    'F.'", "b'a' is a choice that JSON has no value for"),
        ("import enum\nclass E(enum.Enum): pass\ndef f(x: E):\n    'F.'", "accepts nothing"),
        ("import enum\nclass E(enum.Enum):\n    A = 1j\ndef f(x: E):\n    'F.'", "1j is a choice"),
        ("def f(x: int):\n    '''F.\n\n    Args:\n        x: X (choices: a, b)\n    '''", "choices a, b are not"),
        ("def f(x: int):\n    '''F.\n\n    Args:\n        x: X (choices: 1)\n    '''", "choices 1 are not"),
        ("def f(x: int):\n    '''F.\n\n    Args:\n        x: X (choices: [])\n    '''", "choices [] are not"),
        ("def größe(x: int):\n    'F.'", "größe: a tool's name has 1 to 64"),
        (f"def {'f' * 65}(x: int):\n    'F.'", "a tool's name has 1 to 64"),
        ("f = lambda x: x", "<lambda>: a tool's name"),
        ("class C: pass", "C is neither a function nor"),
        ("class C:\n    def m(self, x: int):\n        'M.'\nm = C.m", "m, parameter 'self': has no type hint"),
        ("f = 5", "5 is no function"),
        ("import functools\nf = functools.partial(print)", "is no function with a name"),
        ("f = int", "int is neither"),
        ("f = len", "len, parameter 'obj': has no type hint"),
    ],
)
def test_what_cannot_be_a_tool_is_told_with_its_name(source: str, told: str) -> None:
    with pytest.raises(SetupError) as caught:
        tool(written(source))
    assert told in str(caught.value)


def test_models_that_cannot_be_described() -> None:
    class Inner(pydantic.BaseModel):
        f: Callable[[], int]

    class Root(pydantic.RootModel[list[int]]):
        pass

    first = dataclasses.make_dataclass("Same", [("x", "int"), ("same", "list[Same]")], namespace={"__doc__": "A."})
    second = dataclasses.make_dataclass("Same", [("y", "int"), ("same", "list[Same]")], namespace={"__doc__": "B."})

    def f(x: Any, y: Any) -> None:
        """F."""

    f.__annotations__ = {"x": first, "y": second}
    for function, told in (
        (Inner, "pydantic cannot describe"),
        (Root, "Root is no object in JSON"),
        (f, "two different types are called Same"),
    ):
        with pytest.raises(SetupError, match=told):
            tool(function)


def test_typed_dicts_of_typing_extensions() -> None:
    class Kind(typing_extensions.TypedDict):
        a: int
        b: typing_extensions.NotRequired[str]

    assert parameters(Kind)["required"] == ["a"]
    assert result(typed(Kind), value={"a": 1}) == "{'a': 1}"
    assert "value.a is missing" in error(typed(Kind), '{"value": {}}')


Number = TypeVar("Number")


class Box(pydantic.BaseModel, Generic[Number]):
    content: Number


def test_generic_models() -> None:
    def unbox(box: Box[int]) -> int:
        """Unboxes."""
        return box.content

    assert result(unbox, box={"content": 3}) == 3
    assert tool(unbox)["function"]["parameters"]["properties"]["box"]["properties"]["content"]["type"] == "integer"


def test_methods_and_decorated_functions() -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self, number: int) -> int:
            """Adds."""
            self.count += number
            return self.count

    def twice(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return [function(*args, **kwargs)] * 2

        return wrapper

    counter = Counter()
    assert tool(counter.add)["function"]["name"] == "add"
    assert result(counter.add, number=2) == 2

    @twice
    @functools.cache
    def half(number: int) -> float:
        """Halves."""
        return number / 2

    assert parameters(half)["required"] == ["number"]
    assert result(half, number=3) == [1.5, 1.5]


# --- calls


def echo(value: Any) -> Any:
    """Returns it."""
    return value


def typed(hint: Any) -> Callable[..., Any]:
    def function(value: Any) -> Any:
        """Says what it got."""
        return repr(value)

    function.__annotations__ = {"value": hint}
    return function


@pytest.mark.parametrize(
    ("hint", "value", "got"),
    [
        (int, 3.0, "3"),
        (float, 3, "3.0"),
        (float, -0.5, "-0.5"),
        (int | float, 3, "3"),
        (float | int, 3, "3"),
        (str | int, 3, "3"),
        (int | None, None, "None"),
        (bool | int, True, "True"),
        (int | bool, True, "True"),
        (Literal[1, True], True, "True"),
        (Literal[True, 1], 1, "1"),
        (Literal["a", None], None, "None"),
        (Literal[Unit.FOOT], "ft", "<Unit.FOOT: 'ft'>"),
        (Unit, "m", "<Unit.METRE: 'm'>"),
        (Size, 2.0, "<Size.LARGE: 2>"),
        (list[Unit], ["m"], "[<Unit.METRE: 'm'>]"),
        (dict[Unit, int], {"m": 1}, "{<Unit.METRE: 'm'>: 1}"),
        (dict[int, str], {"1": "a"}, "{1: 'a'}"),
        (dict[Size, int], {"1": 1}, "{<Size.SMALL: 1>: 1}"),
        (dict, {"a": [1]}, "{'a': [1]}"),
        (tuple[int, str], [1, "a"], "(1, 'a')"),
        (tuple[int, ...], [1, 2], "(1, 2)"),
        (tuple, [1, "a"], "(1, 'a')"),
        (set[int], [1, 1], "{1}"),
        (frozenset[int], [1, 1], "frozenset({1})"),
        (list[list[float]], [[1], []], "[[1.0], []]"),
        (Options, {"depth": 2}, "{'depth': 2}"),
        (datetime.date, "2024-02-29", "datetime.date(2024, 2, 29)"),
        (datetime.date | str, "tomorrow", "'tomorrow'"),
        (uuid.UUID, "0" * 32, repr(uuid.UUID(int=0))),
        (Path, "a/b", "PosixPath('a/b')"),
        (NewType("Id", int), 1, "1"),
        (Point | Node, {"value": 1}, "Node(value=1, children=[])"),
        (Line | Point, {"text": "t"}, "Line(text='t', amount=1)"),
        (Any, {"a": None}, "{'a': None}"),
    ],
)
def test_arguments_become_what_the_hints_ask_for(hint: Any, value: Any, got: str) -> None:
    assert result(typed(hint), value=value) == got


@pytest.mark.parametrize(
    ("hint", "value", "told"),
    [
        (int, "3", 'value must be an integer, not "3"'),
        (int, 3.5, "value must be an integer, not 3.5"),
        (int, True, "value must be an integer, not true"),
        (float, False, "value must be a number, not false"),
        (float, 10**400, "value must be a number of a size that a float holds"),
        (str, 3, "value must be a string, not 3"),
        (bool, 1, "value must be true or false, not 1"),
        (int, None, "value must be an integer, not null"),
        (int | None, "x", 'value must be an integer, not "x"; or value must be null, not "x"'),
        (Literal["a", 1], "b", 'value must be one of ["a", 1], not "b"'),
        (Literal[1], True, "value must be one of [1], not true"),
        (Unit, "METRE", 'value must be one of ["m", "ft"], not "METRE"'),
        (list[int], 3, "value must be an array, not 3"),
        (list[int], [1, "2"], 'value[1] must be an integer, not "2"'),
        (tuple[int, str], [1], "value must be an array of 2, not [1]"),
        (set[Any], [[1]], "value: a set cannot hold arrays or objects"),
        (dict[str, int], {"a": "b"}, 'value.a must be an integer, not "b"'),
        (dict[int, int], {"a": 1}, 'value: the key must be an integer, not "a"'),
        (dict, [], "value must be an object, not []"),
        (Point, {}, "value.x is missing"),
        (Point, {"x": 1, "z": 2}, "value.z is not known; accepted: x, y, label, seen"),
        (Point, {"x": 1, "label": "car"}, 'value.label must be one of ["tree", "house"], not "car"'),
        (Search, {"words": [], "limit": "1"}, "value.limit must be an integer"),
        (datetime.date, "29.2.", 'value must be a string in the format date, not "29.2."'),
        (datetime.datetime, 5, "value must be a string, not 5"),
        (str, 3 * "x" * 100, None),
        (int, "x" * 500, f'value must be an integer, not "{"x" * 79}…'),
    ],
)
def test_arguments_that_do_not_fit_are_told_to_the_model(hint: Any, value: Any, told: str | None) -> None:
    if told is None:
        assert result(typed(hint), value=value) == repr(value)
    else:
        assert told in error(typed(hint), json.dumps({"value": value}))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("{", "the arguments are not valid JSON: "),
        ('{"value": NaN}', "NaN is no number in JSON"),
        ("[]", "the arguments must be an object, not []"),
        ("null", "the arguments must be an object, not null"),
        ('"{}"', "the arguments must be an object"),
        ("{}", "value is missing"),
        ("", "value is missing"),
        ('{"value": 1, "other": 2}', "other is not known; accepted: value"),
        ("[" * 100_000, "the arguments are not valid JSON"),
        ('{"value": ' + "1" * 5000 + "}", "the arguments are not valid JSON"),
    ],
)
def test_arguments_that_are_none(arguments: str, told: str) -> None:
    assert told in error(echo, arguments)


def test_no_arguments_at_all() -> None:
    def now() -> str:
        """Now."""
        return "now"

    assert [call(now, text) for text in ("", " ", "{}")] == ['"now"'] * 3
    assert error(now, '{"x": 1}') == "x is not known; accepted: nothing"


def test_positional_only_parameters_keep_their_places() -> None:
    def place(a: int, b: int = 10, c: int = 20, /, d: int = 30, *, e: int) -> list[int]:
        """Places."""
        return [a, b, c, d, e]

    assert result(place, c=3, a=1, e=5) == [1, 10, 3, 30, 5]


class Sloppy(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


def raising(error: BaseException) -> Callable[..., Any]:
    def function() -> None:
        """Raises."""
        raise error

    return function


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (KeyError("a"), "KeyError: 'a'"),
        (SystemExit(3), "SystemExit: 3"),
        (asyncio.CancelledError(), "CancelledError"),
        (ExceptionGroup("two", [ValueError("a"), TypeError("b")]), "ExceptionGroup: two (2 sub-exceptions)"),
        (Sloppy(), "Sloppy: <exception str() failed>"),
        (RecursionError("deep"), "RecursionError: deep"),
        (StopIteration(), "StopIteration"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError: "),
    ],
)
def test_whatever_a_tool_raises_is_told(raised: BaseException, told: str) -> None:
    assert told in error(raising(raised))


def test_the_line_that_raised_is_known() -> None:
    where = run(raising(ValueError()), "{}").where
    assert where.startswith(f"{__file__}:")
    assert run(typed(int), '{"value": "x"}').where == ""


def test_what_a_model_s_own_code_raises_is_told() -> None:
    assert error(move, '{"point": {"x": -1}, "path": []}') == "ValueError: west is not on the map"
    assert error(Point, '{"x": -1}') == "ValueError: west is not on the map"


def test_interrupting_is_not_caught() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(raising(KeyboardInterrupt()), "{}")


INTERRUPTED = """
import asyncio, signal, time
from hodios.functions import run

def hang() -> None:
    "Hangs."
    signal.raise_signal(signal.SIGINT)
    time.sleep(60)

async def hang_async() -> None:
    "Hangs."
    signal.raise_signal(signal.SIGINT)
    await asyncio.sleep(60)

signal.signal(signal.SIGINT, signal.default_int_handler)
for function in (hang, hang_async):
    try:
        print(run(function, "{}"))
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_a_tool_that_hangs_is_interrupted() -> None:
    """In a process of its own: a signal is everybody's in it."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["interrupted", "interrupted"]


async def slow(number: int) -> int:
    """Waits."""
    await asyncio.sleep(0)
    return number + 1


def test_async_functions_are_run_to_their_end() -> None:
    async def fails() -> None:
        """Fails."""
        await asyncio.sleep(0)
        raise ValueError("later")

    assert result(slow, number=1) == 2
    assert error(fails) == "ValueError: later"


async def test_async_functions_are_run_within_a_loop() -> None:
    assert result(slow, number=1) == 2


CIRCLE: list[Any] = []
CIRCLE.append({"again": CIRCLE})


class Opaque:
    pass


class Array:
    """Like numpy's."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def tolist(self) -> Any:
        return self._values


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"raw", "the result is of type bytes, which JSON cannot hold"),
        ({"a": [bytearray()]}, "the result['a'][0] is of type bytearray"),
        (math.nan, "the result is nan, which JSON has no number for"),
        ([math.inf], "the result[0] is inf"),
        (Array([math.nan]), "the result[0] is nan"),
        (CIRCLE, "the result[0]['again'] contains itself"),
        ({(1, 2): 3}, "the result has a key of type tuple"),
        (Opaque(), "the result is of type Opaque"),
        (Opaque, "the result is of type type"),
        (Point, "the result is of type type"),
        (iter([1]), "the result is of type list_iterator"),
        pytest.param(10**5000, "ValueError", id="large"),
    ],
)
def test_results_that_json_cannot_hold_are_told(value: Any, told: str) -> None:
    def function() -> Any:
        """Returns it."""
        return value

    assert told in error(function)


def test_results_nested_without_end_are_told() -> None:
    def deep() -> Any:
        """Deep."""
        value: list[Any] = []
        for _ in range(100_000):
            value = [value]
        return value

    assert "RecursionError" in error(deep)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        ("é \u2028 \ud800", '"é \u2028 ?"'),
        (22.0, "22.0"),
        ((1, {2}, frozenset([3])), "[1, [2], [3]]"),
        ({1: Unit.METRE, Unit.FOOT: None, None: 0}, None),
        ({1: Unit.METRE, Unit.FOOT: None}, '{"1": "m", "ft": null}'),
        (Node(1, [Node(2)]), '{"value": 1, "children": [{"value": 2, "children": []}]}'),
        (Line(text="tea"), '{"text": "tea", "amount": 1}'),
        (datetime.datetime(2024, 2, 29, 1, 2), '"2024-02-29T01:02:00"'),
        ([Path("a"), uuid.UUID(int=0)], '["a", "00000000-0000-0000-0000-000000000000"]'),
        ({"a": 1}.keys(), '["a"]'),
        (Array([[1, 2], [3, 4]]), "[[1, 2], [3, 4]]"),
        (Size.LARGE, "2"),
        ([CIRCLE[0].keys()] * 2, '[["again"], ["again"]]'),
    ],
)
def test_results_become_json(value: Any, text: str | None) -> None:
    def function() -> Any:
        """Returns it."""
        return value

    if text is None:
        assert "key of type NoneType" in error(function)
    else:
        assert call(function, "{}") == text


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(json_values)
def test_json_passes_through_unchanged(value: Any) -> None:
    assert result(echo, value=value) == value


@given(st.text())
def test_no_arguments_break_a_call(arguments: str) -> None:
    assert json.loads(call(slow, arguments)).keys() == {"error"}


def test_other_people_s_code_ends_in_a_sentence() -> None:
    for raised, told in ((SystemExit(1), "it: SystemExit: 1"), (ValueError("x"), "it: ValueError: x")):
        with pytest.raises(SetupError) as caught, foreign_code("it"):
            raise raised
        assert str(caught.value) == told
