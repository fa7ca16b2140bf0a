"""The jinja environment that chat templates run in: Hugging Face's functions and settings, nothing of the host, and
bounds on work and size, since templates come out of model files that anybody may have written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Sequence, Sized, ValuesView
from datetime import datetime
from itertools import chain
from types import CodeType
from typing import Any, NoReturn

from jinja2 import Environment, Template, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Cycler, Joiner, Namespace
from jinja2.visitor import NodeTransformer

from hodios.dialog.growth import check_growth, check_length

MAX_STEPS = 2_000_000
"""Rounds of loops, calls and items filtered in one rendering; real templates take some hundreds per message."""
MAX_SECONDS = 5.0
MAX_BITS = 8192
"""Size of whole numbers."""

_CHARACTERS_PER_STEP = 256
_ITEMS_PER_STEP = 64
_CONTAINERS = (list, tuple, dict, range, KeysView, ValuesView, ItemsView)


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the assistant wrote, for training; here it shows as it is."""

    tags = {"generation"}  # noqa: RUF012 - Jinja reads it of the class, and changes nothing in it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Namespace(Namespace):
    """What templates keep their variables in. It can hold itself, so it never shows what it holds."""

    def __repr__(self) -> str:
        return "<namespace>"


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """For one rendering (or compilation), since it counts what that costs. Going over a bound is a `SecurityError`.

    Every operation is bounded in the size of what it makes, and the number of operations and the time that they take
    together are bounded too. `timer` counts seconds.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, clock: Callable[[], datetime], timer: Callable[[], float]) -> None:
        extensions = [LoopControlExtension, _Generation]
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=extensions, finalize=self.bounded)
        self._timer = timer
        self._deadline = timer() + MAX_SECONDS
        self._steps = 0
        self._sizes: dict[int, tuple[object, int]] = {}
        self.globals = {
            "range": safe_range,
            "dict": dict,
            "cycler": Cycler,
            "joiner": Joiner,
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": lambda form: clock().strftime(form),
        }
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
        if self._timer() > self._deadline:
            raise SecurityError(f"the chat template takes more than {MAX_SECONDS} s")

    def iterate(self, values: Iterable[Any]) -> Iterable[Any]:
        """Compiled around what every loop goes over, so that rounds which the loop's condition leaves out count too."""
        if isinstance(values, Sized):
            self.spend(len(values))
            return values
        return self._counted(values)

    def concat_values(self, *parts: Any) -> str:
        """Compiled in the place of the `~` operator."""
        texts = [str(part) for part in parts]
        check_length(sum(map(len, texts)))
        return "".join(texts)

    def bounded(self, value: Any) -> Any:
        """`value`, unless it is too large. Compiled around every list and dictionary that a template writes down, since
        a few nested ones can repeat one another without end."""
        if isinstance(value, str):
            check_length(len(value))
        elif isinstance(value, int):
            if value.bit_length() > MAX_BITS:
                raise SecurityError("the chat template makes too large a number")
        elif self._size(value) > MAX_STEPS:
            raise SecurityError(f"the chat template makes a value of more than {MAX_STEPS} items")
        return value

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as Jinja has it
        owner = getattr(__obj, "__self__", None)
        if owner is __self:
            return __obj(*args)
        if isinstance(owner, str):
            check_growth(__obj.__name__, owner, *args, *kwargs.values())
        __self.spend(1 + sum(map(_steps_over, (owner, *args, *kwargs.values()))))
        return __self.bounded(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            check_growth("{}", value.__self__)
        return wrapped

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        match operator, left, right:
            case "%", str(), _:
                check_growth("%", left)
            case "*", Sized(), int():
                check_length(len(left) * right)
            case "*", int(), Sized():
                check_length(left * len(right))
            case "+", Sized(), Sized():
                check_length(len(left) + len(right))
            case "**", int(), int() if left.bit_length() * abs(right) > MAX_BITS:
                raise SecurityError("the chat template makes too large a number")
        return self.bounded(super().call_binop(context, operator, left, right))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        metered: nodes.Template = _Metered().visit(template)
        return metered

    def _counted(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self.spend()
            yield value

    def _size(self, value: Any) -> int:
        """Items in `value` and in all that it holds, however often it holds the same; strings by their length."""
        if isinstance(value, str):
            return 1 + len(value) // _CHARACTERS_PER_STEP
        if not isinstance(value, _CONTAINERS):
            return 1
        known = self._sizes.get(id(value))
        if known is None:
            self.spend(len(value))
            items = chain(value.keys(), value.values()) if isinstance(value, dict) else value
            # The value is kept beside its size, so that no other one gets its id.
            known = self._sizes[id(value)] = (value, 1 + sum(map(self._size, items)))
        return known[1]

    def _bounded_filter(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def bounded(*args: Any, **kwargs: Any) -> Any:
            values = [arg for arg in args if not isinstance(arg, Context | EvalContext | Environment)]
            values += kwargs.values()
            check_growth(name, *values)
            self.spend(1 + sum(map(_steps_over, values)))
            return self.bounded(function(*args, **kwargs))

        pass_arg = getattr(function, "jinja_pass_arg", None)
        if pass_arg is not None:
            # Where Jinja looks for it.
            bounded.jinja_pass_arg = pass_arg  # type: ignore[attr-defined]
        return bounded


class _Metered(NodeTransformer):
    """Puts the environment's counters into a parsed template."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        node.iter = _call_environment("iterate", [node.iter], node)
        tick = nodes.ExprStmt(_call_environment("spend", [], node), lineno=node.lineno)
        node.body.insert(0, tick)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's name
        self.generic_visit(node)
        return _call_environment("concat_values", list(node.nodes), node)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802 - Jinja's name
        return self._bounded(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802 - Jinja's name
        return self._bounded(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802 - Jinja's name
        return node if node.ctx == "store" else self._bounded(node)

    def _bounded(self, node: nodes.Node) -> nodes.Node:
        self.generic_visit(node)
        return node if _is_constant(node) else _call_environment("bounded", [node], node)


def _is_constant(node: nodes.Node) -> bool:
    kinds = (nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Const)
    return isinstance(node, kinds) and all(map(_is_constant, node.iter_child_nodes()))


def _call_environment(method: str, args: Sequence[nodes.Node], node: nodes.Node) -> nodes.Call:
    function = nodes.EnvironmentAttribute(method)
    return nodes.Call(function, args, [], None, None, lineno=node.lineno)


def _steps_over(value: object) -> int:
    if isinstance(value, str):
        return len(value) // _CHARACTERS_PER_STEP
    return len(value) // _ITEMS_PER_STEP if isinstance(value, _CONTAINERS) else 0


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
