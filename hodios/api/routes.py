"""The routes that exist, as data: the app, the OpenAPI document and the documentation's test read them here."""

from __future__ import annotations

from typing import Literal, NamedTuple

PREFIXES = ("/v1", "/v3/openai", "/v1/openai", "")
Access = Literal["public", "key"]
RouteName = Literal[
    "chat/completions",
    "completions",
    "models",
    "model",
    "embeddings",
    "moderations",
    "tokenize",
    "detokenize",
    "tokenizer_info",
    "live",
    "ready",
    "health",
    "metrics",
    "openapi",
]


class RouteInfo(NamedTuple):
    name: RouteName
    method: Literal["GET", "POST"]
    path: str
    summary: str
    is_prefixed: bool = False
    access: Access = "key"

    def paths(self) -> list[str]:
        return [prefix + self.path for prefix in PREFIXES] if self.is_prefixed else [self.path]


ROUTES: tuple[RouteInfo, ...] = (
    RouteInfo("chat/completions", "POST", "/chat/completions", "Chat, streamed or not.", is_prefixed=True),
    RouteInfo("completions", "POST", "/completions", "Continue raw prompts, streamed or not.", is_prefixed=True),
    RouteInfo("models", "GET", "/models", "The catalog.", is_prefixed=True),
    RouteInfo("model", "GET", "/models/{id}", "One model; the id may contain slashes.", is_prefixed=True),
    RouteInfo("embeddings", "POST", "/embeddings", "Not available yet: answers 501.", is_prefixed=True),
    RouteInfo("moderations", "POST", "/moderations", "Not available yet: answers 501.", is_prefixed=True),
    RouteInfo("tokenize", "POST", "/tokenize", "Text or messages to token ids."),
    RouteInfo("detokenize", "POST", "/detokenize", "Token ids to text."),
    RouteInfo("tokenizer_info", "GET", "/tokenizer_info", "The tokenizer's configuration and chat template."),
    RouteInfo("live", "GET", "/health/live", "The process answers.", access="public"),
    RouteInfo("ready", "GET", "/health/ready", "At least one model is ready; else 503.", access="public"),
    RouteInfo("health", "GET", "/health", "How every model is doing."),
    RouteInfo("metrics", "GET", "/metrics", "Counts in Prometheus' text format."),
    RouteInfo("openapi", "GET", "/openapi.json", "This document.", access="public"),
)
PUBLIC_PATHS = frozenset(path for route in ROUTES if route.access == "public" for path in route.paths())
