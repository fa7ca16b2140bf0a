"""What the web page is told of the server before anybody has logged in."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from msgspec import structs

from hodios import __version__
from hodios.api.app import create_app
from hodios.api.openapi import openapi_document
from hodios.api.parameters import CHAT, COMPLETIONS, parameters
from hodios.providers.echo import EchoProvider


async def test_the_page_needs_no_table_of_its_own(call: Any) -> None:
    answer = await call("GET", "/ui/facts", headers={"authorization": ""})
    facts = answer.json()
    document = openapi_document(8)
    schema = {"$ref": "#/components/schemas/Facts", "components": document["components"]}
    jsonschema.validate(facts, schema)
    assert (facts["version"], facts["base_url"]) == (__version__, "http://test/v1")
    assert (facts["status_public"], facts["accounts"], facts["max_choices"]) == (False, False, 8)
    for operation, field in ((CHAT, "chat"), (COMPLETIONS, "completions")):
        table = parameters(operation, 8)
        told = {each["name"]: each for each in facts["parameters"] if each[field]}
        assert set(told) == set(table)
        assert len(told) == sum(each[field] for each in facts["parameters"])
        for name, parameter in table.items():
            assert told[name]["accepted"] == parameter.kind.accepts
            assert told[name]["description"] == parameter.meaning
            assert told[name]["gap"] == parameter.gap
            jsonschema.Draft202012Validator.check_schema(told[name]["schema"])
    (temperature,) = (each for each in facts["parameters"] if each["name"] == "temperature")
    assert (temperature["schema"]["minimum"], temperature["schema"]["maximum"]) == (0, 2)
    assert temperature["default"] == 1


@pytest.mark.parametrize(("forwarded", "scheme"), [("https", "https"), ("HTTPS, http", "https"), ("http", "http")])
async def test_the_base_url_is_that_by_which_one_came(call: Any, forwarded: str, scheme: str) -> None:
    headers = {"host": "hodios.example", "x-forwarded-proto": forwarded, "authorization": ""}
    assert (await call("GET", "/ui/facts", headers=headers)).json()["base_url"] == f"{scheme}://hodios.example/v1"


async def test_what_the_operator_has_opened_is_told(call: Any, config: Any) -> None:
    call.app = create_app(structs.replace(config, status_public=True), [EchoProvider()])
    assert (await call("GET", "/ui/facts")).json()["status_public"] is True
