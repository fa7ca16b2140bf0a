"""Sections of other servers: what is read, what is refused, and that no key is ever shown."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path

import pytest

from hodios import remotes
from hodios.config import Config, environment, load, remote_keys
from hodios.errors import ConfigError
from hodios.remotes import STANDARD_PARAMETERS, LoadGauges, ProviderSettings, Remote, RemoteModel
from hodios.types import Price, Range

ACME = """
[remote.acme]
base_url = "https://api.acme.example/v1"
api_key_env = "ACME_API_KEY"

[[remote.acme.models]]
id = "NousResearch/Hermes-2-Pro-Llama-3-8B"
upstream_id = "hermes-2-pro"
context_length = 8192
features = ["tools", "json_schema", "vision", "logprobs"]
family = "hermes"
"""
KEY = "sk-topsecret-0123456789"


def read(text: str) -> tuple[Remote, ...]:
    return remotes.parse(tomllib.loads(text)["remote"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_section_is_read() -> None:
    (acme,) = read(ACME)
    assert acme == Remote(
        name="acme",
        base_url="https://api.acme.example/v1",
        api_key_env="ACME_API_KEY",
        models=(
            RemoteModel(
                id="NousResearch/Hermes-2-Pro-Llama-3-8B",
                upstream_id="hermes-2-pro",
                context_length=8192,
                features=("tools", "json_schema", "vision", "logprobs"),
                family="hermes",
            ),
        ),
    )
    assert (acme.dialect, acme.is_streaming, acme.parameters) == ("chat", True, STANDARD_PARAMETERS)


def test_what_is_written_is_read_again() -> None:
    given = read(ACME.replace("[[remote", "stream = false\nparameters = ['top_k']\nsilence_timeout_s = 3\n[[remote"))
    assert remotes.parse(remotes.write(given)) == given
    assert not given[0].is_streaming


def test_ranges_are_read_exactly_and_written() -> None:
    text = "ranges = { top_p = { min = 0, max = 0.1, above_min = true }, stop = { max_items = 2 } }\n[[remote"
    given = read(ACME.replace("[[remote", text))
    assert given[0].ranges["top_p"] == Range(min=Decimal(0), max=Decimal("0.1"), is_above_min=True)
    assert remotes.parse(remotes.write(given)) == given


@pytest.mark.parametrize(
    ("accepted", "told"),
    [
        ("{ max = nan }", "ranges.n is not accepted: min and max must be finite"),
        ("{ min = 1, max = 1, above_min = true }", "ranges.n is not accepted: no number lies between"),
        ("{ max_items = -1 }", "ranges.n.max_items = -1 is not accepted: expected at least 1"),
        ("{ most = 1 }", "unknown field `most`"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(accepted: str, told: str) -> None:
    with pytest.raises(ConfigError, match=r"remote\.acme") as caught:
        read(ACME.replace("[[remote", f"ranges = {{ n = {accepted} }}\n[[remote"))
    assert told in str(caught.value)


def test_a_server_may_tell_how_busy_it_is(folder: Path) -> None:
    text = ACME.replace("[[remote", 'load = { running = ["x:running"], model_label = "model" }\n[[remote', 1)
    (remote,) = read(text)
    assert remote.load == LoadGauges(running=("x:running",), model_label="model")
    (folder / "hodios.toml").write_text(text)
    settings = load({"HOME": "/"})
    assert load(environment(settings, base={"HOME": "/"})).remote == (remote,)
    with pytest.raises(ConfigError, match=r"remote\.acme\.load\.running\[0\] is not accepted"):
        read(text.replace("x:running", "x running"))


def test_settings_have_remotes_and_children_too(folder: Path) -> None:
    (folder / "hodios.toml").write_text(ACME)
    settings = load({"HOME": "/"})
    assert [remote.name for remote in settings.remote] == ["acme"]
    assert load(environment(settings, base={"HOME": "/"})) == settings


def test_engines_do_not_get_the_keys(folder: Path) -> None:
    settings = Config(home=folder, remote=read(ACME))
    base = {"PATH": "/bin", "ACME_API_KEY": KEY}
    assert KEY not in environment(settings, base=base, with_key=False).values()
    assert environment(settings, base=base)["ACME_API_KEY"] == KEY


def test_keys_are_found_by_the_names_of_their_variables(folder: Path) -> None:
    settings = Config(home=folder, remote=read(ACME))
    assert remote_keys(settings, {"ACME_API_KEY": KEY}) == {"acme": KEY}
    assert remote_keys(Config(home=folder, remote=read(ACME.replace("api_key_env", "#"))), {}) == {}


@pytest.mark.parametrize("key", [None, "", f"{KEY} ", f"{KEY}\r\nx-evil: 1", f"{KEY}é"])
def test_an_unusable_key_is_told_but_not_shown(folder: Path, key: str | None) -> None:
    settings = Config(home=folder, remote=read(ACME))
    with pytest.raises(ConfigError, match=r"remote\.acme: the variable ACME_API_KEY holds no key") as caught:
        remote_keys(settings, {} if key is None else {"ACME_API_KEY": key})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("base_url", "base_ur", "Unknown setting remote.acme.base_ur. Did you mean remote.acme.base_url?"),
        ("api_key_env", "api_key", "Unknown setting remote.acme.api_key. Did you mean remote.acme.api_key_env?"),
        ("features", "feature", "remote.acme.models[0].feature. Did you mean remote.acme.models[0].features?"),
        ("context_length = 8192", "", "remote.acme.models[0] is not accepted: object missing required field `context"),
        ("8192", "'8192'", "remote.acme.models[0].context_length is not accepted: expected `int`, got `str`."),
        ("8192", "0", "remote.acme.models[0].context_length is not accepted"),
        ('"tools"', '"tool"', "remote.acme.models[0].features[0] is not accepted: invalid enum value 'tool'."),
        ("[[remote.acme.models]]", "[remote.acme.models]", "remote.acme.models is not accepted: expected `array`"),
        ("https://api.acme.example/v1", "api.acme.example", "base_url = 'api.acme.example' is not accepted"),
        ("https://", "ftp://", "is not accepted: it must be like https://"),
        ("api.acme.example/v1", "[::1", "is not accepted: it must be like https://"),
        ("remote.acme", 'remote."a/b"', "remote.a/b.name is not accepted"),
        ("remote.acme", "remote.local", "local is the name of a provider of Hodios itself"),
        ("ACME_API_KEY", "HODIOS_KEY", "variables that begin with HODIOS_ are settings of Hodios"),
        ("upstream_id", "aliases = ['nousresearch/hermes-2-pro-llama-3-8b']\nupstream_id", "is there twice"),
        ('"https://api.acme.example/v1"', '""', "remote.acme.base_url is not accepted"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, told: str) -> None:
    assert old in ACME
    with pytest.raises(ConfigError) as caught:
        read(ACME.replace(old, new))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        ACME.replace("ACME_API_KEY", KEY),
        ACME.replace('api_key_env = "ACME_API_KEY"', f'api_key = "{KEY}"'),
        ACME.replace("https://", f"https://user:{KEY}@"),
        ACME.replace("/v1", f"/v1?key={KEY}"),
        f"[remote]\nacme = '{KEY}'",
        f"[remote.acme]\nbase_url = 'https://a.example'\nmodels = ['{KEY}']",
    ],
)
def test_a_key_in_the_wrong_place_is_not_shown(folder: Path, text: str) -> None:
    (folder / "hodios.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"hodios\.toml, key remote: ") as caught:
        load({"HOME": "/"})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "1", '{"acme": 1}', '{"acme": {"models": []}}', f'"{KEY}'])
def test_a_variable_that_is_no_table_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"the environment \(HODIOS_REMOTE\): remote") as caught:
        load({"HOME": "/", "HODIOS_REMOTE": text})
    assert KEY not in str(caught.value)


PROVIDERS = """
[providers.novita]
api_key_env = "MY_NOVITA_TOKEN"
collects_data = false
unlisted = true

