"""`hodios chat --tools`: a model that a script speaks for calls functions, well and badly."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Said, ScriptedServer
from scripted_upstream import CUT, Reply, called, chunk, event, said, stream
from terminal import Terminal

Chat = Callable[..., Said]

WEATHER = '''
from __future__ import annotations
import ast
import json
import re
import time


def get_current_temperature(location: str, unit: str) -> float:
    """Get the current temperature at a location.

    Args:
        location: The location to get the temperature for, in the format "City, Country"
        unit: The unit to return the temperature in. (choices: ["celsius", "fahrenheit"])
    Returns:
        The current temperature.
    """
    print("measuring", location)
    return 22.0


def get_current_wind_speed(location: str) -> float:
    """Get the current wind speed in km/h at a given location.

    Args:
        location: The location to get the wind speed for
    """
    return 6.0


def fail(how: str) -> object:
    """Fails."""
    circle = []
    circle.append(circle)
    if how == "exit":
        raise SystemExit("gone")
    return {"bytes": b"raw", "nan": float("nan"), "circle": circle}[how]


def hang() -> None:
    """Hangs."""
    print("hanging")
    while True:
        time.sleep(0.01)


def _private(x):
    pass
'''
PARIS = {"location": "Paris, France", "unit": "celsius"}


@pytest.fixture
def weather(tmp_path: Path) -> Path:
    path = tmp_path / "my_tools.py"
    path.write_text(WEATHER)
    return path


def results(body: dict[str, Any]) -> list[str]:
    return [message["content"] for message in body["messages"] if message["role"] == "tool"]


def test_the_loop_of_the_model_card(scripted: ScriptedServer, chat: Chat, weather: Path) -> None:
    scripted.replies = [
        called(("get_current_temperature", PARIS), text="Let me see."),
        said("The current temperature in Paris, France is 22.0 degrees Celsius."),
    ]
    ended = chat("--tools", weather, "--yes", "Hey, what's the temperature in Paris right now?")
    assert ended.code == 0
    assert ended.out == "Let me see.\nThe current temperature in Paris, France is 22.0 degrees Celsius.\n"
    assert 'get_current_temperature { "location": "Paris, France", "unit": "celsius" }' in ended.panels
    assert "measuring Paris, France" in ended.panels, "what a tool prints is no part of the answer"
    assert "get_current_temperature → 22.0" in ended.panels
    first, second = scripted.chats
    names = [tool["function"]["name"] for tool in first["tools"]]
    assert names == ["get_current_temperature", "get_current_wind_speed", "fail", "hang"]
    assert first["tools"] == second["tools"]
    assert first["stream"] is True
    assert not {"tool_choice", "response_format"} & (first.keys() | second.keys())
    call = {"name": "get_current_temperature", "arguments": json.dumps(PARIS)}
    assert second["messages"] == [
        {"role": "user", "content": "Hey, what's the temperature in Paris right now?"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"id": "id0", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "id0", "name": "get_current_temperature", "content": "22.0"},
    ]


def test_parallel_calls_are_answered_together(scripted: ScriptedServer, chat: Chat, weather: Path) -> None:
    calls = [("get_current_wind_speed", {"location": city}) for city in ("Paris", "Rome")]
    scripted.replies = [called(*calls, ("get_current_temperature", PARIS)), said("Windy.")]
    assert chat("--tools", weather, "--yes", "Wind?").out == "Windy.\n"
    _, second = scripted.chats
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "tool", "tool", "tool"]
    assert [message.get("tool_call_id") for message in second["messages"][2:]] == ["id0", "id1", "id2"]
    assert second["messages"][1]["content"] is None
    assert results(second) == ["6.0", "6.0", "22.0"]


def deltas(*calls: dict[str, Any]) -> Reply:
    return stream(*(chunk(tool_calls=[call]) for call in calls), chunk(finish="tool_calls"))


def test_calls_that_come_in_pieces(scripted: ScriptedServer, chat: Chat, weather: Path) -> None:
    text = json.dumps({"location": 'Pa{r}is "é" 👋'}, ensure_ascii=False)
    name = {"index": 0, "id": "a", "type": "function", "function": {"name": "get_current_wind_speed", "arguments": ""}}
    slices = [{"index": 0, "function": {"arguments": character}} for character in text]
    scripted.replies = [deltas(name, *slices), said("Done.")]
    assert chat("--tools", weather, "--yes", "Go").out == "Done.\n"
    (call,) = scripted.chats[1]["messages"][1]["tool_calls"]
    assert call == {"id": "a", "type": "function", "function": {"name": "get_current_wind_speed", "arguments": text}}


def test_calls_without_ids_or_with_the_same_get_their_own(scripted: ScriptedServer, chat: Chat, weather: Path) -> None:
    function = {"name": "get_current_wind_speed", "arguments": '{"location": "Rome"}'}
    scripted.replies = [
        deltas({"index": 0, "function": function}, {"index": 1, "function": function}),
        deltas({"index": 0, "id": "x", "function": function}, {"index": 1, "id": "x", "function": function}),
        said("Done."),
    ]
    assert chat("--tools", weather, "--yes", "Go").code == 0
    ids = [message["tool_call_id"] for message in scripted.chats[2]["messages"] if message["role"] == "tool"]
    assert len(set(ids)) == 4
    assert all(len(id) == 9 and id.isalnum() for id in ids), "the only form that every template accepts"


@pytest.mark.parametrize(
    ("name", "arguments", "told", "sent_back"),
    [
        ("get_current_wind_speed", '{"location": "Par', "the arguments are not valid JSON", "{}"),
        ("get_current_wind_speed", "[1]", "the arguments must be an object", "{}"),
        ("get_current_wind_speed", '"text"', "the arguments must be an object", "{}"),
        ("get_current_wind_speed", '{"place": 1}', "place is not known; accepted: location", '{"place": 1}'),
        ("get_current_temperature", '{"location": "Rome", "unit": "K"}', "unit must be one of", None),
        ("get_weather", "{}", "there is no tool 'get_weather'; there are: get_current_temperature, ", None),
        ("_private", "{}", "there is no tool '_private'", None),
        ("json", "{}", "there is no tool 'json'", None),
        ("fail", '{"how": "bytes"}', "the result is of type bytes, which JSON cannot hold", None),
        ("fail", '{"how": "nan"}', "the result is nan", None),
        ("fail", '{"how": "circle"}', "the result[0] contains itself", None),
        ("fail", '{"how": "exit"}', "SystemExit: gone", None),
        ("fail", '{"how": "other"}', "KeyError: 'other'", None),
    ],
)
def test_what_goes_wrong_is_told_to_the_model(
    scripted: ScriptedServer, chat: Chat, weather: Path, name: str, arguments: str, told: str, sent_back: str | None
) -> None:
    scripted.replies = [called((name, arguments)), said("I see.")]
    ended = chat("--tools", weather, "--yes", "Go")
    assert (ended.code, ended.out) == (0, "I see.\n")
    _, second = scripted.chats
    (result,) = results(second)
    assert told in json.loads(result)["error"]
    assert second["messages"][1]["tool_calls"][0]["function"]["arguments"] == sent_back or arguments
    assert "Traceback" not in ended.err


def test_the_user_sees_the_line_that_raised_and_the_model_does_not(
    scripted: ScriptedServer, chat: Chat, weather: Path
) -> None:
    scripted.replies = [called(("fail", {"how": "other"})), said("I see.")]
    assert f"{weather}:{WEATHER[: WEATHER.index('return {')].count(chr(10)) + 1}" in "".join(
        chat("--tools", weather, "--yes", "Go").panels.split()
    )
    assert "my_tools" not in results(scripted.chats[1])[0]


def test_names_that_no_function_can_have_are_not_sent_back(scripted: ScriptedServer, chat: Chat, weather: Path) -> None:
    scripted.replies = [called(("rm -rf /", {}), ("", {})), said("Sorry.")]
    assert chat("--tools", weather, "--yes", "Go").code == 0
    calls = scripted.chats[1]["messages"][1]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["rm_-rf__", "unknown"]
    assert all("there is no tool" in result for result in results(scripted.chats[1]))


def test_rounds_are_bounded_and_the_last_answer_is_without_tools(
    scripted: ScriptedServer, chat: Chat, weather: Path
) -> None:
    again = called(("get_current_wind_speed", {"location": "Rome"}))
    scripted.replies = [again] * 5 + [said("Enough.")]
    assert chat("--tools", weather, "--yes", "Go").out == "Enough.\n"
    assert [body.get("tool_choice") for body in scripted.chats] == [None] * 5 + ["none"]
    assert len(results(scripted.chats[-1])) == 5


def test_a_model_that_goes_on_calling_is_stopped(scripted: ScriptedServer, chat: Chat, weather: Path) -> None:
    scripted.replies = [called(("get_current_wind_speed", {"location": "Rome"}))] * 3
    ended = chat("--tools", weather, "--yes", "--max-rounds", "2", "Go")
    assert ended.code == 1
    assert "still calls tools after 2 rounds; see --max-rounds" in ended.err
    assert ended.err.count("get_current_wind_speed →") == 2


@pytest.mark.parametrize(
    ("typed", "answers"),
    [
        ("y\nn\n", [None, "the user did not allow this call"]),
        ("YES\n \n", [None, "the user did not allow this call"]),
        ("", ["the user did not allow this call"] * 2),
    ],
)
def test_the_user_is_asked_before_each_call(
    scripted: ScriptedServer, chat: Chat, weather: Path, typed: str, answers: list[str | None]
) -> None:
    wind = ("get_current_wind_speed", {"location": "Rome"})
    scripted.replies = [called(wind, wind), said("Done.")]
    ended = chat("--tools", weather, "Go", stdin=typed)
    assert (ended.code, ended.out) == (0, "Done.\n")
    assert 'get_current_wind_speed { "location": "Rome" } Run get_current_wind_speed? [y/N]' in ended.panels
    assert ("--yes runs tools without asking" in ended.err) == (not typed)
    assert [json.loads(each)["error"] if "error" in each else None for each in results(scripted.chats[1])] == answers


def test_a_question_may_be_piped_in(scripted: ScriptedServer, chat: Chat, weather: Path) -> None:
    scripted.replies = [called(("get_current_wind_speed", {"location": "Rome"})), said("6 km/h")]
    assert chat("--tools", weather, "--yes", stdin="Wind in Rome?\n").out == "6 km/h\n"
    assert scripted.chats[0]["messages"] == [{"role": "user", "content": "Wind in Rome?"}]


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([CUT], "The answer broke off"),
        ([], "The answer broke off: the server closed the connection."),
        ([event({"error": {"message": "out of memory", "code": "x"}})], "out of memory"),
        ([event({"error": "just text"})], "just text"),
        ([b"data: {oops\n\n"], "The answer broke off"),
        ([event({"choices": [{"delta": {"content": 5}}]})], "The answer broke off"),
    ],
)
def test_calls_of_an_answer_that_breaks_off_are_not_run(
    scripted: ScriptedServer, chat: Chat, weather: Path, parts: list[Any], told: str
) -> None:
    call = {"index": 0, "id": "a", "function": {"name": "hang", "arguments": "{}"}}
    begun = [event(chunk(content="Well,")), event(chunk(tool_calls=[call]))]
    scripted.replies = [Reply([*begun, *parts])]
    ended = chat("--tools", weather, "--yes", "Go")
    assert (ended.code, ended.out) == (1, "Well,\n")
    assert told in ended.err
    assert "hang" not in ended.err


def test_an_error_between_rounds_ends_the_question(scripted: ScriptedServer, chat: Chat, weather: Path) -> None:
    refusal = Reply([b'{"error": {"message": "the prompt is too long"}}'], 400, content_type="application/json")
    scripted.replies = [called(("get_current_wind_speed", {"location": "Rome"})), refusal]
    ended = chat("--tools", weather, "--yes", "Go")
    assert ended.code == 1
    assert "the prompt is too long (status 400)" in ended.err


def test_strange_deltas_do_no_harm(scripted: ScriptedServer, chat: Chat) -> None:
    strange = [None, [], {}, "text", [None], [{"index": "x"}], [{"function": None}], [{"function": {"arguments": 3}}]]
    scripted.replies = [
        stream(*(chunk(tool_calls=each) for each in strange), chunk(content="Hello"), chunk(finish="stop"))
    ]
    ended = chat("Hi")
    assert (ended.code, ended.out) == (0, "Hello\n"), ended.err


def test_calls_that_nobody_asked_for_are_left_alone(scripted: ScriptedServer, chat: Chat) -> None:
    scripted.replies = [called(("get_current_wind_speed", {}), text="Hm.")]
    assert chat("Hi").out == "Hm.\n"
    assert "tools" not in scripted.chats[0]


def test_what_a_terminal_would_obey_is_spelled_out(scripted: ScriptedServer, chat: Chat, weather: Path) -> None:
    nasty = "\x1b[2J\u202egnp.exe\r[red]hidden[/red]"
    scripted.replies = [called(("get_current_wind_speed", {"location": nasty}), (nasty, nasty)), said("Done.")]
    ended = chat("--tools", weather, "Go", stdin="n\n")
    assert not set("\x1b\r\u202e") & set(ended.err)
    assert r"\u001b[2J\u202egnp.exe\r[red]hidden[/red]" in ended.panels


def test_long_results_are_shown_in_part_and_told_whole(scripted: ScriptedServer, chat: Chat, tmp_path: Path) -> None:
    path = tmp_path / "long.py"
    path.write_text('def count() -> list[int]:\n    "Counts."\n    return list(range(1000))')
    scripted.replies = [called(("count", {})), said("Done.")]
    ended = chat("--tools", path, "--yes", "Go")
    assert len(ended.err.splitlines()) < 40
    assert json.loads(results(scripted.chats[1])[0]) == list(range(1000))


def test_thoughts_are_no_part_of_the_answer(scripted: ScriptedServer, chat: Chat) -> None:
    thought = chunk(reasoning_content="Well, well.")
    scripted.replies = [stream(thought, thought, chunk(content="Yes."), chunk(finish="stop")) for _ in range(2)]
    assert chat("Hi") == Said(0, "Yes.\n", "")
    terminal = Terminal("Hi")
    assert "Well, well.Well, well.\r\nYes.\r\n" in terminal.until(r"Yes\.\r\n")
    assert terminal.end() == 0


def test_warnings_of_the_server_are_shown(scripted: ScriptedServer, chat: Chat) -> None:
    scripted.replies = [
        stream({**chunk(content="Hi"), "warnings": [{"message": "tools was ignored"}]}, chunk(finish="stop"))
    ]
    ended = chat("Hi")
    assert ended.out == "Hi\n"
    assert "tools was ignored" in ended.err


# --- files


def test_functions_that_the_file_defines_are_offered(scripted: ScriptedServer, chat: Chat, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text('def borrowed() -> int:\n    "B."\n    return 1\n')
    (tmp_path / "json.py").write_text(
        "from os.path import join\nfrom functools import cache\nfrom beside import borrowed\nimport json\n"
        'assert json.dumps\nclass Thing: pass\nvalue = 3\n\n@cache\ndef own() -> int:\n    "O."\n'
        "    return borrowed()\nagain = own\ndef _hidden(): pass\n"
    )
    (tmp_path / "listed").write_text(
        "from dataclasses import dataclass\nfrom beside import borrowed\n"
        '__all__ = ["borrowed", "Point", "limit"]\nlimit = 3\n'
        '@dataclass\nclass Point:\n    "A place."\n    x: int\n'
        "def not_listed(x): pass\n"
    )
    scripted.replies = [said("Hi")]
    chat("--tools", tmp_path / "json.py", "--tools", tmp_path / "listed", "--tools", tmp_path / "json.py", "Go")
    assert [tool["function"]["name"] for tool in scripted.chats[0]["tools"]] == ["own", "borrowed", "Point"]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def f(:\n", "SyntaxError: invalid syntax"),
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("1/0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("x = '\0'", "cannot be loaded: "),
        ("x = '\udcff'", "cannot be loaded: "),
        ("", "defines no public function"),
        ("from os.path import join\ndef _f(): pass", "defines no public function"),
        ("__all__ = ['f']", "__all__ names 'f', which is not there"),
        ("def f(*args: int):\n    'F.'", "f, parameter 'args': *args: int takes any number of values"),
        ("def f(x):\n    'F.'", "f, parameter 'x': has no type hint"),
        ("def f(x: int): pass", "f has no docstring"),
        ("from __future__ import annotations\ndef f(x: Nowhere):\n    'F.'", "the type hint 'Nowhere' cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_a_sentence(
    hodios_home: Path, chat: Chat, tmp_path: Path, source: str, told: str
) -> None:
    path = tmp_path / "wrong.py"
    path.write_bytes(source.encode("utf-8", "surrogateescape"))
    ended = chat("--tools", path, "Go")
    assert (ended.code, ended.out) == (2, "")
    assert str(path) in ended.err
    assert told in ended.err
    assert "Traceback" not in ended.err


def test_files_that_are_none_and_names_used_twice(hodios_home: Path, chat: Chat, tmp_path: Path, weather: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text('def hang() -> None:\n    "Hangs."\n')
    assert "is not a file" in chat("--tools", tmp_path / "nothing.py", "Go").err
    assert "is not a file" in chat("--tools", tmp_path, "Go").err
    ended = chat("--tools", weather, "--tools", other, "Go")
    assert ended.code == 2
    assert f"{other}: there is a tool called hang already" in ended.err


# --- in a terminal


def test_interrupting_a_tool_stops_the_answer_and_not_the_program(scripted: ScriptedServer, weather: Path) -> None:
    scripted.replies = [
        called(("hang", {})),
        said("Never mind."),
        called(("get_current_wind_speed", {"location": "Rome"})),
        said("Done."),
    ]
    terminal = Terminal("--tools", str(weather))
    terminal.until(r"/help for commands[\s\S]*> ")
    terminal.type("first\n")
    terminal.until(r"Run hang\? \[y/N\] ")
    terminal.type("y\n")
    terminal.until(r"hanging")
    terminal.interrupt(r"stopped[\s\S]*> ")
    terminal.type("second\n")
    terminal.until(r"Never mind\.[\s\S]*tokens[\s\S]*> ")
    terminal.type("third\n")
    terminal.until(r"Run get_current_wind_speed\? \[y/N\] ")
    terminal.interrupt(r"stopped[\s\S]*> ")
    terminal.type("fourth\n")
    terminal.until(r"Done\.[\s\S]*> ")
    terminal.type("\x04")
    assert terminal.end() == 0
    asked = [[message["content"] for message in body["messages"]] for body in scripted.chats]
    # What brought no answer is forgotten, so that no call is left without its result.
    assert asked == [["first"], ["second"], ["second", "Never mind.", "third"], ["second", "Never mind.", "fourth"]]


# --- the guide


def test_the_guide_is_true(scripted: ScriptedServer, chat: Chat, tmp_path: Path, repository: Path) -> None:
    guide = (repository / "docs" / "tools.md").read_text()
    source, _, calls = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    (tmp_path / "my_tools.py").write_text(source)
    told = re.findall(r"# ('.*')$", calls, re.MULTILINE)
    arguments = re.findall(r"call\(get_current_temperature, '(.*?)'\)", calls)
    scripted.replies = [called(*(("get_current_temperature", each) for each in arguments)), said("22 degrees.")]
    assert chat("--tools", "my_tools.py", "--yes", "What is the temperature in Paris?").out == "22 degrees.\n"
    (definition,) = re.findall(r"```json\n(.*?)```", guide, re.DOTALL)
    told_to_the_model = scripted.chats[0]["tools"][0]
    assert told_to_the_model["function"]["parameters"].pop("additionalProperties") is False
    assert told_to_the_model == json.loads(definition)
    assert results(scripted.chats[1]) == [ast.literal_eval(each.replace("\\", "\\\\")) for each in told]
