from __future__ import annotations

from typing import Any

import pytest

from hodios.providers.base import ModelHealth
from hodios.types import ModelCard

CARDS = (
    ModelCard(
        id="maker/Big-7B",
        aliases=("big",),
        author="maker",
        name="Big",
        context_length=4096,
        max_output_tokens=1024,
        created=1700000000,
        provider="scripted",
        quantization="Q4_1",
        architecture="llama",
        license="MIT",
    ),
    ModelCard(id="other/small", context_length=100, max_output_tokens=50, provider="scripted"),
)
STATES = (ModelHealth(model="maker/Big-7B", state="ready"), ModelHealth(model="other/small", state="loading"))


@pytest.fixture
def call(scripted: Any) -> Any:
    return scripted(cards=CARDS, states=STATES)[0]


async def test_the_list_has_everyones_fields(call: Any) -> None:
    document = (await call("GET", "/v1/models")).json()
    assert document["object"] == "list"
    big, small = document["data"]
    assert (big["id"], big["object"], big["created"], big["owned_by"]) == ("maker/Big-7B", "model", 1700000000, "maker")
    assert (big["context_size"], big["max_output_tokens"], big["input_token_price_per_m"]) == (4096, 1024, 0)
    assert (big["type"], big["enabled"], big["available"], big["max_response_tokens"]) == ("llm", 1, 1, 1024)
    assert (big["metadata"]["context_length"], big["root"], big["parent"]) == (4096, "maker/Big-7B", None)
    assert big["pricing"] == {"prompt": "0", "completion": "0", "request": "0", "image": "0"}
    assert {"temperature", "logit_bias", "response_format"} <= set(big["supported_parameters"])
    assert "tools" not in big["supported_parameters"]
    assert (small["status"], small["available"], small["license"]) == ("not_ready", 0, None)


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["maker/Big-7B", "other/small"]),
        ("type=llm", ["maker/Big-7B", "other/small"]),
        ("type=embedding", []),
        ("subtype=chat&enabled=1", ["maker/Big-7B", "other/small"]),
        ("enabled=0", []),
        ("provider=SCRIPTED", ["maker/Big-7B", "other/small"]),
        ("provider=x", []),
        ("model=BIG", ["maker/Big-7B"]),
        ("model=other/small", ["other/small"]),
        ("q=llama", ["maker/Big-7B"]),
        ("q=nothing", []),
        ("supported_parameters=top_k,seed", ["maker/Big-7B", "other/small"]),
        ("supported_parameters=tools", []),
        ("unknown=1", ["maker/Big-7B", "other/small"]),
    ],
)
async def test_filters(call: Any, query: str, ids: list[str]) -> None:
    data = (await call("GET", "/v1/models", query=query)).json()["data"]
    assert [entry["id"] for entry in data] == ids


@pytest.mark.parametrize("query", ["enabled=yes", "q=%ff", "q=%ED%A0%80", "q=\xff"])
async def test_bad_queries_are_400(call: Any, query: str) -> None:
    assert (await call("GET", "/v1/models", query=query)).status == 400


@pytest.mark.parametrize("name", ["maker/Big-7B", "MAKER/big-7b", "big", "scripted/maker/Big-7B"])
async def test_one_model_by_any_of_its_names(call: Any, name: str) -> None:
    listed = (await call("GET", "/v1/models")).json()["data"][0]
    assert (await call("GET", f"/v1/models/{name}")).json() == listed


@pytest.mark.parametrize("name", ["maker/Big-8B", "maker", "\ud7ff", "a\x00b", "é/ö", "maker/Big-7B/endpoints"])
async def test_a_model_that_is_not_there(call: Any, name: str) -> None:
    answer = await call("GET", f"/v1/models/{name}")
    assert answer.status == 404
    assert answer.error["code"] == "model_not_found"
