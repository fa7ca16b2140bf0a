"""The OpenAPI document against what the app really does, and the written documentation against both."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from hodios import errors
from hodios.api.app import create_app
from hodios.api.openapi import openapi_document
from hodios.api.parameters import CHAT, COMPLETIONS, parameters
from hodios.api.routes import ROUTES
from hodios.api.tokens import DETOKENIZE, TOKENIZE

DOCUMENT = openapi_document(8)


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for inner in value.values() for found in references(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in references(inner)]
    return []


def test_every_route_is_described_and_no_other(config: Any) -> None:
    app = create_app(config, [])
    routed = {
        (method, route.path.replace(":path}", "}"))
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or ()) - {"HEAD"}
    }
    described = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert described == routed


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    names = {reference.removeprefix("#/components/schemas/") for reference in references(DOCUMENT)}
    assert names == set(DOCUMENT["components"]["schemas"])
    operations = [operation["operationId"] for item in DOCUMENT["paths"].values() for operation in item.values()]
    assert len(operations) == len(set(operations))


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ("ChatRequest", parameters(CHAT, 8)),
        ("CompletionRequest", parameters(COMPLETIONS, 8)),
        ("TokenizeRequest", TOKENIZE),
        ("DetokenizeRequest", DETOKENIZE),
    ],
)
def test_every_parameter_is_described(schema: str, names: Any) -> None:
    assert set(DOCUMENT["components"]["schemas"][schema]["properties"]) == set(names)


async def test_the_route_gives_the_document(call: Any) -> None:
    assert (await call("GET", "/openapi.json")).json() == json.loads(json.dumps(DOCUMENT))


def conforms(value: Any, schema: dict[str, Any], where: str) -> None:
    """The part of JSON Schema that the answers' schemas use."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "const" in schema:
        assert value == schema["const"], where
    if "enum" in schema:
        assert value in schema["enum"], where
    if "anyOf" in schema:
        schema = next(option for option in schema["anyOf"] if (option.get("type") == "null") == (value is None))
    types: dict[str, Any] = {
        **{"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool},
        "null": type(None),
    }
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert any(isinstance(value, types[kind]) for kind in kinds), where
    for name in schema.get("required", ()) if isinstance(value, dict) else ():
        assert name in value, f"{where}.{name}"
    for name, inner in schema.get("properties", {}).items() if isinstance(value, dict) else ():
        if name in value:
            conforms(value[name], inner, f"{where}.{name}")
    for index, entry in enumerate(value if isinstance(value, list) else ()):
        conforms(entry, schema.get("items", {}), f"{where}[{index}]")


SAID = [{"role": "user", "content": '<think>Hm.</think><tool_call>{"name": "f", "arguments": {}}</tool_call>'}]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "logprobs": True, "foo": 1}),
        ("POST", "/v1/chat/completions", {"messages": []}),
        (
            "POST",
            "/v1/chat/completions",
            {"messages": SAID, "tools": [{"type": "function", "function": {"name": "f"}}]},
        ),
        ("POST", "/v1/chat/completions", {"messages": SAID, "functions": [{"name": "f"}], "documents": ["x"]}),
        ("POST", "/v1/completions", {"prompt": "xy", "logprobs": 2, "echo": True, "content_filter": "details"}),
        ("POST", "/v1/completions", {"prompt": "xy", "stop": "y"}),
        ("GET", "/v1/models", None),
        ("GET", "/v1/models/{id}", None),
        ("GET", "/v1/models/{id}/endpoints", None),
        ("POST", "/v1/embeddings", {}),
        ("POST", "/tokenize", {"prompt": "x", "foo": 1}),
        ("POST", "/detokenize", {"tokens": [97]}),
        ("GET", "/tokenizer_info", None),
        ("GET", "/health", None),
        ("GET", "/health/live", None),
        ("GET", "/health/ready", None),
    ],
)
async def test_answers_are_as_described(call: Any, method: str, path: str, body: Any) -> None:
    answer = await call(method, path.replace("{id}", "echo"), {"model": "echo", **body} if body is not None else None)
    response = DOCUMENT["paths"][path][method.lower()]["responses"][str(answer.status)]
    conforms(answer.json(), response["content"]["application/json"]["schema"], path)


def codes() -> set[str]:
    found = {
        kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.HodiosError)
    }
    return {code for code in found if code}


def test_the_documentation_names_every_route_parameter_and_error(repository: Path) -> None:
    text = (repository / "docs" / "api.md").read_text()
    words = set(re.findall(r"`([^`\n]+)`", text))
    for info in ROUTES:
        assert f"{info.method} {info.path}" in words, info
    for table in (parameters(CHAT, 8), parameters(COMPLETIONS, 8), TOKENIZE, DETOKENIZE):
        assert set(table) <= words
    assert codes() | {"unknown_parameter"} <= words
    for header in (
        "x-request-id",
        "x-hodios-provider",
        "x-hodios-attempts",
        "openai-processing-ms",
        "x-hodios-overhead-ms",
    ):
        assert header in words


def test_the_documentation_tells_gaps_from_what_works(repository: Path) -> None:
    text = (repository / "docs" / "api.md").read_text()
    section = text.partition("## Accepted and reported")[2].partition("\n## ")[0]
    table = {**parameters(CHAT, 8), **parameters(COMPLETIONS, 8)}
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == {name for name, p in table.items() if p.gap}
