"""An independent jinja environment, set up as Hugging Face documents it for chat templates."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import jinja2
import jinja2.ext
from conversations import DAY
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Inline(jinja2.ext.Extension):
    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_call"), [], [], body).set_lineno(line)

    def _call(self, caller: Callable[[], str]) -> str:
        return caller()


def expected(source: str, **variables: Any) -> str:
    """What `source` renders. Raises jinja2's errors, and TypeError."""
    fixed = {"documents": None, "bos_token": "<s>", "eos_token": "</s>", "date_string": DAY.strftime("%d %b %Y")}
    return _compiled(source).render(**fixed, **variables)


@cache
def _compiled(source: str) -> jinja2.Template:
    def to_json(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    extensions = [jinja2.ext.loopcontrols, Inline]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = DAY.strftime
    return environment.from_string(source)
