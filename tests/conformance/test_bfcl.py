"""The questions of the Berkeley Function Calling Leaderboard, put to a real server and the real model through OpenAI's
client: every call fits its tool. How many are the calls that were expected is told at the end of the run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bfcl
import jsonschema
import openai
import pytest
from bfcl import Leaderboard, Question, Verdict
from live_server import KEY, MODEL, PATIENCE_S, LiveServer
from openai.types.chat.chat_completion import Choice

CONCURRENCY = 48
NUM_REQUIRED = {"simple_python": 35, "multiple": 15, "parallel": 15, "parallel_multiple": 15, "irrelevance": 20}
"""Questions of the sample, by category: 100."""
NUM_FREE = 20
NUM_STREAMED = 20
MAX_TOKENS = 128
MAX_TOKENS_FULL = 512

Ask = Callable[..., list[Verdict]]


@dataclass
class Report:
    """A table at the end of the run, in Markdown."""

    lines: list[str] = field(default_factory=list)

    def add(self, category: str, choice: str, verdicts: list[Verdict], result: str) -> None:
        cut, whole = sum(verdict.is_cut for verdict in verdicts), sum(len(verdict.calls) for verdict in verdicts)
        incomplete = sum(verdict.num_incomplete for verdict in verdicts)
        self.lines.append(
            f"| {category} | {choice} | {len(verdicts)} | {whole} | {cut} | {incomplete} | "
            f"{sum(bool(verdict.faults) for verdict in verdicts)} | {result} |"
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section(f"tool calls: {bfcl.SOURCE}")
        terminalreporter.line(
            "| category | tool_choice | questions | whole calls | cut | incomplete | faulty | result |"
        )
        terminalreporter.line("|---|---|---|---|---|---|---|---|")
        for line in self.lines:
            terminalreporter.line(line)


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest) -> Report:
    report = Report()
    request.config.pluginmanager.register(report)
    return report


@pytest.fixture(scope="module")
def leaderboard(repository: Path) -> Leaderboard:
    return Leaderboard(bfcl.fetch(repository / ".cache"))


@pytest.fixture(scope="module")
def is_full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="module")
def client(live_server: LiveServer, is_full: bool) -> Iterator[openai.OpenAI]:
    # It counts from question to answer, and longer answers take longer: on a machine that others use, minutes.
    patience_s = PATIENCE_S * (MAX_TOKENS_FULL / MAX_TOKENS if is_full else 1)
    with openai.OpenAI(base_url=f"{live_server.url}/v1", api_key=KEY, max_retries=0, timeout=patience_s) as client:
        yield client


def asked(question: Question, **options: Any) -> dict[str, Any]:
    """What is sent. Only questions that several calls answer may have several."""
    return {
        "model": MODEL,
        "messages": question.messages,
        "tools": question.tools,
        "temperature": 0,
        "parallel_tool_calls": question.category.startswith("parallel"),
        **options,
    }


@pytest.fixture(scope="module")
def ask(client: openai.OpenAI, is_full: bool) -> Ask:
    max_tokens = MAX_TOKENS_FULL if is_full else MAX_TOKENS

    def verdict(question: Question, tool_choice: str) -> Verdict:
        answer = client.chat.completions.create(**asked(question, tool_choice=tool_choice, max_tokens=max_tokens))
        assert answer.usage
        return bfcl.judge(question, answer.choices[0], is_cut=answer.usage.completion_tokens == max_tokens)

    def ask_all(questions: list[Question], tool_choice: str) -> list[Verdict]:
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            return list(pool.map(lambda question: verdict(question, tool_choice), questions))

    return ask_all


def faults(verdicts: Iterable[Verdict]) -> dict[str, list[str]]:
    return {verdict.question.id: verdict.faults for verdict in verdicts if verdict.faults}


@pytest.mark.parametrize("category", NUM_REQUIRED)
def test_required_calls_fit_their_tools(
    leaderboard: Leaderboard, ask: Ask, report: Report, category: str, is_full: bool
) -> None:
    questions = leaderboard.questions(category) if is_full else leaderboard.sample(category, NUM_REQUIRED[category])
    verdicts = ask(questions, "required")
    num_right = sum(map(leaderboard.is_right, verdicts)) if category in bfcl.ANSWERED else None
    right = "–" if num_right is None else f"{num_right} right ({num_right / len(verdicts):.1%})"
    report.add(category, "required", verdicts, right)
    assert not faults(verdicts)
    assert not [verdict.question.id for verdict in verdicts if not (verdict.calls or verdict.is_cut)]
    if not category.startswith("parallel"):
        assert max(len(verdict.calls) + verdict.num_incomplete for verdict in verdicts) == 1
        assert sum(verdict.is_cut for verdict in verdicts) < len(verdicts) / 2, "the grammar lets no call end"


def few(leaderboard: Leaderboard, category: str, num: int) -> list[Question]:
    """Some of those whose calls are required elsewhere: the engine knows their prompts."""
    required = leaderboard.sample(category, NUM_REQUIRED[category])
    return [required[i * len(required) // num] for i in range(num)]


def test_calls_that_nobody_required_fit_their_tools(
    leaderboard: Leaderboard, ask: Ask, report: Report, is_full: bool
) -> None:
    category = bfcl.IRRELEVANT
    verdicts = ask(leaderboard.questions(category) if is_full else few(leaderboard, category, NUM_FREE), "auto")
    num_quiet = sum(not (verdict.calls or verdict.num_incomplete) for verdict in verdicts)
    report.add(category, "auto", verdicts, f"{num_quiet} without a call ({num_quiet / len(verdicts):.1%})")
    assert not faults(verdicts)


def put_together(chunks: Iterable[Any]) -> tuple[str, list[list[str]], str, int]:
    """Content, calls as name and arguments, finish reason, tokens. Each call is named once, in order."""
    content, calls, finish_reason, num_tokens = "", [], "", 0
    for chunk in chunks:
        if chunk.usage:
            num_tokens = chunk.usage.completion_tokens
        for choice in chunk.choices:
            content += choice.delta.content or ""
            finish_reason = choice.finish_reason or finish_reason
            for call in choice.delta.tool_calls or ():
                if call.index == len(calls):
                    assert call.id
                    assert call.type == "function"
                    calls.append([call.function.name, ""])
                else:
                    assert (call.index, call.id, call.function.name) == (len(calls) - 1, None, None)
                calls[-1][1] += call.function.arguments or ""
    return content, calls, finish_reason, num_tokens


def test_streamed_calls_are_those_of_the_whole_answer(leaderboard: Leaderboard, client: openai.OpenAI) -> None:
    halves = (few(leaderboard, category, NUM_STREAMED // 2) for category in ("simple_python", "parallel_multiple"))
    questions = [question for half in halves for question in half]

    def both(number: int) -> tuple[Any, Any]:
        sent = asked(questions[number], tool_choice="required", seed=number, temperature=0.7, max_tokens=48)
        whole = client.chat.completions.create(**sent)
        (choice,) = whole.choices
        calls = [[call.function.name, call.function.arguments] for call in choice.message.tool_calls or ()]
        assert whole.usage
        told = (choice.message.content or "", calls, choice.finish_reason, whole.usage.completion_tokens)
        with client.chat.completions.create(**sent, stream=True, stream_options={"include_usage": True}) as stream:
            return told, put_together(stream)

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        for whole, streamed in pool.map(both, range(len(questions))):
            assert streamed == whole


def right_calls(question: Question) -> list[dict[str, Any]]:
    """The first of the values that are right, for all parameters that may not be left out."""
    required = {function["name"]: function["parameters"]["required"] for function in question.functions}

    def first(values: list[Any]) -> Any:
        value = next(value for value in values if value != "")
        if isinstance(value, list):
            return [members(each) if isinstance(each, dict) else each for each in value]
        return members(value) if isinstance(value, dict) else value

    def members(expected: dict[str, list[Any]], needed: Iterable[str] = ()) -> dict[str, Any]:
        return {name: first(values) for name, values in expected.items() if "" not in values or name in needed}

    return [
        {name.replace(".", "_"): members(expected, required[name])}
        for call in question.expected
        for name, expected in call.items()
    ]


@pytest.mark.parametrize("category", bfcl.ANSWERED)
def test_the_checker_knows_right_calls_from_wrong_ones(leaderboard: Leaderboard, category: str) -> None:
    for question in leaderboard.questions(category):
        calls = right_calls(question)
        assert leaderboard.is_right(Verdict(question, False, calls)), question.id
        renamed = [{f"{name}x": arguments for name, arguments in call.items()} for call in calls]
        empty = [{name: {} for name in call} for call in calls if any(call.values())]
        for wrong in (renamed, [*calls, *calls], [], [*calls[1:], *empty]):
            assert not leaderboard.is_right(Verdict(question, False, wrong)), question.id
        assert not leaderboard.is_right(Verdict(question, False, calls, num_incomplete=1)), question.id


@pytest.mark.parametrize("category", NUM_REQUIRED)
def test_functions_become_tools_that_openai_would_take(leaderboard: Leaderboard, category: str) -> None:
    for question in leaderboard.questions(category):
        tools = [tool["function"] for tool in question.tools]
        assert len({tool["name"] for tool in tools}) == len(question.functions)
        for tool in tools:
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool["name"])
            jsonschema.Draft202012Validator.check_schema(tool["parameters"])
            assert not re.search(r'"type": "(dict|float|tuple|any)"', json.dumps(tool))


def answer(*calls: tuple[str, str], finish_reason: str = "tool_calls", ids: str = "abcdef") -> Choice:
    made = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id, (name, arguments) in zip(ids, calls, strict=False)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": made}
    return Choice.model_validate({"index": 0, "finish_reason": finish_reason, "message": message})


BOX = Question(
    "box",
    "parallel",
    [],
    [
        {
            "name": "make.box",
            "description": "",
            "parameters": {
                "type": "dict",
                "properties": {"size": {"type": "tuple", "items": {"type": "float"}}, "lid": {"type": "boolean"}},
                "required": ["size", "lid"],
            },
        }
    ],
    [],
)
GOOD = ("make_box", '{"size": [1, 2.5], "lid": true}')
BROKEN = ("make_box", '{"size": [1, 2')


@pytest.mark.parametrize(
    ("choice", "is_cut"),
    [
        (answer(GOOD), False),
        (answer(GOOD, GOOD), True),
        (answer(GOOD, BROKEN, finish_reason="length"), True),
        (answer(("make_box", "{"), finish_reason="length"), True),
        (answer(GOOD, ("make_box", ""), finish_reason="length"), True),
        (answer(finish_reason="stop"), False),
        (answer(finish_reason="length"), True),
    ],
)
def test_answers_in_order(choice: Choice, is_cut: bool) -> None:
    assert not bfcl.judge(BOX, choice, is_cut=is_cut).faults


@pytest.mark.parametrize(
    ("choice", "is_cut"),
    [
        (answer(("make.box", GOOD[1])), False),
        (answer(("make_box", '{"size": [1, "2"], "lid": true}')), False),
        (answer(("make_box", '{"size": [1]}')), False),
        (answer(("make_box", "[]")), False),
        (answer(BROKEN), False),
        (answer(BROKEN), True),
        (answer(BROKEN, finish_reason="length"), False),
        (answer(BROKEN, GOOD, finish_reason="length"), True),
        (answer(("make_box", '{"size": ["1", '), finish_reason="length"), True),
        (answer(("make_box", '{"size": 1,'), finish_reason="length"), True),
        (answer(("make_box", ""), finish_reason="length"), False),
        (answer(("make_box", "{size: "), finish_reason="length"), True),
        (answer(GOOD, finish_reason="stop"), False),
        (answer(GOOD, finish_reason="length"), True),
        (answer(GOOD, GOOD, ids="aa"), False),
        (answer(finish_reason="tool_calls"), False),
        (answer(finish_reason="length"), False),
    ],
)
def test_answers_out_of_order(choice: Choice, is_cut: bool) -> None:
    assert bfcl.judge(BOX, choice, is_cut=is_cut).faults
