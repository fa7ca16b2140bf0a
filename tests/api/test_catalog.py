"""`GET models` and what lies below it, over scripted providers and over the catalog that comes with Hodios."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from hodios.api.app import create_app
from hodios.config import Config
from hodios.providers.base import ModelHealth
from hodios.providers.catalog_providers import Roster
from hodios.providers.catalog_rows import Offer
from hodios.providers.catalog_store import CatalogStore
from hodios.remotes import parse_providers
from hodios.types import UNKNOWN_PRICE, ModelCard, Price

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
        modalities=("text", "image"),
        features=("tools", "json_schema", "logprobs"),
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
    assert (small["status"], small["available"], small["license"]) == ("not_ready", 0, None)


async def test_parameters_and_modalities_are_those_of_the_model(call: Any) -> None:
    big, small = (await call("GET", "/v1/models")).json()["data"]
    of_big, of_small = set(big["supported_parameters"]), set(small["supported_parameters"])
    tools = {"tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"}
    assert {"temperature", "logit_bias", "seed"} <= of_small
    assert of_big - of_small == {*tools, "response_format", "logprobs", "top_logprobs", "data"}
    assert not {"model", "messages", "prompt", "strict", "store", "documents", "reasoning_effort"} & (of_big | of_small)
    assert big["supported_parameters"] == sorted(of_big)
    assert (big["input_modalities"], small["input_modalities"]) == (["text", "image"], ["text"])
    assert (big["architecture"]["modality"], small["architecture"]["modality"]) == ("text+image->text", "text->text")


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["maker/Big-7B", "other/small"]),
        ("type=llm", ["maker/Big-7B", "other/small"]),
        ("type=embedding", []),
        ("subtype=chat&enabled=1", ["maker/Big-7B", "other/small"]),
        ("enabled=0", []),
        ("enabled=ALL", ["maker/Big-7B", "other/small"]),
        ("provider=SCRIPTED", ["maker/Big-7B", "other/small"]),
        ("provider=x", []),
        ("model=BIG", ["maker/Big-7B"]),
        ("model=other/small", ["other/small"]),
        ("q=llama", ["maker/Big-7B"]),
        ("q=nothing", []),
        ("supported_parameters=top_k,seed", ["maker/Big-7B", "other/small"]),
        ("supported_parameters=tools,%20tool_choice", ["maker/Big-7B"]),
        ("supported_parameters=reasoning_effort", []),
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
    one = (await call("GET", f"/v1/models/{name}")).json()
    assert {field: one[field] for field in listed if field != "links"} == listed
    assert (one["card"], one["hub"]) == (None, None)
    (offer,) = one["offers"]
    assert (await call("GET", f"/v1/models/{name}/endpoints")).json()["data"]["endpoints"] == [offer]
    assert (offer["provider"], offer["status"], offer["enabled"], offer["tag"]) == ("scripted", 0, 1, "scripted")
    assert (offer["context_length"], offer["quantization"], offer["uptime_last_1d"]) == (4096, "Q4_1", None)


@pytest.mark.parametrize("name", ["maker/Big-8B", "maker", "\ud7ff", "a\x00b", "é/ö", "maker/Big-7B/x"])
async def test_a_model_that_is_not_there(call: Any, name: str) -> None:
    for path in (f"/v1/models/{name}", f"/v1/models/{name}/endpoints"):
        answer = await call("GET", path)
        assert answer.status == 404
        assert answer.error["code"] == "model_not_found"


HERMES = "NousResearch/Hermes-2-Pro-Llama-3-8B"
MIXTRAL = "NousResearch/Nous-Hermes-2-Mixtral-8x7B-DPO"
LOCAL = ModelCard(
    id=HERMES, context_length=8192, max_output_tokens=8192, provider="local", quantization="Q4_K_M", features=("tools",)
)
FIGURES = {"uptime_last_5m": 99.5, "latency_last_30m": {"p50": 0.1}, "latency": "1/2/3/4/5/6", "query_count": 7}


class Shop:
    """An app over a roster, with keys for some providers."""

    def __init__(self, config: Config, caller_of: Any, keys: tuple[str, ...], fixed: Any, settings: Any) -> None:
        config = structs.replace(config, providers=parse_providers(settings))
        self.store = CatalogStore(config, lambda variable: "sk" if variable in keys else None)
        self.roster = Roster(fixed, self.store, lambda variable: "sk")
        self.call = caller_of(create_app(config, self.roster, store=self.store, statistics=figures))

    async def get(self, path: str, query: str = "") -> Any:
        answer = await self.call("GET", f"/v1/models{path}", query=query)
        assert answer.status == 200, answer.body
        return answer.json()

    async def ids(self, query: str = "") -> list[str]:
        return [entry["id"] for entry in (await self.get("", query))["data"]]


def figures(provider: str, model: str) -> Mapping[str, Any]:
    return FIGURES if (provider, model) == ("novita", HERMES) else {}


@pytest.fixture
def open_shop(config: Config, caller_of: Any) -> Callable[..., Shop]:
    """`open_shop(*keys, fixed=…, NAME={…})`: variables that hold keys, providers beside the catalog's, settings."""
    return lambda *keys, fixed=(), **settings: Shop(config, caller_of, keys, fixed, settings)