[providers.novita.prices]
"*" = { prompt = "0.39", completion = 0.39, cached = 0.1, request = 1 }

[providers.local.prices]
"HuggingFaceTB/SmolLM2-135M-Instruct" = { completion = "0.000000001" }

[providers.gpu-1]
kind = "vllm"
base_url = "http://10.0.0.1:8000/v1"
stream = false

[[providers.gpu-1.models]]
id = "maker/big"
context_length = 4096
price = { prompt = 2 }
"""


def read_providers(text: str) -> tuple[ProviderSettings, ...]:
    return remotes.parse_providers(tomllib.loads(text)["providers"])


def test_sections_of_providers_are_read() -> None:
    novita, local, gpu = read_providers(PROVIDERS)
    price = Price(prompt=390_000_000, completion=390_000_000, cached=100_000_000, request=10**9)
    assert novita == ProviderSettings(
        name="novita", api_key_env="MY_NOVITA_TOKEN", collects_data=False, has_unlisted=True, prices={"*": price}
    )
    assert local.prices == {"HuggingFaceTB/SmolLM2-135M-Instruct": Price(completion=1)}
    assert (gpu.kind, gpu.is_streaming, gpu.models[0].price) == ("vllm", False, Price(prompt=2 * 10**9))
    assert remotes.parse_providers(remotes.write_providers((novita, local, gpu))) == (novita, local, gpu)


def test_a_remotes_price_survives_the_environment() -> None:
    (acme,) = read(ACME.replace("context_length", "price = { prompt = 0.1, completion = '0.25' }\ncontext_length"))
    assert acme.models[0].price == Price(prompt=100_000_000, completion=250_000_000)
    assert remotes.parse(remotes.write((acme,))) == (acme,)


def test_children_have_the_providers_and_engines_not_their_keys(folder: Path) -> None:
    (folder / "hodios.toml").write_text(PROVIDERS)
    settings = load({"HOME": "/"})
    assert load(environment(settings, base={"HOME": "/"})) == settings
    base = {"PATH": "/bin", "MY_NOVITA_TOKEN": KEY, "OPENROUTER_API_KEY": KEY, "HF_TOKEN": KEY}
    assert KEY not in environment(settings, base=base, with_key=False).values()
    assert environment(settings, base=base)["OPENROUTER_API_KEY"] == KEY


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "collects_data",
            "collect_data",
            "Unknown setting providers.novita.collect_data. Did you mean providers.novita.c",
        ),
        ('prompt = "0.39"', 'prompt = "cheap"', "providers.novita.prices.* is not accepted: 'cheap' is not an amount"),
        ('prompt = "0.39"', "promt = 1", "a price is a table with the keys prompt, completion, cached, request"),
        ("prompt = 2", "prompt = -2", "providers.gpu-1.models[0].price is not accepted: -2 is not an amount"),
        ("http://10.0.0.1:8000/v1", "10.0.0.1", "providers.gpu-1.base_url = '10.0.0.1' is not accepted"),
        ("http://", f"http://user:{KEY}@", "providers.gpu-1.base_url (not shown) is not accepted"),
        ("MY_NOVITA_TOKEN", "HODIOS_X", "variables that begin with HODIOS_ are settings of Hodios"),
        (
            "[providers.local.prices]",
            "[providers.local]\nenabled = true\n[providers.local.prices]",
            "can only have prices",
        ),
        ("providers.novita", "providers.echo", "echo is the name of a provider of Hodios itself"),
        ("context_length = 4096", 'aliases = ["MAKER/big"]', "the id 'MAKER/big' is there twice"),
        ('kind = "vllm"', "kind = 1", "providers.gpu-1.kind is not accepted: expected `str`, got `int`."),
        ("context_length = 4096", "contxt_length = 1", "Did you mean providers.gpu-1.models[0].context_length?"),
    ],
)
def test_what_is_wrong_with_a_provider_is_named(old: str, new: str, told: str) -> None:
    assert old in PROVIDERS
    with pytest.raises(ConfigError) as caught:
        read_providers(PROVIDERS.replace(old, new))
    assert told in str(caught.value)
    assert KEY not in str(caught.value)


def test_no_models_are_no_remote() -> None:
    with pytest.raises(ConfigError, match=r"remote\.acme\.models is empty"):
        remotes.parse({"acme": {"base_url": "https://a.example", "models": []}})
