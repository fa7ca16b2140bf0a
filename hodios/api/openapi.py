"""The OpenAPI document of what exists now, made from the same tables that route and validate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hodios import __version__
from hodios.api.account_admin import KEY_FILTERS, PAGING
from hodios.api.account_answers import account_schemas
from hodios.api.account_fields import request_schemas
from hodios.api.admin import PRICE_FILTERS
from hodios.api.admin_schemas import admin_schemas
from hodios.api.catalog import FILTERS
from hodios.api.checks import Kind
from hodios.api.eval_runs import eval_schemas
from hodios.api.facts import fact_schemas
from hodios.api.local_models import local_model_schemas
from hodios.api.model_history import HISTORY_FILTERS, model_history_schemas
from hodios.api.model_history import PRICE_FILTERS as MODEL_PRICE_FILTERS
from hodios.api.moderations import MODERATE
from hodios.api.parameters import CHAT, COMPLETIONS, Parameter, parameters
from hodios.api.recommendations import FILTERS as RECOMMENDATION_FILTERS
from hodios.api.recommendations import recommendation_schemas
from hodios.api.routes import PREFIXES, ROUTES, RouteInfo
from hodios.api.schemas import ANSWER_SCHEMAS
from hodios.api.session_keeper import COOKIE
from hodios.api.sessions import session_schemas
from hodios.api.tokens import DETOKENIZE, TOKENIZE
from hodios.api.usage import ACTIVITY_FILTERS, QUERY_FILTERS
from hodios.api.usage_entries import usage_schemas

Schema = dict[str, Any]
GENERATES = (CHAT, COMPLETIONS)
ADMINISTERS = frozenset(info.name for info in ROUTES if info.path.startswith("/admin/"))
ACCOUNTS = frozenset(info.name for info in ROUTES if info.path.startswith(("/admin/v1/keys", "/admin/v1/projects")))
USES = ("key", "credits", "queries", "activity", "recommendations")
LOCAL: dict[str, tuple[int, ...]] = {
    "load_model": (404, 409, 501, 503),
    "unload_model": (404, 501, 503),
    "list_pulls": (501, 503),
    "start_pull": (409, 501, 503),
    "cancel_pull": (404, 501, 503),
}
SESSIONS: dict[str, tuple[int, ...]] = {"open_session": (401, 403, 429, 503), "end_session": (403, 503)}
ERRORS: dict[str, tuple[int, ...]] = {
    "all": (401, 403, 500),
    "body": (400, 408, 413),
    "model": (404,),
    "account": (402, 403, 409, 422, 429),
    "provider": (502, 503, 504),
}
_NULL: Schema = {"type": "null"}


def openapi_document(max_choices: int) -> Schema:
    """The whole document, ready to be encoded."""
    paths: dict[str, Schema] = {}
    for info in ROUTES:
        for place, path in enumerate(info.paths()):
            paths.setdefault(path, {})[info.method.lower()] = _operation(info, place)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hodios",
            "version": __version__,
            "description": f"The OpenAI routes answer under four prefixes: {', '.join(PREFIXES[:3])} and none.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"key": []}, {"session": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
            "schemas": {**_requests(max_choices), **ANSWER_SCHEMAS, **_admin_schemas()},
        },
    }


def _admin_schemas() -> dict[str, Schema]:
    tables = (
        *(admin_schemas, request_schemas, account_schemas, usage_schemas, recommendation_schemas),
        *(session_schemas, model_history_schemas, fact_schemas, local_model_schemas, eval_schemas),
    )
    return {name: schema for table in tables for name, schema in table().items()}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _operation(info: RouteInfo, place: int) -> Schema:
    operation: Schema = {
        "operationId": info.name.replace("/", "_") + (f"_{place}" if place else ""),
        "summary": info.summary,
        "responses": _responses(info),
    }
    if info.access == "public":
        operation["security"] = []
    if info.name in _BODIES:
        operation["requestBody"] = {"required": info.name not in _BODILESS, "content": _json(_ref(_BODIES[info.name]))}
    found = [_query(name) for name in _QUERIES.get(info.name, ())]
    if info.name == "generation":
        found = [{**_query("id"), "required": True, "schema": {"type": "string", "minLength": 1}}]
    if "{" in info.path:
        name = info.path.partition("{")[2].partition("}")[0]
        found.append({"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}})
    if found:
        operation["parameters"] = found
    return operation


def _query(name: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}


_QUERIES = {
    "models": FILTERS,
    "prices": PRICE_FILTERS,
    "model_prices": MODEL_PRICE_FILTERS,
    "model_history": HISTORY_FILTERS,
    "tokenizer_info": ("model",),
    "list_keys": KEY_FILTERS,
    "list_projects": PAGING,
    "queries": QUERY_FILTERS,
    "activity": ACTIVITY_FILTERS,
    "recommendations": RECOMMENDATION_FILTERS,
}
_BODIES = {
    "chat/completions": "ChatRequest",
    "completions": "CompletionRequest",
    "tokenize": "TokenizeRequest",
    "detokenize": "DetokenizeRequest",
    "moderations": "ModerationRequest",
    "sync": "SyncRequest",
    "start_pull": "PullRequest",
    "open_session": "SessionRequest",
    "create_key": "KeyRequest",
    "change_key": "KeyChange",
    "rotate_key": "KeyRotation",
    "create_project": "ProjectRequest",
    "change_project": "ProjectChange",
}
_BODILESS = frozenset({"sync", *ACCOUNTS})
"""Whose bodies may be missing."""
_MODELS = ("model", "endpoints", "model_prices", "model_history", "model_evals")
_CREATES = ("create_key", "create_project", "start_pull")
_SUCCESSES = {
    "chat/completions": "ChatCompletion",
    "completions": "Completion",
    "models": "ModelList",
    "model": "ModelDetails",
    "endpoints": "Endpoints",
    "model_prices": "ModelPrices",
    "model_history": "ModelCourse",
    "model_evals": "ModelEvals",
    "facts": "Facts",
    "generation": "Generation",
    "status": "ServiceStatus",
    "moderations": "Moderation",
    "tokenize": "Tokens",
    "detokenize": "Detokenized",
    "tokenizer_info": "TokenizerInfo",
    "live": "Status",
    "ready": "Status",
    "health": "Health",
    "openapi": "Document",
    "reload": "Reloaded",
    "sync": "SyncOutcomes",
    "standings": "SyncStandings",
    "prices": "PriceHistory",
    "local_models": "LocalModelList",
    "load_model": "LocalModelDetails",
    "unload_model": "LocalModelDetails",
    "list_pulls": "PullList",
    "start_pull": "PullStanding",
    "cancel_pull": "PullList",
    "open_session": "SessionDetails",
    "show_session": "SessionState",
    "end_session": "NoSession",
    "list_keys": "KeyList",
    "create_key": "KeyWithText",
    "show_key": "KeyDetails",
    "change_key": "KeyDetails",
    "rotate_key": "KeyWithText",
    "delete_key": "Deleted",
    "list_projects": "ProjectList",
    "create_project": "ProjectDetails",
    "show_project": "ProjectDetails",
    "change_project": "ProjectDetails",
    "delete_project": "Deleted",
    "key": "KeyAnswer",
    "credits": "CreditsAnswer",
    "queries": "QueryPage",
    "activity": "ActivityList",
    "recommendations": "AdviceList",
}


def _responses(info: RouteInfo) -> Schema:
    responses: Schema = {}
    if info.name in ("root", "pages"):
        responses["307"] = {"description": "to /ui/"}
    elif info.name == "page":
        responses["200"] = {"description": "the file, or the page", "content": {"*/*": {}}}
        responses["304"] = {"description": "If-None-Match names it"}
        responses["404"] = _error("no such file")
    elif info.name == "metrics":
        responses["200"] = {"description": "metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}
    elif info.name == "embeddings":
        responses["501"] = _error("not_available")
    else:
        content = _json(_ref(_SUCCESSES[info.name]))
        if info.name in GENERATES:
            content["text/event-stream"] = {"schema": {"type": "string"}}
        responses["201" if info.name in _CREATES else "200"] = {"description": "the answer", "content": content}
    if info.name == "load_model":
        responses["202"] = {"description": "it is loading", "content": _json(_ref(_SUCCESSES[info.name]))}
    if info.name in ("ready", "health"):
        responses["503"] = {"description": "no model is ready", "content": _json(_ref(_SUCCESSES[info.name]))}
    statuses = [500] if info.access == "public" else list(ERRORS["all"])
    if info.name in SESSIONS:
        statuses += SESSIONS[info.name]
    if info.name in LOCAL:
        statuses += LOCAL[info.name]
    if info.name in ACCOUNTS:
        statuses += _account_errors(info)
    if info.name in (*_BODIES, *_QUERIES, "generation", "reload"):
        statuses += [400] if info.method == "GET" else ERRORS["body"]
    if info.name in (*_BODIES, *_MODELS, "generation", "tokenizer_info") and info.name not in (
        *ADMINISTERS,
        *SESSIONS,
        "moderations",
    ):
        statuses += ERRORS["model"]
    if info.name in ("tokenize", "detokenize", "tokenizer_info"):
        statuses += [501]
    if info.name == "moderations":
        statuses += [429, 501, 503]
    if info.name in USES:
        statuses += [501, 503]
    if info.name == "generation":
        statuses += [503]
    if info.name in GENERATES:
        statuses += [*ERRORS["account"], *ERRORS["provider"]]
    responses.update({str(status): _error("error") for status in statuses})
    return {status: {**response, "headers": _HEADERS} for status, response in responses.items()}


_HEADERS = {
    "x-request-id": {"description": "Names the request in logs.", "required": True, "schema": {"type": "string"}}
}


def _account_errors(info: RouteInfo) -> list[int]:
    statuses = [501, 503]
    if "{id}" in info.path:
        statuses += [404]
    if info.method == "PATCH":
        statuses += [409]
    return [*statuses, 409] if info.name == "delete_project" else statuses


def _error(description: str) -> Schema:
    return {"description": description, "content": _json(_ref("Error"))}


def _requests(max_choices: int) -> dict[str, Schema]:
    return {
        "ChatRequest": _table(parameters(CHAT, max_choices)),
        "CompletionRequest": _table(parameters(COMPLETIONS, max_choices)),
        "TokenizeRequest": _kinds(TOKENIZE),
        "DetokenizeRequest": _detokenize(),
        "ModerationRequest": {**_kinds({"model": MODERATE["model"]}, input=MODERATE["input"]), "required": ["input"]},
    }


def _table(table: dict[str, Parameter]) -> Schema:
    return {
        "type": "object",
        "required": [parameter.name for parameter in table.values() if parameter.is_required],
        "properties": {name: _property(parameter) for name, parameter in table.items()},
        "additionalProperties": True,
    }


def _property(parameter: Parameter) -> Schema:
    gap = f" Not honoured, reported in warnings: {parameter.gap}." if parameter.gap else ""
    described: Schema = {"description": f"{parameter.meaning}{gap} Accepted: {parameter.kind.accepts}."}
    if parameter.default is not None:
        described["default"] = parameter.default
    if parameter.is_required:
        return {**parameter.kind.schema, **described}
    return {"anyOf": [dict(parameter.kind.schema), _NULL], **described}


def _kinds(kinds: Mapping[str, Kind], **required: Kind) -> Schema:
    properties = {name: {"anyOf": [dict(kind.schema), _NULL]} for name, kind in kinds.items()}
    properties |= {name: dict(kind.schema) for name, kind in required.items()}
    return {"type": "object", "properties": properties, "additionalProperties": True}


def _detokenize() -> Schema:
    schema = _kinds(DETOKENIZE)
    schema["properties"]["tokens"] = dict(DETOKENIZE["tokens"].schema)
    return {**schema, "required": ["tokens"]}
