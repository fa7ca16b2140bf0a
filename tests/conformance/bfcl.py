"""The Berkeley Function Calling Leaderboard: its questions, its functions as OpenAI's clients send them, and what its
own checker says of the calls that came back.

The data and the checker are the leaderboard's (Apache-2.0), taken out of its wheel.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import tempfile
import types
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pydantic_core

SOURCE = "bfcl-eval==2026.3.23"
PACKAGE = "bfcl_eval"
ANSWERED = ("simple_python", "multiple", "parallel", "parallel_multiple")
"""Categories of questions that a call answers."""
IRRELEVANT = "irrelevance"
"""The category of questions that none of the functions helps with."""
TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
"""The leaderboard's types that JSON Schema spells otherwise, as the leaderboard translates them itself."""
_CHECKER = f"{PACKAGE}.eval_checker.ast_eval.ast_checker"
_MODELS = f"{PACKAGE}.constants.model_config"
_NEEDED = (
    "__init__.py",
    "constants/__init__.py",
    "constants/enums.py",
    "constants/type_mappings.py",
    "eval_checker/__init__.py",
    "eval_checker/ast_eval/",
    *(f"data/BFCL_v4_{category}.json" for category in (*ANSWERED, IRRELEVANT)),
    *(f"data/possible_answer/BFCL_v4_{category}.json" for category in ANSWERED),
)


@dataclass(frozen=True)
class Question:
    id: str
    category: str
    messages: list[dict[str, Any]]
    functions: list[dict[str, Any]]
    """As the leaderboard describes them."""
    expected: list[dict[str, Any]]
    """Calls by the functions' names, each parameter with all values that are right; none where no call is."""

    @property
    def tools(self) -> list[dict[str, Any]]:
        """As OpenAI's clients send them. Names lose their dots, which OpenAI does not allow."""
        return [
            {
                "type": "function",
                "function": {
                    **function,
                    "name": _name(function["name"]),
                    "parameters": _schema(function["parameters"]),
                },
            }
            for function in self.functions
        ]


@dataclass
class Verdict:
    """What an answer holds. `faults` are for people to read; there are to be none."""

    question: Question
    is_cut: bool
    """Whether the greatest number of tokens ended the answer."""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """Whole ones: arguments by name."""
    num_incomplete: int = 0
    faults: list[str] = field(default_factory=list)


