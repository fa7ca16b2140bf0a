"""The jinja environment that chat templates run in: Hugging Face's functions and settings, nothing of the host, and
bounds on work and size, since templates come out of model files that anybody may have written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sized
from datetime import datetime
from types import CodeType
from typing import Any, NoReturn

from jinja2 import Environment, Template, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.visitor import NodeTransformer

MAX_CHARACTERS = 16 * 1024 * 1024
"""Length of the rendered text and of every string on the way to it; the longest contexts take less."""
MAX_STEPS = 2_000_000
"""Rounds of loops, calls and items filtered in one rendering; real templates take some hundreds per message."""
MAX_BITS = 8192
"""Size of whole numbers."""

_CHARACTERS_PER_STEP = 256
_WIDE_FORMAT = re.compile(r"\d{5}|\*|\{[^{}]*\{")
"""Format strings whose result can be far longer than they are: a width of five digits, or one taken from a value."""


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the assistant wrote, for training; here it shows as it is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """For one rendering (or compilation), since it counts what that costs. Going over a bound is a `SecurityError`."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[LoopControlExtension, _Generation],
            finalize=self._measured,
        )
        self._steps = 0
        del self.globals["lipsum"]
        self.globals["range"] = safe_range
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = lambda form: clock().strftime(form)
        self.filters["tojson"] = _to_json
        self.filters = {name: self._bounded_filter(name, function) for name, function in self.filters.items()}

    def bind(self, code: CodeType) -> Template:
        """The template of compiled `code`, spending from this environment's budget."""
        return self.template_class.from_code(self, code, self.globals)

    def spend(self, steps: int = 1) -> None:
        """Compiled into the head of every loop's body."""
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise SecurityError(f"the chat template takes more than {MAX_STEPS} steps")

    def iterate(self, values: Iterable[Any]) -> Iterable[Any]:
        """Compiled around what every loop goes over, so that rounds which the loop's condition leaves out count too."""
        if isinstance(values, Sized):
            self.spend(len(values))
            return values
        return self._counted(values)

    def concat_values(self, *parts: Any) -> str:
        """Compiled in the place of the `~` operator."""
        texts = [str(self._measured(part)) for part in parts]
        _check_length(sum(map(len, texts)))
        return "".join(texts)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        owner = getattr(__obj, "__self__", None)
        name = getattr(__obj, "__name__", "")
        if isinstance(owner, str):
            _check_growth(name, owner, *args, *kwargs.values())
        __self.spend(1 + sum(map(_weight, (owner, *args, *kwargs.values()))))
        return _checked(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        match operator, left, right:
            case "%", str(), _:
                _check_growth("format", left)
                right = self._measured(right)
            case "*", Sized(), int():
                _check_length(len(left) * right)
            case "*", int(), Sized():
                _check_length(left * len(right))
            case "+", Sized(), Sized():
                _check_length(len(left) + len(right))
            case "**", int(), int() if left.bit_length() * abs(right) > MAX_BITS:
                raise SecurityError("the chat template makes too large a number")
        return _checked(super().call_binop(context, operator, left, right))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        for loop in template.find_all(nodes.For):
            loop.iter = _call_environment("iterate", [loop.iter], loop.lineno)  # type: ignore[list-item]
            tick = nodes.ExprStmt(_call_environment("spend", [], loop.lineno), lineno=loop.lineno)
            loop.body.insert(0, tick)
        return _Concatenations().visit(template)  # type: ignore[no-any-return]

    def _counted(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self.spend()
            yield value

    def _measured(self, value: Any) -> Any:
        """`value`, about to become text, unless it holds too much: nested lists can repeat one another without end."""
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, dict):
                waiting += item.keys()
                waiting += item.values()
                self.spend(len(item))
            elif isinstance(item, list | tuple | set | frozenset):
                waiting += item
                self.spend(len(item))
        return value

    def _bounded_filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def bounded(*args: Any, **kwargs: Any) -> Any:
            values = [arg for arg in args if not isinstance(arg, Context | EvalContext | Environment)]
            values += kwargs.values()
            _check_growth(name, *values)
            self.spend(1 + sum(map(_weight, values)))
            if name in ("tojson", "string", "join", "pprint", "format", "xmlattr", "escape", "e", "urlencode"):
                self._measured(values)
            return _checked(function(*args, **kwargs))

        pass_arg = getattr(function, "jinja_pass_arg", None)
        if pass_arg is not None:
            bounded.jinja_pass_arg = pass_arg  # type: ignore[attr-defined]
        return bounded


class _Concatenations(NodeTransformer):
    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call_environment("concat_values", node.nodes, node.lineno)


def _call_environment(method: str, args: list[nodes.Expr], line: int) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(method), args, [], None, None, lineno=line)


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As Hugging Face renders it: keys in their order, no HTML escapes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _weight(value: object) -> int:
    if isinstance(value, str):
        return len(value) // _CHARACTERS_PER_STEP
    return len(value) if isinstance(value, list | tuple | dict | range) else 0


def _check_length(length: int) -> None:
    if length > MAX_CHARACTERS:
        raise SecurityError(f"the chat template makes a text or list longer than {MAX_CHARACTERS}")


def _check_growth(name: str, value: object, *args: Any) -> None:
    """Refuses what would make a long result out of a short value before it is made."""
    widths = [abs(arg) for arg in args if isinstance(arg, int)]
    texts = [arg for arg in args if isinstance(arg, str)]
    length = len(value) if isinstance(value, Sized) else 1
    match name:
        case "replace" if len(texts) >= 2:
            text = str(value)
            _check_length(len(text) + text.count(texts[0]) * len(texts[1]))
        case "join" if isinstance(value, str):
            _check_length(sum(len(arg) * max(length, 1) for arg in args if isinstance(arg, Sized)))
        case "join":
            _check_length(length * (1 + sum(map(len, texts))))
        case "center" | "ljust" | "rjust" | "zfill" | "batch" | "slice":
            _check_length(max(widths, default=0))
        case "indent" | "expandtabs" | "tojson":
            _check_length((length + 1) * (max(widths, default=0) + max(map(len, texts), default=0)))
        case "format" | "format_map" if _WIDE_FORMAT.search(str(value)):
            raise SecurityError("the chat template uses a format that is too wide")


def _checked(result: Any) -> Any:
    if isinstance(result, str | list | tuple):
        _check_length(len(result))
    elif isinstance(result, int) and result.bit_length() > MAX_BITS:
        raise SecurityError("the chat template makes too large a number")
    return result
