"""The functions that `hodios chat --tools` gives a model: loaded, shown when they are called, asked about, and run."""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from hodios.cli.console import visible
from hodios.cli.loading import load_file
from hodios.errors import SetupError
from hodios.functions import Outcome, failure, run, tool
from hodios.hints.kinds import is_model
from hodios.providers.call_deltas import Called

_SHOWN_LINES = 20
_SHOWN_CHARACTERS = 4000


class Toolbox:
    """The functions of some files by name. Raises SetupError for what cannot be a tool, and for a name used twice."""

    def __init__(self, paths: Sequence[Path], *, asks: bool) -> None:
        self._asks = asks
        self._functions: dict[str, Callable[..., Any]] = {}
        self._console = Console(stderr=True, highlight=False)
        self.definitions: list[dict[str, Any]] = []
        for path in dict.fromkeys(path.resolve() for path in paths):
            self._add(path)

    def _add(self, path: Path) -> None:
        functions = _public_functions(load_file(path), path)
        if not functions:
            raise SetupError(f"{path} defines no public function.")
        for function in functions:
            try:
                definition = tool(function)
            except SetupError as error:
                raise SetupError(f"{path}: {error}") from error
            # Small models like to make up arguments; those that are held to the schema then cannot.
            definition["function"]["parameters"].setdefault("additionalProperties", False)
            name = definition["function"]["name"]
            if name in self._functions:
                raise SetupError(f"{path}: there is a tool called {name} already; rename one of them.")
            self._functions[name] = function
            self.definitions.append(definition)

    def answer(self, call: Called) -> str:
        """What the model is told of its call: the result, or what went wrong. Ctrl-C leaves as KeyboardInterrupt."""
        self._show(call.name, _pretty(call.arguments), "cyan")
        outcome = self._outcome(call)
        body = _pretty(outcome.text) + (f"\n({outcome.where})" if outcome.where else "")
        self._show(f"{call.name} →", _shortened(body), "red" if outcome.is_error else "green")
        return outcome.text

    def _outcome(self, call: Called) -> Outcome:
        function = self._functions.get(call.name)
        if function is None:
            return failure(f"there is no tool {call.name!r}; there are: {', '.join(self._functions)}")
        if self._asks and not self._may_run(call.name):
            return failure("the user did not allow this call")
        # What a tool prints is for the user, and no part of the answer.
        with contextlib.redirect_stdout(sys.stderr):
            return run(function, call.arguments)

    def _may_run(self, name: str) -> bool:
        self._console.print(Text(f"Run {name}? [y/N] "), end="")
        line = sys.stdin.readline()
        if not line:
            self._console.print("no (nobody can be asked here; --yes runs tools without asking)")
        return line.strip().lower() in ("y", "yes")

    def _show(self, title: str, body: str, colour: str) -> None:
        panel = Panel(Text(visible(body)), title=Text(visible(title)), title_align="left", border_style=colour)
        self._console.print(panel)


def _public_functions(module: ModuleType, path: Path) -> list[Callable[..., Any]]:
    """Those that the file defines, or those of its `__all__`, which may name models and imported functions, too."""
    names: Mapping[str, Any] = vars(module)
    if "__all__" in names:
        missing = [name for name in names["__all__"] if name not in names]
        if missing:
            raise SetupError(f"{path}: __all__ names {missing[0]!r}, which is not there.")
        found = [names[name] for name in names["__all__"] if _is_function(names[name]) or is_model(names[name])]
    else:
        found = [
            value
            for name, value in names.items()
            if not name.startswith("_") and _is_function(value) and value.__module__ == module.__name__
        ]
    return list(dict.fromkeys(found))


def _is_function(value: Any) -> bool:
    """Decorators such as `functools.cache` make other things of functions, and keep what they are made of."""
    return inspect.isfunction(inspect.unwrap(value) if callable(value) else value)


def _pretty(text: str) -> str:
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return text


def _shortened(text: str) -> str:
    lines = text[:_SHOWN_CHARACTERS].splitlines()
    is_whole = len(text) <= _SHOWN_CHARACTERS and len(lines) <= _SHOWN_LINES
    return text if is_whole else "\n".join([*lines[:_SHOWN_LINES], f"… ({len(text)} characters)"])