def fetch(cache: Path) -> Path:
    """The folder with the package, downloaded once into `cache`. Raises RuntimeError where pip cannot."""
    folder = cache / SOURCE
    if not folder.is_dir():
        cache.mkdir(exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix="bfcl-", dir=cache))
        wheel = _download(unfinished)
        with zipfile.ZipFile(wheel) as archive:
            wanted = tuple(f"{PACKAGE}/{name}" for name in _NEEDED)
            archive.extractall(unfinished, [name for name in archive.namelist() if name.startswith(wanted)])
        wheel.unlink()
        try:
            unfinished.rename(folder)
        except OSError:
            # Another run of the tests was faster.
            shutil.rmtree(unfinished)
    return folder


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    result = subprocess.run([*command, SOURCE], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or not wheels:
        raise RuntimeError(f"the tests of tool calls need {SOURCE}, and pip cannot fetch it:\n{result.stderr}")
    return wheels[0]


class Leaderboard:
    def __init__(self, folder: Path) -> None:
        """`folder` is what `fetch` returned."""
        self._data = folder / PACKAGE / "data"
        self._check, self._python = _import_checker(folder)

    def questions(self, category: str) -> list[Question]:
        answers = {}
        if category in ANSWERED:
            answers = {row["id"]: row["ground_truth"] for row in self._rows(f"possible_answer/BFCL_v4_{category}.json")}
        return [
            Question(row["id"], category, row["question"][0], row["function"], answers.get(row["id"], []))
            for row in self._rows(f"BFCL_v4_{category}.json")
        ]

    def sample(self, category: str, num: int) -> list[Question]:
        """That many, from all over the category; always the same ones."""
        questions = self.questions(category)
        return [questions[i * len(questions) // num] for i in range(num)]

    def is_right(self, verdict: Verdict) -> bool:
        """Whether the calls are those that the leaderboard expects."""
        if verdict.faults or verdict.num_incomplete:
            return False
        question = verdict.question
        answer = self._check(
            question.functions, verdict.calls, question.expected, self._python, question.category, "ours"
        )
        return bool(answer["valid"])

    def _rows(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self._data / name).read_text().splitlines()]


def judge(question: Question, choice: Any, *, is_cut: bool) -> Verdict:
    """Holds an answer, as OpenAI's client has it, against the tools that were sent.

    An answer that was cut inside of a call's arguments ends in that call and says `length`. All other calls are whole.
    """
    verdict = Verdict(question, is_cut)
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in question.tools}
    calls = choice.message.tool_calls or []
    for i, call in enumerate(calls):
        name, text = call.function.name, call.function.arguments
        if call.type != "function" or name not in schemas:
            verdict.faults.append(f"call {i} is of no tool: {name!r}")
            continue
        schema = schemas[name]
        try:
            arguments = json.loads(text)
            verdict.calls.append({name: arguments})
        except ValueError:
            verdict.num_incomplete += 1
            if not is_cut or i < len(calls) - 1:
                verdict.faults.append(f"call {i} is incomplete, and nothing cut it: {text!r}")
            schema, arguments = _of_beginnings(schema), _beginning(text)
        errors = jsonschema.Draft202012Validator(schema).iter_errors(arguments)
        verdict.faults += [f"call {i}: {error.json_path}: {error.message} in {text!r}" for error in errors]
    if len({call.id for call in calls}) < len(calls):
        verdict.faults.append("calls share an id")
    if choice.finish_reason not in _finish_reasons(verdict):
        verdict.faults.append(f"the finish reason is {choice.finish_reason}")
    return verdict


def _finish_reasons(verdict: Verdict) -> tuple[str, ...]:
    if verdict.num_incomplete:
        return ("length",)
    if verdict.calls:
        return ("tool_calls",)
    # Whether the last token that was allowed was also that which ends an answer cannot be told.
    return ("length", "stop") if verdict.is_cut else ("stop",)


def _beginning(text: str) -> Any:
    """The object of JSON that breaks off, without its last member; None where it is no beginning of JSON."""
    try:
        return pydantic_core.from_json(text, allow_partial=True) if text else {}
    except ValueError:
        return None


def _of_beginnings(schema: dict[str, Any]) -> dict[str, Any]:
    """What holds of a value that is not finished, its last member or element left out."""
    loose = {keyword: value for keyword, value in schema.items() if keyword not in ("required", "minItems")}
    if "properties" in schema:
        loose["properties"] = {name: _of_beginnings(each) for name, each in schema["properties"].items()}
    if "items" in schema:
        loose["items"] = _of_beginnings(schema["items"])
    return loose


def _name(name: str) -> str:
    return name.replace(".", "_")


def _schema(described: dict[str, Any]) -> dict[str, Any]:
    schema = dict(described)
    kind = described["type"]
    schema["type"] = TYPES.get(kind, kind)
    if "properties" in described:
        schema["properties"] = {name: _schema(each) for name, each in described["properties"].items()}
    if "items" in described:
        schema["items"] = _schema(described["items"])
    return schema


def _import_checker(folder: Path) -> tuple[Any, Any]:
    """The leaderboard's checker and its word for Python.

    Of the table of models that it imports, and that imports every provider's client, it reads one thing: that names
    lose their dots.
    """
    if _CHECKER not in sys.modules:
        models = types.ModuleType(_MODELS)
        models.MODEL_CONFIG_MAPPING = {"ours": types.SimpleNamespace(underscore_to_dot=True)}
        sys.modules[_MODELS] = models
        sys.path.append(str(folder))
    checker = importlib.import_module(_CHECKER)
    return checker.ast_checker, checker.Language.PYTHON
