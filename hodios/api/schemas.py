"""JSON schemas of the answers, in the fields' own order."""

from __future__ import annotations

from typing import Any

from hodios.api.answers import CATEGORIES

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
_MAYBE_STRING, _MAYBE_INTEGER, _MAYBE_OBJECT = (_typed(kind, "null") for kind in ("string", "integer", "object"))
_FINISH = {"type": "string", "enum": ["stop", "length", "tool_calls", "content_filter", "error"]}
_FRAME = {"created": _INTEGER, "provider": _STRING, "model": _STRING}
_FILTERS = {
    "content_filter_results": _object(dict.fromkeys(CATEGORIES, _OBJECT)),
    "content_filter_details": _object({"guards": _list(_OBJECT), "not_evaluated": _list(_STRING)}),
}
_END = {"usage": _ref("Usage"), "system_fingerprint": _STRING, "warnings": _list(_ref("Warning"))}
_MESSAGE = _object({"role": {"const": "assistant"}, "content": _STRING, "refusal": _MAYBE_STRING})
_TEXT_LOGPROBS = _object(
    {
        "tokens": _list(_STRING),
        "token_logprobs": _list(_typed("number", "null")),
        "top_logprobs": _list(_MAYBE_OBJECT),
        "text_offset": _list(_INTEGER),
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
        optional=("warnings",),
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
        optional=("warnings",),
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
            "cost": _NUMBER,
            "latency_ms": _INTEGER,
            "time_to_first_token_ms": _MAYBE_INTEGER,
            "queue_ms": _INTEGER,
        }
    ),
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
    "Model": _object(
        {
            "id": _STRING,
            "object": {"const": "model"},
            "created": _INTEGER,
            "owned_by": _STRING,
            "provider": _STRING,
            "context_length": _INTEGER,
            "max_output_tokens": _INTEGER,
            "pricing": _OBJECT,
            "supported_parameters": _list(_STRING),
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
    "Health": _object({"status": _STRING, "version": _STRING, "uptime_s": _NUMBER, "models": _list(_OBJECT)}),
    "Document": _OBJECT,
}
