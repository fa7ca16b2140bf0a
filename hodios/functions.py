"""Python functions and models as tools: their definitions for a model, and the calls that the model makes.

The one place that runs other people's code, and so catches whatever it raises. Refuses functions that JSON cannot call:
those with *args or **kwargs, without type hints or a docstring, or with a type that JSON has no form for.

Definitions equal those of `transformers.utils.get_json_schema` wherever that makes one.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import inspect
import json
import re
import traceback
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from msgspec import Struct

from hodios.errors import InvalidRequest, SetupError
from hodios.hints.convert import convert, convert_fields
from hodios.hints.describe import Describer
from hodios.hints.fields import docstring_of, parameters_of, resolve, signature_of
from hodios.hints.kinds import is_model
from hodios.hints.plain import plain

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""The names of functions that OpenAI's API accepts."""


class Outcome(Struct, frozen=True):
    """What a call came to."""

    text: str
    """JSON for the model: the result, or `{"error": …}`."""
    is_error: bool = False
    where: str = ""
    """The file and line that raised, if it was in the tool's own file."""


def tool(function_or_model: Callable[..., Any]) -> dict[str, Any]:
    """The tool definition, in OpenAI's form, of a function, or of a pydantic model, dataclass or TypedDict.

    Raises SetupError naming the function and the parameter that cannot be described.
    """
    name = getattr(function_or_model, "__name__", None)
    if name is None or not callable(function_or_model):
        raise SetupError(f"{function_or_model!r} is no function with a name, and so cannot be a tool")
    if not _NAME.fullmatch(name):
        raise SetupError(f"{name}: a tool's name has 1 to 64 unaccented letters, digits, _ or -; rename it")
    describer = Describer(is_loose=True)
    if isinstance(function_or_model, type):
        description, parameters = _model(function_or_model, describer)
        returned = None
    else:
        description, parameters = _function(function_or_model, describer)
        returned = _returned(function_or_model, describer)
    if describer.definitions:
        parameters["$defs"] = describer.definitions
    definition = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": definition if returned is None else {**definition, "return": returned}}


def call(function: Callable[..., Any], arguments: str) -> str:
    """Calls `function` with the JSON `arguments` of a model and returns JSON: its result or `{"error": …}`.

    Arguments are checked against the type hints and become what those ask for. Async functions are run to their end,
    also where an event loop runs already. Raises SetupError for a function that `tool` refuses, and KeyboardInterrupt.
    """
    return run(function, arguments).text


def run(function: Callable[..., Any], arguments: str) -> Outcome:
    """Like `call`, and tells whether it went well."""
    fields = [] if isinstance(function, type) else parameters_of(function)
    try:
        given = _parsed(arguments)
        if isinstance(function, type):
            result = convert(given, function, "")
        else:
            bound = inspect.BoundArguments(signature_of(function), collections.OrderedDict())
            bound.arguments.update(convert_fields(given, fields, ""))
            bound.apply_defaults()
            result = function(*bound.args, **bound.kwargs)
        if inspect.isawaitable(result):
            result = _finish(result)
        return Outcome(_text(plain(result, "the result")))
    except InvalidRequest as error:
        return failure(error.message)
    except (Exception, SystemExit, asyncio.CancelledError) as error:  # noqa: BLE001 - the model is told
        return failure(_words(error), _line_of(error, function))


def failure(message: str, where: str = "") -> Outcome:
    """The outcome of a call that did not go well."""
    return Outcome(_text({"error": message}), is_error=True, where=where)


@contextlib.contextmanager
def foreign_code(what: str) -> Iterator[None]:
    """What is run inside is not ours: all that it raises becomes a SetupError that begins with `what`."""
    try:
        yield
    except InvalidRequest as error:
        raise SetupError(f"{what}: {error.message}") from error
    except (Exception, SystemExit) as error:
        raise SetupError(f"{what}: {_words(error)}") from error


def _text(value: Any) -> str:
    """JSON in valid UTF-8: file names may hold what is no text."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace").decode()


def _words(error: BaseException) -> str:
    """Type and message, also of an exception whose message cannot be made."""
    words = "".join(traceback.format_exception_only(error)).strip()
    return words.removeprefix(f"{type(error).__module__}.")


def _line_of(error: BaseException, function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{each.filename}:{each.lineno}" for each in frames if code and each.filename == code.co_filename]
    return lines[-1] if lines else ""


def _model(kind: type, describer: Describer) -> tuple[str, dict[str, Any]]:
    """Its description and the schema of its arguments."""
    name = kind.__name__
    if not is_model(kind):
        raise SetupError(f"{name} is neither a function nor a pydantic model, dataclass or TypedDict")
    schema = describer.schema(kind, name)
    if "$ref" in schema:
        schema = dict(describer.definitions[schema["$ref"].rpartition("/")[2]])
    if schema.get("type") != "object":
        raise SetupError(f"{name} is no object in JSON, but the arguments of a tool are one")
    schema.pop("title", None)
    return schema.pop("description", ""), schema


def _function(function: Callable[..., Any], describer: Describer) -> tuple[str, dict[str, Any]]:
    """Its description and the schema of its arguments."""
    name = function.__name__
    description = docstring_of(function).description
    if not description:
        raise SetupError(f"{name} has no docstring; a model learns from it what the function is for")
    return description, describer.fields(parameters_of(function), name)


def _returned(function: Callable[..., Any], describer: Describer) -> dict[str, Any] | None:
    """What it returns. A model never writes that, so a type that JSON cannot express is left out."""
    annotation = signature_of(function).return_annotation
    if annotation is inspect.Signature.empty:
        return None
    try:
        schema = describer.schema(resolve(function, "return", annotation, function.__name__), function.__name__)
    except SetupError:
        return None
    words = docstring_of(function).returns
    return {**schema, "description": words} if words else schema


def _parsed(arguments: str) -> Any:
    """No text at all is what some models write for no arguments."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number in JSON")

    try:
        return json.loads(arguments, parse_constant=refuse) if arguments.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the arguments are not valid JSON: {error}") from error


def _finish(result: Awaitable[Any]) -> Any:
    async def wait() -> Any:
        return await result

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, wait()).result()
