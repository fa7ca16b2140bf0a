"""What the settings and what providers list at the moment make of the rows, and who is asked in the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from catalog_files import MODEL, PROVIDER, store, write

from hodios.errors import ConfigError
from hodios.providers.catalog import read_rows
from hodios.providers.catalog_remotes import card_of, remotes_of
from hodios.providers.catalog_rows import Offer
from hodios.remotes import Remote
from hodios.types import UNKNOWN_PRICE, ModelCard, Price

OWN = {"base_url": "http://127.0.0.1:8000/v1", "features": ["tools", "vision"]}
PRICE = {"prompt": "0.1", "completion": "0.2"}
NANO = Price(prompt=100_000_000, completion=200_000_000)


def remotes(folder: Path, settings: Any = None, **more: Any) -> dict[str, Remote]:
    return {remote.name: remote for remote in remotes_of(store(folder, settings, **more).current)}


def test_a_provider_with_a_key_is_asked(tmp_path: Path) -> None:
    (acme,) = remotes(write(tmp_path)).values()
    assert (acme.base_url, acme.api_key_env, acme.dialect) == ("https://api.acme.example/v1", "ACME_API_KEY", "chat")
    assert acme.has_completions
    assert acme.collects_data, "nobody has said that it does not"
    (model,) = acme.models
    assert (model.id, model.upstream_id, model.context_length) == ("Maker/Big-7B", "maker/big", 4096)
    assert (model.family, model.price) == ("hermes", Price(prompt=390_000_000, completion=500_000_000))
    assert model.features == ("tools", "json_schema"), "it reads no images"
    assert set(model.aliases) == {"big", "Maker/Big-7B-hf", "Maker/Big-7B-GGUF", "maker/big"}
    assert model.continues
    assert not model.is_replica


@pytest.mark.parametrize(
    ("settings", "keys", "reason"),
    [
        ({}, (), "ACME_API_KEY holds no key"),
        ({"acme": {"enabled": False}}, ("ACME_API_KEY",), "the settings do not enable it"),
        ({"acme": {"api_key_env": "OTHER_KEY"}}, ("ACME_API_KEY",), "OTHER_KEY holds no key"),
        ({"acme": {"kind": "nothing"}}, ("ACME_API_KEY",), "there is no kind of provider 'nothing'; there are acme, "),
    ],
)
def test_who_is_not_asked_and_why(tmp_path: Path, settings: Any, keys: tuple[str, ...], reason: str) -> None:
    catalog = store(write(tmp_path), settings, keys).current
    assert remotes_of(catalog) == ()
    assert catalog.inactive["acme"].startswith(reason)
    assert not catalog.is_active("acme")
    assert "its address is not set" in catalog.inactive["openai_compatible"]


def test_a_hosted_provider_without_a_key_must_be_wanted(tmp_path: Path) -> None:
    folder = write(tmp_path, provider=PROVIDER.replace('api_key_env = "ACME_API_KEY"\n', ""))
    assert remotes(folder) == {}
    assert list(remotes(folder, {"acme": {"enabled": True}})) == ["acme"]


def test_settings_win_over_rows(tmp_path: Path) -> None:
    settings = {
        "acme": {
            "base_url": "https://proxy.example/v1",
            "dialect": "completions",
            "stream": False,
            "collects_data": False,
            "parameters": ["top_k"],
            "features": ["json_object"],
            "silence_timeout_s": 3,
            "prices": {"big": {"prompt": 1}, "MAKER/big-7b": PRICE, "*": {"prompt": 9}},
        }
    }
    (acme,) = remotes(write(tmp_path), settings).values()
    assert (acme.base_url, acme.dialect, acme.is_streaming) == ("https://proxy.example/v1", "completions", False)
    assert (acme.collects_data, acme.parameters, acme.silence_timeout_s) == (False, ("top_k",), 3.0)
    assert acme.models[0].features == ("json_object",)
    assert acme.models[0].price == NANO


def test_servers_of_ones_own_cost_nothing_unless_told_and_may_be_many(tmp_path: Path) -> None:
    models = [{"id": "big", "upstream_id": "big-awq", "quantization": "awq"}, {"id": "mine", "context_length": 512}]
    settings = {"one": {**OWN, "models": models}, "two": {**OWN, "models": models[:1]}, "three": {**OWN}}
    found = remotes(write(tmp_path), settings, keys=())
    assert list(found) == ["one", "two", "three"]
    big, mine = found["one"].models
    assert (big.id, big.upstream_id, big.context_length, big.quantization) == ("Maker/Big-7B", "big-awq", 8192, "awq")
    assert big.price == Price()
    assert "tools" in big.features
    assert (mine.id, mine.context_length, mine.features, mine.continues) == ("mine", 512, (), False)
    assert (big.is_replica, found["two"].models[0].is_replica, mine.is_replica) == (True, True, False)
    assert found["three"].models == (), "what it serves is not known yet"
    settings["two"]["prices"] = {"*": PRICE}
    found = remotes(tmp_path, settings, keys=())
    assert [remote.models[0].is_replica for remote in (found["one"], found["two"])] == [False, False]
    assert found["two"].models[0].price == NANO


def test_a_model_without_a_context_is_not_served(tmp_path: Path) -> None:
    settings = {"one": {**OWN, "models": [{"id": "mine"}]}}
    catalog = store(write(tmp_path), settings).current
    (offer,) = catalog.offers_of("mine")
    assert card_of(catalog, offer) is None
    assert {remote.name: remote.models for remote in remotes_of(catalog)}["one"] == ()


def test_an_unknown_price_is_not_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path, model=MODEL.replace('price = { prompt = 0.39, completion = "0.5" }\n', ""))
    assert remotes(folder)["acme"].models[0].price == UNKNOWN_PRICE
    free = {"acme": {"prices": {"*": {"prompt": 0}}}}
    assert remotes(folder, free)["acme"].models[0].price == Price()


def test_a_name_that_another_server_has_is_left_to_it(tmp_path: Path) -> None:
    from hodios.config import Config
    from hodios.providers.catalog_store import CatalogStore
    from hodios.remotes import RemoteModel

    row = RemoteModel(id="x", context_length=1)
    config = Config(home=tmp_path, remote=(Remote(name="acme", base_url="https://a.example", models=(row,)),))
    catalog = CatalogStore(config, lambda variable: "sk", folders=(write(tmp_path),)).current
    assert remotes_of(catalog) == ()
    assert "[remote.acme]" in catalog.inactive["acme"]


def test_what_a_provider_lists_is_known_better(tmp_path: Path) -> None:
    catalogs = store(write(tmp_path))
    assert catalogs.current.version == 1
    listed = Offer(id="MAKER/BIG", context_length=2048, price=NANO, max_output_tokens=100, quantization="fp8")
    catalogs.put_live("acme", [listed, Offer(id="unheard-of", context_length=1)])
    catalog = catalogs.current
    assert catalog.version == 2
    (offer,) = catalog.offers
    assert (offer.id, offer.context_length, offer.price, offer.price_source) == ("maker/big", 2048, NANO, "live")
    card = card_of(catalog, offer)
    assert isinstance(card, ModelCard)
    assert (card.quantization, card.max_output_tokens) == ("fp8", 100)
    catalogs.put_live("acme", [listed, Offer(id="unheard-of", context_length=1)])
    assert catalogs.current.version == 2, "nothing has changed"
    catalogs.put_live("acme", [])
    assert not catalogs.current.offers[0].is_available
    assert remotes_of(catalogs.current)[0].models == ()


def test_manual_prices_win_over_live_ones(tmp_path: Path) -> None:
    catalogs = store(write(tmp_path), {"acme": {"prices": {"BIG": PRICE, "*": {"prompt": 5}}}})
    catalogs.put_live("acme", [Offer(id="maker/big", price=Price(prompt=1))])
    (offer,) = catalogs.current.offers
    assert (offer.price, offer.price_source) == (NANO, "settings")


def test_unlisted_models_are_served_where_that_is_wanted(tmp_path: Path) -> None:
    listed = [Offer(id="unheard-of", context_length=99), Offer(id="maker/BIG-7b-hf"), Offer(id="contextless")]
    catalogs = store(write(tmp_path), {"own": OWN, "acme": {"unlisted": True}})
    for name in ("own", "acme"):
        catalogs.put_live(name, listed)
    found = {remote.name: {model.id for model in remote.models} for remote in remotes_of(catalogs.current)}
    assert found == {name: {"Maker/Big-7B", "unheard-of"} for name in ("acme", "own")}


def test_of_several_offers_of_a_provider_the_cheapest_is_asked(tmp_path: Path) -> None:
    offer = '[[offers]]\nprovider = "acme"\nid = "{id}"\n{price}'
    more = "\n".join(
        offer.format(id=id, price=price)
        for id, price in (
            ("unpriced", ""),
            ("dear", "price = { prompt = 7 }\n"),
            ("cheap", "price = { prompt = 0.1 }\n"),
        )
    )
    assert remotes(write(tmp_path, model=MODEL + more))["acme"].models[0].upstream_id == "cheap"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"models/b.toml": MODEL.replace("Maker/Big-7B", "Other/Big-7B")}, "are called 'big'. Rename one of them."),
        ({"models/b.toml": MODEL.replace('"acme"', '"acne"').replace("Big", "C").replace('"big"', '"c"')}, "'acne'"),
        ({"providers/b.toml": PROVIDER.replace("acme", "b") + "offers = [{ id = 'x', model = 'y' }]"}, "model 'y'"),
        ({"models/b.toml": 'series = "none"' + MODEL.replace("Big", "C").replace('"big"', '"c"')}, "series 'none'"),
        ({"models/b.toml": "x", "providers/c.toml": "y"}, "c.toml"),
    ],
)
def test_contradictions_are_told_all_at_once(tmp_path: Path, files: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_rows([write(tmp_path, more=files)])
    assert told in str(caught.value)
    assert all(Path(name).name in str(caught.value) for name in files if len(files) > 1)


def test_later_folders_replace_rows_by_name(tmp_path: Path) -> None:
    first = write(tmp_path / "a")
    mine = {"models/mine.toml": MODEL.replace('Maker/Big-7B"', 'MAKER/big-7b"').replace("8192", "16")}
    second = tmp_path / "b"
    for name, text in mine.items():
        (second / name).parent.mkdir(parents=True)
        (second / name).write_text(text)
    rows = read_rows([first, second, tmp_path / "nothing"])
    assert {id: row.context_length for id, row in rows.models.items()} == {"MAKER/big-7b": 16}
