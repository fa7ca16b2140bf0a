"""The form that `hodios chat --schema` asks of an answer, and whether an answer has it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hodios.cli.loading import load_object
from hodios.dialog.schema import SchemaCheck
from hodios.errors import InvalidRequest, SetupError
from hodios.functions import foreign_code
from hodios.hints.convert import convert
from hodios.hints.describe import Describer
from hodios.json_schema.closing import closed


class AnswerForm:
    """A pydantic model, dataclass, TypedDict or other type; or a JSON schema, in a .json file or as a dict."""

    def __init__(self, source: str) -> None:
        """`source`: module:Name, path.py:Name or a .json file. Raises SetupError where it is none of them."""
        self._type: Any = None
        self._name = source.rpartition(":")[2].rpartition(".")[2]
        if source.endswith(".json"):
            self._name = Path(source).stem
            self._schema = _read(Path(source))
        else:
            found = load_object(source)
            if isinstance(found, (dict, bool)):
                self._schema = found
            else:
                self._type = found
                self._schema = _described(found, source)
        try:
            self._check = SchemaCheck(self._schema, param=source)
        except InvalidRequest as error:
            raise SetupError(error.message) from error

    @property
    def response_format(self) -> dict[str, Any]:
        """As OpenAI's API has it. Small models like to make up fields; types that ignore them ask for none."""
        name = re.sub(r"[^A-Za-z0-9_-]", "_", self._name)[:64]
        schema = self._schema if self._type is None else closed(self._schema)
        return {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}

    def read(self, answer: str) -> Any:
        """The answer's JSON value. Raises SetupError with what is wrong with it."""
        try:
            value = json.loads(answer, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise SetupError(f"The answer is not JSON: {error}") from error
        if problem := self._check.problem(value) or self._refusal(value):
            raise SetupError(f"The answer is not a valid {self._name}: {problem}")
        return value

    def _refusal(self, value: Any) -> str | None:
        """What the type itself has against the value: its own code may know better than its schema."""
        if self._type is None:
            return None
        try:
            with foreign_code(f"{self._name} refuses it"):
                convert(value, self._type, "")
        except SetupError as error:
            return str(error)
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


def _read(path: Path) -> Any:
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise SetupError(f"{path} holds no JSON: {error}.") from error
    if not isinstance(schema, (dict, bool)):
        raise SetupError(f"{path} holds no JSON schema, which is an object.")
    return schema


def _described(kind: Any, source: str) -> dict[str, Any]:
    describer = Describer(is_loose=False)
    schema = describer.schema(kind, source)
    return {**schema, "$defs": describer.definitions} if describer.definitions else schema
