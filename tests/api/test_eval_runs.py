"""How a model did in benchmarks that were run here, and who is told of files that are no results."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from hodios.api.app import create_app
from hodios.api.openapi import openapi_document
from hodios.config import Config
from hodios.providers.catalog_store import CatalogStore
from hodios.providers.echo import EchoProvider

DOCUMENT = openapi_document(8)


@pytest.fixture
def runs(config: Config) -> None:
    folder = config.home / "evals"
    folder.mkdir(parents=True)
    for place, name in enumerate(("echo", "ECHO", "nobody/knows", "NousResearch/Hermes-2-Pro-Llama-3-8B")):
        document = {"model_name": name, "date": place, "results": {"piqa": {"acc,none": 0.5, "acc_stderr,none": 0.1}}}
        (folder / f"{place}.json").write_text(json.dumps(document))
    (folder / "bad.json").write_text("{}")


def conforms(answer: Any) -> Any:
    schema = {"$ref": "#/components/schemas/ModelEvals", "components": DOCUMENT["components"]}
    jsonschema.validate(answer.json(), schema)
    return answer.json()


@pytest.fixture
async def call(config: Config, runs: None, caller_of: Any) -> Any:
    app = create_app(config, [EchoProvider(context_length=4096)], store=CatalogStore(config))
    async with app.router.lifespan_context(app):
        yield caller_of(app)


async def test_a_model_has_its_own_runs_under_any_of_its_names(call: Any) -> None:
    found = conforms(await call("GET", "/v1/models/echo/evals"))
    assert [each["file"] for each in found["data"]] == ["1.json", "0.json"]
    assert found["data"][0]["results"][0]["value"] == 0.5
    hermes = conforms(await call("GET", "/v1/models/nousresearch/hermes-2-pro-llama-3-8b/evals"))
    assert hermes["model"] == "NousResearch/Hermes-2-Pro-Llama-3-8B"
    assert [each["file"] for each in hermes["data"]] == ["3.json"]


async def test_the_operator_is_told_what_is_no_result(call: Any) -> None:
    found = conforms(await call("GET", "/v1/models/echo/evals"))
    (refused,) = found["refused"]
    assert refused["message"].startswith("bad.json is no result of lm-evaluation-harness: results is missing")


async def test_unknown_models_are_404(call: Any) -> None:
    assert (await call("GET", "/v1/models/nobody/knows/evals")).error["code"] == "model_not_found"
