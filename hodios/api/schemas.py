"""JSON schemas of the answers, in the fields' own order."""

from __future__ import annotations

from typing import Any

from hodios.api.catalog_entries import NOT_ASKED, NOT_LISTED, NOT_READY, PERCENTILES, READY, UPTIMES
from hodios.api.status import STATES
from hodios.router.past import CAPABILITIES, MEASURES, OUTCOMES, SIZES
from hodios.types import CATEGORIES

Schema = dict[str, Any]


def _typed(*types: str) -> Schema:
    return {"type": types[0] if len(types) == 1 else list(types)}


def _object(properties: dict[str, Any], *, optional: tuple[str, ...] = ()) -> Schema:
    return {
        "type": "object",
        "required": [name for name in properties if name not in optional],
        "properties": properties,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_STRING, _INTEGER, _NUMBER, _BOOLEAN, _OBJECT = map(_typed, ("string", "integer", "number", "boolean", "object"))
_MAYBE_STRING, _MAYBE_INTEGER, _MAYBE_NUMBER, _MAYBE_OBJECT = (
    _typed(kind, "null") for kind in ("string", "integer", "number", "object")
)
_STATE = {"type": "string", "enum": list(STATES)}
_FINISH = {"type": "string", "enum": ["stop", "length", "tool_calls", "function_call", "content_filter", "error"]}
_FRAME = {"created": _INTEGER, "provider": _STRING, "model": _STRING}
_FILTERS = {
    "content_filter_results": _object(dict.fromkeys(CATEGORIES, _OBJECT)),
    "content_filter_details": _object({"guards": _list(_OBJECT), "not_evaluated": _list(_STRING)}),
}
_END = {
    "usage": _ref("Usage"),
    "system_fingerprint": _STRING,
    "warnings": _list(_ref("Warning")),
    "route": _ref("Route"),
}
_FUNCTION = _object({"name": _STRING, "arguments": _STRING})
_MESSAGE = _object(
    {
        "role": {"const": "assistant"},
        "content": _MAYBE_STRING,
        "refusal": _MAYBE_STRING,
        "tool_calls": _list(_object({"id": _STRING, "type": {"const": "function"}, "function": _FUNCTION})),
        "function_call": _FUNCTION,
        "reasoning_content": _STRING,
    },
    optional=("tool_calls", "function_call", "reasoning_content"),
)
_RANGE = _object(
    {
        "min": _MAYBE_NUMBER,
        "max": _MAYBE_NUMBER,
        "above_min": _BOOLEAN,
        "default": _typed("number", "boolean", "null"),
        "max_items": _MAYBE_INTEGER,
    }
)
_TEXT_LOGPROBS = _object(
    {
        "tokens": _list(_STRING),
        "token_logprobs": _list(_typed("number", "null")),
        "top_logprobs": _list(_MAYBE_OBJECT),
        "text_offset": _list(_INTEGER),
    }
)
_MODEL = {
    "id": _STRING,
    "object": {"const": "model"},
    "created": _INTEGER,
    "owned_by": _STRING,
    "provider": _STRING,
    "providers": _list(_STRING),
    "context_length": _INTEGER,
    "max_output_tokens": _INTEGER,
    "pricing": _OBJECT,
    "supported_parameters": _list(_STRING),
}

_ATTEMPT = _object(
    {
        "provider": _STRING,
        "model": _STRING,
        "outcome": {"type": "string", "enum": list(OUTCOMES)},
        **dict.fromkeys(("began_ms", "ended_ms"), _INTEGER),
        "first_token_ms": _MAYBE_INTEGER,
        "status": _MAYBE_INTEGER,
        "error": _MAYBE_STRING,
        **dict.fromkeys(("prompt_tokens", "cached_tokens", "completion_tokens"), _INTEGER),
        "cost": _MAYBE_NUMBER,
    }
)
_ROUTE = _object(
    {
        "policy": _STRING,
        "candidates": _list(
            _object({"provider": _STRING, "model": _STRING, "pricing": _OBJECT, "excluded": _MAYBE_STRING})
        ),
        "attempts": _list(_ATTEMPT),
    }
)
_FILTERED = _object(
    {
        "flagged": _list(_STRING),
        "blocked": _list(_STRING),
        "not_evaluated": _list(_STRING),
        "guards": _list(_OBJECT),
    }
)
_GENERATION = _object(
    {
        **dict.fromkeys(("id", "request_id", "model", "requested_model"), _STRING),
        "provider_name": _MAYBE_STRING,
        "created_at": _STRING,
        **dict.fromkeys(("streamed", "cancelled"), _BOOLEAN),
        "finish_reason": _MAYBE_STRING,
        "finish_reasons": _list(_STRING),
        "error": _MAYBE_OBJECT,
        **dict.fromkeys(("tokens_prompt", "tokens_completion"), _INTEGER),
        **dict.fromkeys(("native_tokens_prompt", "native_tokens_completion"), _INTEGER),
        **dict.fromkeys(("native_tokens_reasoning", "native_tokens_cached"), _MAYBE_INTEGER),
        **dict.fromkeys(("total_cost", "usage"), _MAYBE_NUMBER),
        **dict.fromkeys(("latency", "time_to_first_token", "generation_time", "queue_time"), _MAYBE_INTEGER),
        "route": _ref("Route"),
        "content_filter": {"anyOf": [_FILTERED, {"type": "null"}]},
        "content": {
            "anyOf": [
                _object(
                    {
                        "request": {},
                        "answer": {},
                        "truncated": _list({"type": "string", "enum": ["request", "answer"]}),
                    }
                ),
                {"type": "null"},
            ]
        },
    }
)
_SPREAD = _object(
    {
        "overall": _MAYBE_OBJECT,
        "samples": _INTEGER,
        "by_size": _object(dict.fromkeys(SIZES, _MAYBE_OBJECT)),
        "by_capability": _object(dict.fromkeys(CAPABILITIES, _MAYBE_OBJECT)),
        "by_version": {"type": "object", "additionalProperties": _MAYBE_OBJECT},
    }
)
_MODEL_STATUS = _object(
    {
        "id": _STRING,
        "status": _STATE,
        "reasons": _list(_STRING),
        "uptime": _object(dict.fromkeys(("5m", "30m", "1d"), _MAYBE_NUMBER)),
        "attempts": _object(dict.fromkeys(("30m", "1d"), _OBJECT)),
        "hours": _list(
            _object({"from": _STRING, "uptime": _MAYBE_NUMBER, **dict.fromkeys(("attempts", "failed"), _INTEGER)})
        ),
        **dict.fromkeys(MEASURES, _SPREAD),
        "trend": _object(dict.fromkeys((*MEASURES, "uptime"), _MAYBE_NUMBER)),
        "warnings": _list(_object({"subject": _STRING, "since": _STRING, "message": _STRING})),
    }
)
_SERVICE_STATUS = _object(
    {
        "status": _STATE,
        "updated_at": _STRING,
        "models": _list(_object({"id": _STRING, "status": _STATE, "providers": _OBJECT})),
        "providers": _list(
            _object(
                {
                    "name": _STRING,
                    "status": _STATE,
                    "reachable": _typed("boolean", "null"),
                    "models": _list(_MODEL_STATUS),
                }
            )
        ),
        "incidents": _list(
            _object(
                {
                    **dict.fromkeys(("provider", "model", "began_at"), _STRING),
                    "ended_at": _MAYBE_STRING,
                    "ejections": _INTEGER,
                    "reason": _MAYBE_STRING,
                }
            )
        ),
    }
)

ANSWER_SCHEMAS: dict[str, Schema] = {
    "ChatCompletion": _object(
        {
            "id": _STRING,
            "object": {"const": "chat.completion"},
            **_FRAME,
            "choices": _list(
                _object(
                    {
                        "index": _INTEGER,
                        "message": _MESSAGE,
                        "logprobs": _MAYBE_OBJECT,
                        "finish_reason": _FINISH,
                        **_FILTERS,
                    },
                    optional=("content_filter_details",),
                )
            ),
            **_END,
        },
        optional=("warnings", "route"),
    ),
    "Completion": _object(
        {
            "id": _STRING,
            "object": {"const": "text_completion"},
            **_FRAME,
            "choices": _list(
                _object(
                    {
                        "index": _INTEGER,
                        "text": _STRING,
                        "logprobs": {"anyOf": [_TEXT_LOGPROBS, {"type": "null"}]},
                        "finish_reason": _FINISH,
                        "stop_reason": _typed("string", "integer"),
                        **_FILTERS,
                    },
                    optional=("stop_reason", "content_filter_details"),
                )
            ),
            **_END,
        },
        optional=("warnings", "route"),
    ),
    "Usage": _object(
        {
            "prompt_tokens": _INTEGER,
            "completion_tokens": _INTEGER,
            "total_tokens": _INTEGER,
            "prompt_tokens_details": _MAYBE_OBJECT,
            "completion_tokens_details": _MAYBE_OBJECT,
            "prompt_characters": _MAYBE_INTEGER,
            "response_characters": _INTEGER,
            "cost": _MAYBE_NUMBER,
            "latency_ms": _INTEGER,
            "time_to_first_token_ms": _MAYBE_INTEGER,
            "queue_ms": _INTEGER,
        }
    ),
    "Route": _ROUTE,
    "Generation": _object({"data": _GENERATION}),
    "Moderation": _object(
        {
            "id": _STRING,
            "model": _STRING,
            "results": _list(
                _object(
                    {
                        "flagged": _BOOLEAN,
                        "categories": _OBJECT,
                        "category_scores": _OBJECT,
                        "category_applied_input_types": _OBJECT,
                        "not_evaluated": _list(_STRING),
                        "guards": _list(_OBJECT),
                    }
                )
            ),
            "warnings": _list(_ref("Warning")),
        },
        optional=("warnings",),
    ),
    "ServiceStatus": _SERVICE_STATUS,
    "Warning": _object({"param": _STRING, "code": _STRING, "message": _STRING}),
    "Error": _object(
        {
            "error": _object(
                {
                    "message": _STRING,
                    "type": _STRING,
                    "param": _MAYBE_STRING,
                    "code": _MAYBE_STRING,
                    "metadata": _OBJECT,
                },
                optional=("metadata",),
            )
        }
    ),
    "Model": _object(_MODEL),
    "ModelDetails": _object({**_MODEL, "card": _MAYBE_OBJECT, "hub": _MAYBE_OBJECT, "offers": _list(_ref("Endpoint"))}),
    "Endpoint": _object(
        {
            "name": _STRING,
            "model_id": _STRING,
            "model_name": _STRING,
            "context_length": _INTEGER,
            "pricing": _OBJECT,
            "provider_name": _STRING,
            "tag": _STRING,
            "quantization": _STRING,
            "max_completion_tokens": _MAYBE_INTEGER,
            "supported_parameters": _list(_STRING),
            "ranges": {**_OBJECT, "additionalProperties": _RANGE},
            "status": {"type": "integer", "enum": [READY, NOT_READY, NOT_ASKED, NOT_LISTED]},
            **dict.fromkeys(UPTIMES, _typed("number", "null")),
            **dict.fromkeys(PERCENTILES, _MAYBE_OBJECT),
            "provider": _STRING,
            "enabled": _INTEGER,
            "reason": _MAYBE_STRING,
        }
    ),
    "Endpoints": _object(
        {
            "data": _object(
                {"id": _STRING, "name": _STRING, "description": _STRING, "endpoints": _list(_ref("Endpoint"))}
            )
        }
    ),
    "ModelList": _object({"object": {"const": "list"}, "data": _list(_ref("Model"))}),
    "Tokens": _object(
        {
            "count": _INTEGER,
            "max_model_len": _INTEGER,
            "tokens": _list(_INTEGER),
            "token_strs": {"anyOf": [_list(_STRING), {"type": "null"}]},
            "warnings": _list(_ref("Warning")),
        },
        optional=("warnings",),
    ),
    "Detokenized": _object({"prompt": _STRING, "warnings": _list(_ref("Warning"))}, optional=("warnings",)),
    "TokenizerInfo": _object({"tokenizer_class": _STRING, "eos_token": _MAYBE_STRING, "chat_template": _MAYBE_STRING}),
    "Status": _object({"status": {"type": "string", "enum": ["live", "ready", "not_ready"]}}),
    "Health": _object(
        {
            "status": _STRING,
            "version": _STRING,
            "process": _object({"number": _INTEGER, "of": _INTEGER, "pid": _INTEGER}),
            "uptime_s": _NUMBER,
            "catalog": _object({"version": _INTEGER, "problem": _MAYBE_STRING}),
            "service": _object(
                {
                    "status": _STATE,
                    "degraded": _list(_STRING),
                    "down": _list(_STRING),
                    "open_incidents": _INTEGER,
                }
            ),
            "models": _list(_OBJECT),
            "guards": _list(_OBJECT),
            "accounts": _OBJECT,
        },
        optional=("accounts",),
    ),
    "Document": _OBJECT,
}