@pytest.fixture
def local(scripted: Any) -> Any:
    states = (ModelHealth(model=HERMES, state="loading"),)
    return scripted(name="local", cards=(LOCAL,), states=states)[1]


async def test_the_catalog_is_known_without_a_key(open_shop: Any) -> None:
    shop = open_shop()
    assert await shop.ids() == []
    everything = await shop.ids("enabled=all")
    assert len(everything) == len(set(everything)) == 11
    assert await shop.ids("enabled=0") == everything
    assert await shop.ids("enabled=0&q=json%20MODE") == [HERMES]
    assert await shop.ids("enabled=all&type=vision") == ["NousResearch/Nous-Hermes-2-Vision-7B"]
    one = await shop.get(f"/{HERMES.lower()}")
    assert (one["enabled"], one["available"], one["status"]) == (0, 0, "not_ready")
    assert {offer["reason"] for offer in one["offers"]} == {
        "NOVITA_API_KEY holds no key",
        "OPENROUTER_API_KEY holds no key",
    }


async def test_a_model_with_its_card(open_shop: Any) -> None:
    one = await open_shop("NOVITA_API_KEY").get(f"/{HERMES}")
    assert (one["enabled"], one["provider"], one["providers"]) == (1, "novita", ["novita"])
    assert (one["hugging_face_id"], one["hub"]["gguf"]) == (HERMES, [f"{HERMES}-GGUF"])
    assert one["family"] == {
        "name": "hermes",
        "template": "chatml",
        "tool_template": "hermes",
        "tool_format": "hermes",
    }
    assert (one["architecture"]["instruct_type"], one["architecture"]["context_length"]) == ("hermes", 8192)
    assert one["context_length"] == 131072
    titles = [section["title"] for section in one["card"]["sections"]]
    assert titles[:3] == [
        "Prompt Format",
        "Prompt Format for Function Calling",
        "Prompt Format for JSON Mode / Structured Outputs",
    ]
    gpt4all = next(table for table in one["card"]["benchmarks"] if table["name"] == "GPT4All")
    assert gpt4all["average"] == 72.62
    first = gpt4all["results"][0]
    assert {name: first[name] for name in ("task", "metric", "value", "standard_error", "version")} == {
        "task": "arc_challenge",
        "metric": "acc",
        "value": 0.552,
        "standard_error": 0.0145,
        "version": 0,
    }
    assert one["card"]["series"]["title"] == "Hermes"
    assert one["links"]["function_calling"].endswith("Hermes-Function-Calling")


async def test_every_system_finds_its_price(open_shop: Any) -> None:
    entry = (await open_shop("NOVITA_API_KEY").get("", f"model={HERMES}"))["data"][0]
    assert (entry["input_token_price_per_m"], entry["output_token_price_per_m"]) == (3900, 3900)
    assert (entry["req_price"], entry["res_price"]) == ("0.00000039", "0.00000039")
    assert entry["pricing"] == {"prompt": "0.00000039", "completion": "0.00000039", "request": "0", "image": "0"}
    assert entry["metadata"]["pricing"] == {"input_tokens": 0.39, "output_tokens": 0.39}
    assert entry["metadata"]["description"] == entry["description"]
    assert (entry["latency"], entry["query_count"], entry["avg_cost"]) == ("1/2/3/4/5/6", 7, None)


async def test_what_a_provider_accepts_is_told_of_each(open_shop: Any) -> None:
    model = "nvidia/Llama-3.1-Nemotron-70B-Instruct"
    offers = (await open_shop().get(f"/{model}"))["offers"]
    assert (await open_shop().get(f"/{model}/endpoints"))["data"]["endpoints"] == offers
    ranges = {offer["provider"]: offer["ranges"] for offer in offers}["302ai"]
    assert ranges["temperature"] == {"min": 0, "max": 2, "above_min": False, "default": None, "max_items": None}
    assert ranges["stop"]["max_items"] == 4


async def test_an_unknown_price_is_null_and_not_nothing(open_shop: Any) -> None:
    entry = (await open_shop("OPENROUTER_API_KEY").get("", f"model={HERMES}"))["data"][0]
    assert (entry["provider"], entry["input_token_price_per_m"], entry["req_price"]) == ("openrouter", None, None)
    assert set(entry["pricing"].values()) == {None}


