"""Tool calls in every form in which servers are known to stream them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.providers.call_deltas import CallDeltas, Called


def call(index: int | None, id: str | None = None, name: str | None = None, arguments: Any = None) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    delta = {"index": index, "id": id, "type": "function", "function": function}
    return {key: value for key, value in delta.items() if value is not None}


def read(*deltas: object, names: tuple[str, ...] = ("f", "g", "get_weather")) -> list[Called]:
    reader = CallDeltas(names)
    for delta in deltas:
        reader.push(delta if isinstance(delta, list) else [delta])
    return reader.finish()


F, G = Called("f", '{"a": 1}', "1"), Called("g", '{"b": 2}', "2")


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param([call(0, "1", "f", '{"a": 1}'), call(1, "2", "g", '{"b": 2}')], id="whole"),
        pytest.param([[call(0, "1", "f", '{"a": 1}'), call(1, "2", "g", '{"b": 2}')]], id="in one chunk"),
        pytest.param(
            [call(0, "1", "f", ""), call(0, arguments='{"a"'), call(0, arguments=": 1}"), call(1, "2", "g"),
             call(1, arguments='{"b": 2}')],
            id="as OpenAI",
        ),
        pytest.param(
            [call(0, "1", "f", '{"a"'), call(1, "2", "g", '{"b'), call(0, arguments=": 1}"),
             call(1, arguments='": 2}')],
            id="interleaved",
        ),
        pytest.param([call(0, "1", "f", '{"a": 1}'), call(0, "2", "g", '{"b": 2}')], id="all 0"),
        pytest.param([call(0, "1", "f"), call(0, "1", "f", '{"a": 1}'), call(1, "2"), call(1, "2", "g", '{"b": 2}')],
                     id="id repeated, name late"),
        pytest.param([call(None, "1", "f", '{"a": '), call(None, "1", None, "1}"), call(None, "2", "g", '{"b": 2}')],
                     id="without index"),
        pytest.param([call(None, "1", "f", '{"a": '), call(None, None, None, "1}"), call(None, "2", "g", '{"b": 2}')],
                     id="without index, id once"),
        pytest.param([call(0, "1", "f", {"a": 1}), call(1, "2", "g", {"b": 2})], id="objects"),
        pytest.param([{"index": 0, "id": "1", "name": "f", "arguments": '{"a": 1}'}, call(1, "2", "g", '{"b": 2}')],
                     id="without function"),
        pytest.param([call(0, "1", "f", '{"a": 1}'), None, 7, {}, call(1, "2", "g", '{"b": 2}')], id="with rubbish"),
        pytest.param([call(3, "1", "f", '{"a": 1}'), call(7, "2", "g", '{"b": 2}')], id="with gaps"),
    ],
)  # fmt: skip
def test_calls_come_out_whole(deltas: list[Any]) -> None:
    assert [(each.name, each.arguments, each.id) for each in read(*deltas) if each.name] == [
        (F.name, F.arguments, F.id),
        (G.name, G.arguments, G.id),
    ]


def test_without_ids_a_name_after_whole_arguments_begins_another() -> None:
    deltas = [call(0, None, "f", '{"a": "}'), call(0, arguments='"}'), call(0, None, "f", "{}"), call(0, None, "g", "")]
    assert read(*deltas) == [Called("f", '{"a": "}"}'), Called("f", "{}"), Called("g", "{}")]


def test_two_calls_without_ids_and_arguments() -> None:
    assert read(call(0, None, "f", ""), call(0, None, "g", "")) == [Called("f", "{}"), Called("g", "{}")]


def test_a_name_in_slices() -> None:
    assert read(call(0, "1", "get_"), call(0, None, "weather", "{}")) == [Called("get_weather", "{}", "1")]


def test_no_arguments_are_an_empty_object() -> None:
    assert read(call(0, "1", "f")) == [Called("f", "{}", "1")]
    assert read(call(0, "1", "f", "")) == [Called("f", "{}", "1")]


def test_halves_of_characters_are_joined() -> None:
    assert read(call(0, "1", "f", '{"a": "\ud83d'), call(0, arguments='\ude00"}')) == [Called("f", '{"a": "😀"}', "1")]


@pytest.mark.parametrize("value", [None, [], "x", 7, [None], [[]]])
def test_what_is_no_delta_is_passed_over(value: object) -> None:
    reader = CallDeltas(())
    assert not reader.push(value)
    assert reader.finish() == []


@given(st.lists(st.lists(st.integers(1, 5), max_size=6), min_size=1, max_size=4))
def test_any_slices_give_the_same(cuts: list[list[int]]) -> None:
    """Calls in order, each cut anywhere, in OpenAI's own form."""
    wanted, deltas = [], []
    for number, lengths in enumerate(cuts):
        arguments = f'{{"a": "{number}{{}}[]\\"\\\\é😀"}}'
        wanted.append(Called("f", arguments, str(number)))
        deltas.append(call(number, str(number), "f", ""))
        position = 0
        for length in lengths:
            deltas.append(call(number, arguments=arguments[position : position + length]))
            position += length
        deltas.append(call(number, arguments=arguments[position:]))
    assert read(*deltas) == wanted
