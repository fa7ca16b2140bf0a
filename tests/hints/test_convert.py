"""What a schema says and what is accepted must be the same, for any type hint and any value."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Literal, NotRequired, Optional, TypedDict

import jsonschema
from hypothesis import given
from hypothesis import strategies as st

from hodios.errors import InvalidRequest
from hodios.hints.convert import convert
from hodios.hints.describe import Describer
from hodios.hints.plain import plain


class Unit(enum.Enum):
    METRE = "m"
    TWO = 2


@dataclasses.dataclass
class Node:
    value: int
    next: Optional[Node] = None  # noqa: UP045


class Search(TypedDict):
    words: list[str]
    limit: NotRequired[int]


scalars = st.sampled_from([str, int, float, bool, type(None), Any, Unit, Node, Search, Literal["a", 1, True, None]])
hints = st.recursive(
    scalars,
    lambda inner: (
        st.builds(lambda each: list[each], inner)  # type: ignore[valid-type]
        | st.builds(lambda each: dict[str, each], inner)  # type: ignore[valid-type]
        | st.builds(lambda *each: tuple[each], inner, inner)
        | st.builds(lambda each: tuple[each, ...], inner)  # type: ignore[valid-type]
        | st.builds(lambda one, other: one | other if one is not other else one, inner, inner).filter(bool)
        | st.builds(lambda each: Optional[each], inner)  # noqa: UP045
    ),
    max_leaves=5,
)
words = st.sampled_from(["a", "m", "words", "limit", "value", "next", ""])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 2.0, -1.0]) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)


def fitting(hint: Any) -> st.SearchStrategy[Any]:
    """Values that fit, by another way than `convert` goes."""
    from typing import get_args, get_origin

    arguments = [each for each in get_args(hint) if each is not ...]
    match get_origin(hint) or hint:
        case origin if origin is list or (origin is tuple and ... in get_args(hint)):
            return st.lists(fitting(arguments[0]), max_size=3)
        case origin if origin is tuple:
            return st.tuples(*map(fitting, arguments)).map(list)
        case origin if origin is dict:
            return st.dictionaries(words, fitting(arguments[1]), max_size=3)
        case origin if origin is Literal:
            return st.sampled_from(arguments)
    simple = {
        **{str: words, int: st.integers(-3, 3), float: st.sampled_from([0.5, 2]), bool: st.booleans(), Any: values},
        **{type(None): st.none(), Unit: st.sampled_from(["m", 2])},
        Node: st.fixed_dictionaries({"value": st.just(1)}, optional={"next": st.just({"value": 2, "next": None})}),
        Search: st.fixed_dictionaries({"words": st.lists(words)}, optional={"limit": st.just(5)}),
    }
    return simple[hint] if hint in simple else st.one_of(*map(fitting, arguments))


def described(hint: Any) -> dict[str, Any]:
    describer = Describer(is_loose=False)
    schema = describer.schema(hint, "it")
    return {**schema, "$defs": describer.definitions}


@given(hints, values)
def test_what_the_schema_allows_is_accepted_and_nothing_else(hint: Any, value: Any) -> None:
    is_valid = jsonschema.Draft202012Validator(described(hint)).is_valid(value)
    try:
        convert(value, hint, "it")
        is_accepted = True
    except InvalidRequest:
        is_accepted = False
    assert is_accepted == is_valid


@given(st.data(), hints)
def test_what_fits_comes_back_as_it_was(data: st.DataObject, hint: Any) -> None:
    value = data.draw(fitting(hint))
    jsonschema.Draft202012Validator(described(hint)).validate(value)
    made = plain(convert(value, hint, "it"), "it")
    # A dataclass's defaults are there afterwards.
    assert without_defaults(made) == without_defaults(value)


def without_defaults(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_defaults(item) for key, item in value.items() if (key, item) != ("next", None)}
    return [without_defaults(item) for item in value] if isinstance(value, list) else value