async def test_who_serves_a_model(open_shop: Any, local: Any) -> None:
    keys = ("NOVITA_API_KEY", "OPENROUTER_API_KEY")
    shop = open_shop(*keys, fixed=(local,), openrouter={"prices": {"*": {"prompt": "0.1", "cached": "0.05"}}})
    data = (await shop.get(f"/{HERMES}/endpoints"))["data"]
    assert (data["id"], data["name"]) == (HERMES, "Hermes 2 Pro - Llama-3 8B")
    openrouter, novita, here = data["endpoints"]
    assert [endpoint["provider"] for endpoint in (openrouter, novita, here)] == ["openrouter", "novita", "local"]
    assert [endpoint["status"] for endpoint in (openrouter, novita, here)] == [0, 0, -1]
    assert openrouter["pricing"]["input_cache_read"] == "0.00000005"
    assert (openrouter["price_source"], novita["price_source"], here["price_source"]) == ("settings", "catalog", None)
    assert (novita["as_of"], novita["context_length"], novita["upstream_id"]) == (
        "2024-11-15",
        131072,
        "nousresearch/hermes-2-pro-llama-3-8b",
    )
    assert "repetition_penalty" in novita["configuration"]
    assert (novita["uptime_last_5m"], novita["latency_last_30m"]) == (99.5, {"p50": 0.1})
    assert (openrouter["uptime_last_5m"], openrouter["throughput_last_30m"]) == (None, None)
    assert (novita["continues"], novita["collects_data"], novita["provider_name"]) == (True, True, "Novita AI")
    assert (here["quantization"], here["pricing"]["prompt"]) == ("Q4_K_M", "0")
    assert "logit_bias" in novita["supported_parameters"]
    assert "ignore_eos" not in novita["supported_parameters"]
    assert "tools" in novita["supported_parameters"]


async def test_a_provider_is_asked_for_by_name(open_shop: Any, local: Any) -> None:
    shop = open_shop("NOVITA_API_KEY", fixed=(local,))
    assert await shop.ids("provider=LOCAL") == [HERMES]
    of_novita = (await shop.get("", "provider=novita"))["data"]
    assert len(of_novita) == 4
    assert {entry["provider"] for entry in of_novita} == {"novita"}
    assert (await shop.get(f"/local/{HERMES}"))["provider"] == "local"
    assert (await shop.get(f"/novita/{HERMES}"))["provider"] == "novita"
    assert await shop.ids("provider=apipie") == []
    of_apipie = await shop.ids("enabled=all&provider=apipie")
    assert len(of_apipie) == 5
    assert len((await shop.get("", "enabled=all"))["data"]) == 11


async def test_two_offers_of_one_provider(open_shop: Any) -> None:
    shop = open_shop("APIPIE_API_KEY")
    endpoints = (await shop.get(f"/{MIXTRAL}/endpoints"))["data"]["endpoints"]
    found = {endpoint["tag"]: endpoint for endpoint in endpoints if endpoint["provider"] == "apipie"}
    assert set(found) == {"apipie/openrouter", "apipie/together"}
    assert (found["apipie/openrouter"]["status"], found["apipie/together"]["status"]) == (0, -2)
    assert found["apipie/together"]["reason"] == "another offer of this provider is asked instead"
    assert found["apipie/together"]["max_completion_tokens"] == 32768


async def test_what_is_no_longer_listed_is_shown_as_that(open_shop: Any) -> None:
    shop = open_shop("NOVITA_API_KEY")
    shop.store.put_live("novita", [Offer(id="meta-llama/llama-3.1-8b-instruct", price=Price(prompt=20_000_000))])
    await shop.roster.sync()
    assert await shop.ids() == ["meta-llama/Llama-3.1-8B-Instruct"]
    endpoints = (await shop.get(f"/{HERMES}/endpoints"))["data"]["endpoints"]
    assert {endpoint["provider"]: endpoint["status"] for endpoint in endpoints} == {"novita": -3, "openrouter": -2}
    (listed,) = (await shop.get("", "provider=novita"))["data"]
    assert listed["input_token_price_per_m"] == 200


async def test_health_says_what_is_wrong_with_the_catalog(open_shop: Any, tmp_path: Path) -> None:
    shop = open_shop("NOVITA_API_KEY")
    report = (await shop.call("GET", "/health")).json()
    assert report["catalog"] == {"version": 1, "problem": None}
    (tmp_path / "catalog" / "models").mkdir(parents=True)
    (tmp_path / "catalog" / "models" / "x.toml").write_text("id = 1")
    assert not shop.store.reload()
    report = (await shop.call("GET", "/health")).json()
    assert "x.toml: " in report["catalog"]["problem"]
    assert await shop.ids(), "and goes on with the last good one"


async def test_a_price_that_nobody_told_is_never_free(scripted: Any) -> None:
    card = ModelCard(id="m", context_length=9, max_output_tokens=9, price=UNKNOWN_PRICE)
    call, _ = scripted(cards=(card,), states=())
    answer = await call.chat(model="m:free")
    assert answer.status == 400
    assert "does not say what it costs" in answer.error["message"]
