"""Files that people write wrongly: each is refused with its file, its field, its value and what is accepted."""

from __future__ import annotations

import random
import string

import pytest
from catalog_files import MODEL, PROVIDER
from hypothesis import given
from hypothesis import strategies as st

from hodios.errors import ConfigError
from hodios.providers.catalog_rows import ModelRow, ProviderRow, SeriesRow, read_row
from hodios.types import Price

SECRET = "sk-topsecret-0123456789"


def model(text: str) -> ModelRow:
    return read_row(text.encode(), ModelRow, "big.toml")


def provider(text: str) -> ProviderRow:
    return read_row(text.encode(), ProviderRow, "acme.toml")


def test_prices_are_exact() -> None:
    (offer,) = model(MODEL).offers
    assert offer.price == Price(prompt=390_000_000, completion=500_000_000)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('family = "hermes"', 'family = "hermos"', "big.toml: family = 'hermos' is not accepted. Did you mean hermes?"),
        ("8192", '"many"', "big.toml: context_length = 'many' is not accepted: expected `int`, got `str`."),
        ("8192", "0", "big.toml: context_length = 0 is not accepted: expected `int` >= 1."),
        ("8192", "8192.5", "context_length = 8192.5 is not accepted: expected `int`"),
        ("context_length = 8192", "", "big.toml: it is not accepted: object missing required field `context_length`."),
        ("open_weights", "open_weight", "open_weight is not known. Did you mean open_weights? There are aliases, "),
        ('provider = "acme"\n', 'provider = "acme"\nprise = 1\n', "offers[0].prise is not known. Did you mean price?"),
        ("prompt = 0.39", "prompt = -1", "offers[0].price is not accepted: -1 is not"),
        ("prompt = 0.39", "prompt = nan", "offers[0].price is not accepted"),
        ("prompt = 0.39", "promt = 0.39", "a price is a table with the keys prompt, completion, cached, request"),
        ('{ prompt = 0.39, completion = "0.5" }', "0.39", "offers[0].price is not accepted: a price is a table"),
        ("2024-11-15", '"yesterday"', "offers[0].as_of = 'yesterday' is not accepted: invalid RFC3339"),
        ('provider = "acme"\n', "", "offers[0] must name its provider"),
        ("Maker/Big-7B-hf", "../../etc", "hub.safetensors = '../../etc' is not accepted"),
        ("[hub]", "[hub", "big.toml cannot be read as TOML:"),
        ("[hub]", "[card]\nbenchmarks = [{ name = 'x', results = [{ task = 'y', value = nan }] }]\n[hub]", "finite"),
        ("[hub]", f"x = {'[' * 3000}{']' * 3000}\n[hub]", "big.toml cannot be read as TOML: it is nested too deeply"),
    ],
)
def test_a_models_mistakes_are_named(old: str, new: str, told: str) -> None:
    assert old in MODEL
    with pytest.raises(ConfigError) as caught:
        model(MODEL.replace(old, new))
    assert str(caught.value).startswith("big.toml")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("acme.example/v1", "acme.example/v1?key=x", "base_url (not shown) is not accepted"),
        ("https://", "file://", "acme.toml: base_url = 'file://api.acme.example/v1' is not accepted"),
        ('name = "acme"', 'name = "local"', "name = 'local' is that of a provider of Hodios itself"),
        ('name = "acme"', 'name = "../x"', "acme.toml: name = '../x' is not accepted: expected `str` matching"),
        ('"chat", "completions"', '"chat", "gopher"', "dialects[1] = 'gopher' is not accepted: invalid enum value"),
        ('["chat", "completions"]', "[]", "dialects is empty; accepted: chat, completions."),
        ('"tools", ', '"tool", ', "features[0] = 'tool' is not accepted"),
        ("hosted = true", "hosted = 1", "hosted = 1 is not accepted: expected `bool`, got `int`."),
        ("hosted = true", "hosted = true\nranges = {n = {mix = 1}}", "ranges[...].mix is not known. Did you mean m"),
        ("hosted = true", "hosted = true\nranges = {n = {max_items = 0}}", "ranges.n.max_items = 0 is not accepted"),
        ("hosted = true", "hosted = true\nranges = {n = {min = 2, max = 1}}", "no number lies between min = 2 and max"),
        ("hosted = true", "hosted = true\noffers = [{id = 'x'}]", "offers[0] must name its model"),
        ("hosted = true", "hosted = true\nload = {runing = ['x']}", "load.runing is not known. Did you mean running?"),
        ("hosted = true", "hosted = true\nload = {running = []}", "load.running = [] is not accepted: expected"),
        ("hosted = true", "hosted = true\nload = {running = ['a b']}", "load.running[0] = 'a b' is not accepted"),
        ("hosted = true", "hosted = true\nload = {running = ['x'], route = 'm'}", "load.route = 'm' is not accepted"),
        ("hosted = true", "hosted = true\nload = {}", "load is not accepted: object missing required field `running`"),
        ("hosted = true", "hosted = true\nquirks = ['slow']", "quirks[0] = 'slow' is not accepted"),
    ],
)
def test_a_providers_mistakes_are_named(old: str, new: str, told: str) -> None:
    assert old in PROVIDER
    with pytest.raises(ConfigError) as caught:
        provider(PROVIDER.replace(old, new))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        PROVIDER.replace("ACME_API_KEY", SECRET),
        PROVIDER.replace("ACME_API_KEY", "LD_PRELOAD"),
        PROVIDER + f'api_key = "{SECRET}"\n',
        PROVIDER.replace("https://", f"https://user:{SECRET}@"),
    ],
)
def test_a_key_in_the_wrong_place_is_not_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        provider(text)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\x00", b"a = 1\na = 2", b"[a]\n[a]", b"a = " + b"1" * (1 << 20)])
def test_what_is_no_row_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^it"):
        read_row(data, SeriesRow, "it")


def refusals(data: bytes) -> list[str]:
    told = []
    for kind in (ProviderRow, ModelRow, SeriesRow):
        try:
            read_row(data, kind, "it")
        except ConfigError as error:
            told.append(str(error))
    return told


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    told = refusals(data)
    assert len(told) == 3
    assert all(text.startswith("it") for text in told)


@given(st.integers(0, 2**32))
def test_any_damage_is_read_or_refused(seed: int) -> None:
    rng = random.Random(seed)
    text = list(rng.choice((MODEL, PROVIDER)))
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(text))
        text[place] = rng.choice(["", *string.printable, "€"])
    told = refusals("".join(text).encode())
    assert 2 <= len(told) <= 3
    assert all(refusal.startswith("it") for refusal in told)
