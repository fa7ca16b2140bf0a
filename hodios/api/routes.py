"""The routes that exist, as data: the app, the OpenAPI document and the documentation's test read them here."""

from __future__ import annotations

from typing import Literal, NamedTuple

PREFIXES = ("/v1", "/v3/openai", "/v1/openai", "")
PUBLIC_PREFIX = "/ui/"
"""Whatever lies below it needs no key."""
Access = Literal["public", "key", "admin"]
RouteName = Literal[
    "chat/completions",
    "completions",
    "models",
    "model",
    "endpoints",
    "model_prices",
    "model_history",
    "model_evals",
    "generation",
    "key",
    "credits",
    "queries",
    "activity",
    "recommendations",
    "embeddings",
    "moderations",
    "tokenize",
    "detokenize",
    "tokenizer_info",
    "live",
    "ready",
    "health",
    "status",
    "metrics",
    "openapi",
    "reload",
    "sync",
    "standings",
    "prices",
    "list_keys",
    "create_key",
    "show_key",
    "change_key",
    "rotate_key",
    "delete_key",
    "list_projects",
    "create_project",
    "show_project",
    "change_project",
    "delete_project",
    "local_models",
    "load_model",
    "unload_model",
    "list_pulls",
    "start_pull",
    "cancel_pull",
    "open_session",
    "show_session",
    "end_session",
    "facts",
    "root",
    "pages",
    "page",
]


class RouteInfo(NamedTuple):
    name: RouteName
    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    summary: str
    is_prefixed: bool = False
    access: Access = "key"

    def paths(self) -> list[str]:
        return [prefix + self.path for prefix in PREFIXES] if self.is_prefixed else [self.path]

    def pattern(self, path: str) -> str:
        """One of its paths for the router: ids of models and names of files may have slashes, other ids have none."""
        return path.replace("{model}", "{model:path}") if self.access == "admin" else path.replace("}", ":path}")


