"""What keys learn of models and providers that are not on their lists: nothing, whichever route they ask."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from bureau import CARD, Scripted
from msgspec import structs

from hodios.accounts.office import Office
from hodios.api.app import create_app
from hodios.config import Config
from hodios.providers.echo import MODEL_ID, EchoProvider
from hodios.providers.prices import PriceHistory, Quote
from hodios.types import Price

SHARED = structs.replace(CARD, id="maker/shared", aliases=("both",))
BELOW = ("", "/endpoints", "/prices", "/history", "/evals")


@pytest.fixture
def admin(office: Office, config: Config, caller_of: Callable[[Any], Any]) -> Any:
    history = PriceHistory(config.home)
    for provider in ("first", "second", "third"):
        quote = Quote(provider=provider, model=SHARED.id, offer="x", price=Price(prompt=1), source="live")
        history.record([quote], datetime(2026, 11, 1, tzinfo=UTC))
    providers = [Scripted((), "first", SHARED), Scripted((), "second", SHARED), EchoProvider(context_length=4096)]
    return caller_of(create_app(config, providers, office=office))


@pytest.fixture
def key_of(admin: Any) -> Callable[..., Any]:
    """A caller with a key of these lists."""

    async def make(**lists: list[str]) -> Any:
        answer = await admin("POST", "/admin/v1/keys", lists)
        assert answer.status == 201, answer.body
        return type(admin)(admin.app, answer.json()["key"])

    return make


def is_hidden(answer: Any) -> bool:
    found: str = answer.error["message"]
    return (answer.status, answer.error["code"]) == (404, "model_not_found") and "this key may not ask for" in found


@pytest.mark.parametrize("below", BELOW)
async def test_a_model_that_is_not_allowed_is_not_found(below: str, key_of: Callable[..., Any]) -> None:
    key = await key_of(models=["both"])
    assert (await key("GET", f"/v1/models/{SHARED.id}{below}")).status == 200
    assert (await key("GET", f"/v1/models/both{below}")).status == 200
    for name in (MODEL_ID, "echo"):
        assert is_hidden(await key("GET", f"/v1/models/{name}{below}"))


@pytest.mark.parametrize("below", BELOW)
async def test_neither_is_one_whose_providers_are_not_allowed(below: str, key_of: Callable[..., Any]) -> None:
    key = await key_of(providers=["second"])
    assert (await key("GET", f"/v1/models/second/{SHARED.id}{below}")).status == 200
    for name in (f"first/{SHARED.id}", MODEL_ID):
        assert is_hidden(await key("GET", f"/v1/models/{name}{below}"))


async def test_what_is_kept_of_other_providers_is_not_shown(admin: Any, key_of: Callable[..., Any]) -> None:
    async def shown(caller: Any, below: str, query: str = "") -> list[str]:
        answer = await caller("GET", f"/v1/models/both/{below}", query=query)
        return sorted(each["provider"] for each in answer.json()["data"])

    key = await key_of(providers=["second"])
    assert await shown(key, "prices") == await shown(key, "history") == ["second"]
    assert await shown(key, "prices", "limit=1") == ["second"], "the newest is another's"
    assert await shown(key, "prices", "provider=first") == []
    assert await shown(admin, "prices") == ["first", "second", "third"]
    assert await shown(admin, "history") == ["first", "second"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/tokenize", {"prompt": "x"}),
        ("POST", "/detokenize", {"tokens": [97]}),
        ("GET", "/tokenizer_info", None),
    ],
)
async def test_tokenizers_are_those_of_models_that_are_allowed(
    method: str, path: str, body: Any, key_of: Callable[..., Any]
) -> None:
    def named(model: str) -> dict[str, Any]:
        return {"query": f"model={model}"} if body is None else {"value": {**body, "model": model}}

    allowed, other, nothing = [await key_of(models=models) for models in (["echo"], ["both"], [])]
    assert (await allowed(method, path, **named("echo"))).status == 200
    assert (await allowed(method, path, body)).status == 200, "the first that is allowed is meant"
    assert is_hidden(await other(method, path, **named("echo")))
    assert (await other(method, path, body)).status == 501, "of that one there is no tokenizer"
    assert (await nothing(method, path, body)).error["code"] == "model_not_found"
    of_others = await key_of(providers=["first"])
    assert is_hidden(await of_others(method, path, **named("echo")))
