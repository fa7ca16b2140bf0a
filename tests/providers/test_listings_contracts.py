"""Each provider's list as it comes, field by field with its source, and the offers that it makes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest
from contract_files import CONTRACTS, leaves, read

from hodios.money import dollars
from hodios.providers.catalog import read_rows, shipped_folder
from hodios.providers.catalog_rows import Listing, Offer
from hodios.providers.listing_entries import Ask
from hodios.providers.listings import KINDS, read_listing

PATHS = sorted(CONTRACTS.glob("*.json"))
LISTINGS = {name for part in get_args(Listing) for name in get_args(part)}


def ask_of(text: str) -> Ask:
    path, _, model = text.partition(" ")
    return Ask(path, is_at_root=True, model=model)


def shown(offer: Offer) -> dict[str, Any]:
    """What is told, and nothing else."""
    fields: dict[str, Any] = {
        "id": offer.id,
        "via": offer.via or None,
        "context_length": offer.context_length,
        "max_output_tokens": offer.max_output_tokens,
        "quantization": offer.quantization or None,
        "features": None if offer.features is None else list(offer.features),
        "parameters": None if offer.parameters is None else list(offer.parameters),
        "available": None if offer.is_available else False,
    }
    if offer.price is not None:
        price = offer.price
        assert price.request == 0
        fields["price"] = {"prompt": dollars(price.prompt), "completion": dollars(price.completion)}
        if price.cached is not None:
            fields["price"]["cached"] = dollars(price.cached)
    return {name: value for name, value in fields.items() if value is not None}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_list_makes_the_offers_that_it_tells(path: Path) -> None:
    contract = read(path)
    answers = {ask_of(text): document for text, document in contract["answers"].items()}
    reading = read_listing(contract["listing"], contract["document"], native=tuple(contract["native"]), answers=answers)
    expected = contract["expected"]
    assert [shown(offer) for offer in reading.offers] == expected["offers"]
    assert {refusal.id: refusal.reason for refusal in reading.refused} == expected["refused"]
    assert reading.num_others == expected["num_others"]
    assert [[each.id, each.via, list(each.by_size_ms)] for each in reading.latencies] == expected["latencies"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_field_has_its_source(path: Path) -> None:
    contract = read(path)
    found = {leaf for part in ("document", "answers") if contract[part] for leaf in leaves(contract[part], part)}
    assert set(contract["sources"]) == found
    assert all(len(source) > 10 for source in contract["sources"].values())


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_is_asked_for_where_it_is(path: Path) -> None:
    """The address is the row's own, or the usual one of its kind."""
    contract = read(path)
    method, _, url = contract["request"].partition(" ")
    ask = KINDS[contract["listing"]].ask
    assert (method, ask.model) == ("GET", "")
    assert url.endswith(ask.path)
    base = url.removesuffix(ask.path) + ("/v1" if ask.is_at_root else "")
    rows = read_rows([shipped_folder()]).providers.values()
    assert base in {row.base_url or row.usual_url for row in rows if row.listing == contract["listing"]}


def test_every_kind_of_list_has_a_contract() -> None:
    assert {read(path)["listing"] for path in PATHS} == set(KINDS) == LISTINGS - {""}


def test_every_provider_that_comes_with_hodios_has_a_kind_of_list() -> None:
    assert {row.listing for row in read_rows([shipped_folder()]).providers.values()} <= LISTINGS - {""}


def test_novita_counts_in_ten_thousandths() -> None:
    entry = {"id": "a/b", "input_token_price_per_m": 3900, "output_token_price_per_m": Decimal("3900.5")}
    price = read_listing("novita", {"data": [entry]}).offers[0].price
    assert price is not None
    assert (dollars(price.prompt), dollars(price.completion)) == ("0.39", "0.39005")