ROUTES: tuple[RouteInfo, ...] = (
    RouteInfo("chat/completions", "POST", "/chat/completions", "Chat, streamed or not.", is_prefixed=True),
    RouteInfo("completions", "POST", "/completions", "Continue raw prompts, streamed or not.", is_prefixed=True),
    RouteInfo("models", "GET", "/models", "The catalog.", is_prefixed=True),
    RouteInfo("endpoints", "GET", "/models/{id}/endpoints", "Who serves a model, and how.", is_prefixed=True),
    RouteInfo("model_prices", "GET", "/models/{id}/prices", "What a model has cost, newest first.", is_prefixed=True),
    RouteInfo("model_history", "GET", "/models/{id}/history", "How it was served, by the hour.", is_prefixed=True),
    RouteInfo("model_evals", "GET", "/models/{id}/evals", "How it did in benchmarks run here.", is_prefixed=True),
    RouteInfo("model", "GET", "/models/{id}", "One model; the id may contain slashes.", is_prefixed=True),
    RouteInfo("generation", "GET", "/generation", "One past request: cost, times, route.", is_prefixed=True),
    RouteInfo("key", "GET", "/key", "What the calling key may spend, and has spent.", is_prefixed=True),
    RouteInfo("credits", "GET", "/credits", "What the calling key was given, and has spent.", is_prefixed=True),
    RouteInfo("queries", "GET", "/queries", "Past requests, the newest first.", is_prefixed=True),
    RouteInfo("activity", "GET", "/activity", "Sums of past requests, by day, model and more.", is_prefixed=True),
    RouteInfo("embeddings", "POST", "/embeddings", "Not available yet: answers 501.", is_prefixed=True),
    RouteInfo("moderations", "POST", "/moderations", "What content filters say of texts.", is_prefixed=True),
    RouteInfo("tokenize", "POST", "/tokenize", "Text or messages to token ids."),
    RouteInfo("detokenize", "POST", "/detokenize", "Token ids to text."),
    RouteInfo("tokenizer_info", "GET", "/tokenizer_info", "The tokenizer's configuration and chat template."),
    RouteInfo("live", "GET", "/health/live", "The process answers.", access="public"),
    RouteInfo("ready", "GET", "/health/ready", "At least one model is ready; else 503.", access="public"),
    RouteInfo("health", "GET", "/health", "How every model is doing.", access="admin"),
    RouteInfo("status", "GET", "/status", "How every model is doing at everyone who serves it, and was for a day."),
    RouteInfo("metrics", "GET", "/metrics", "Counts in Prometheus' text format.", access="admin"),
    RouteInfo("openapi", "GET", "/openapi.json", "This document.", access="public"),
    RouteInfo("reload", "POST", "/admin/v1/reload", "Read the files of the catalog anew.", access="admin"),
    RouteInfo("sync", "POST", "/admin/v1/sync", "Ask providers now what they list.", access="admin"),
    RouteInfo(
        "standings",
        "GET",
        "/admin/v1/sync",
        "What providers listed last, how old it is, and what failed.",
        access="admin",
    ),
    RouteInfo("prices", "GET", "/admin/v1/prices", "The history of prices, newest first.", access="admin"),
    RouteInfo(
        "recommendations", "GET", "/admin/v1/recommendations", "What would cost less, or be faster.", access="admin"
    ),
    RouteInfo("list_keys", "GET", "/admin/v1/keys", "All keys, oldest first, a page at a time.", access="admin"),
    RouteInfo("create_key", "POST", "/admin/v1/keys", "A new key, shown this once.", access="admin"),
    RouteInfo("rotate_key", "POST", "/admin/v1/keys/{id}/rotate", "The same key with a new text.", access="admin"),
    RouteInfo("show_key", "GET", "/admin/v1/keys/{id}", "One key, and what was spent with it.", access="admin"),
    RouteInfo("change_key", "PATCH", "/admin/v1/keys/{id}", "Change what is named of a key.", access="admin"),
    RouteInfo("delete_key", "DELETE", "/admin/v1/keys/{id}", "Delete a key; what it spent stays.", access="admin"),
    RouteInfo("list_projects", "GET", "/admin/v1/projects", "All projects, oldest first.", access="admin"),
    RouteInfo("create_project", "POST", "/admin/v1/projects", "A new project.", access="admin"),
    RouteInfo("show_project", "GET", "/admin/v1/projects/{id}", "One project, and what it spent.", access="admin"),
    RouteInfo("change_project", "PATCH", "/admin/v1/projects/{id}", "Change what is named of it.", access="admin"),
    RouteInfo("delete_project", "DELETE", "/admin/v1/projects/{id}", "Delete one without keys.", access="admin"),
    RouteInfo("local_models", "GET", "/admin/v1/local/models", "The models of this machine.", access="admin"),
    RouteInfo("load_model", "POST", "/admin/v1/local/models/{model}/load", "Serve an installed model.", access="admin"),
    RouteInfo("unload_model", "POST", "/admin/v1/local/models/{model}/unload", "Serve it no more.", access="admin"),
    RouteInfo("list_pulls", "GET", "/admin/v1/local/pulls", "Downloads of models, newest first.", access="admin"),
    RouteInfo("start_pull", "POST", "/admin/v1/local/pulls", "Download a model.", access="admin"),
    RouteInfo("cancel_pull", "DELETE", "/admin/v1/local/pulls/{id}", "Cancel or forget a download.", access="admin"),
    RouteInfo("open_session", "POST", "/ui/session", "Log in to the web page.", access="public"),
    RouteInfo("show_session", "GET", "/ui/session", "Who has logged in.", access="public"),
    RouteInfo("end_session", "DELETE", "/ui/session", "Log out.", access="public"),
    RouteInfo("facts", "GET", "/ui/facts", "What the web page has to know of this server.", access="public"),
    RouteInfo("root", "GET", "/", "To the web page.", access="public"),
    RouteInfo("pages", "GET", "/ui", "To the web page.", access="public"),
    RouteInfo("page", "GET", PUBLIC_PREFIX + "{file}", "The web page and its files.", access="public"),
)
ADMIN_PATHS = frozenset(path for route in ROUTES if route.access == "admin" for path in route.paths())
PUBLIC_PATHS = frozenset(path for route in ROUTES if route.access == "public" for path in route.paths())
