from __future__ import annotations

import contextlib
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios import config
from hodios.config import Config, environment, exposed_file, load, with_overrides
from hodios.errors import ConfigError
from hodios.setting_values import is_loopback
from hodios.settings import SETTINGS

STRONG = "x7Kp2mQ9vL4nR8tW1zB5cD3fG6hJ0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with nothing in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_setting_is_a_field_and_the_other_way_round() -> None:
    assert sorted(setting.name for setting in SETTINGS) == sorted(Config.__struct_fields__)


def test_defaults(folder: Path) -> None:
    settings = load({"HOME": "/home/ann"})
    assert settings == Config(home=Path("/home/ann/.local/share/hodios"))
    assert (settings.host, settings.port, settings.max_body_bytes) == ("127.0.0.1", 8000, 8388608)
    assert load({"HOME": "/home/ann", "XDG_DATA_HOME": "/data"}).home == Path("/data/hodios")
    assert load({"HOME": "/home/ann", "XDG_DATA_HOME": "relative"}).home == Path("/home/ann/.local/share/hodios")


def test_the_environment_wins_over_the_file(folder: Path) -> None:
    (folder / "hodios.toml").write_text("[server]\nport = 1\nhost = '::1'\n[engine]\nexact = true\n")
    settings = load({"HOME": "/", "HODIOS_PORT": "2"})
    assert (settings.port, settings.host, settings.exact) == (2, "::1", True)


def test_the_file_is_looked_for_in_order(folder: Path) -> None:
    home, named = folder / "home", folder / "other.toml"
    home.mkdir()
    env = {"HODIOS_HOME": str(home)}
    (home / "hodios.toml").write_text("server.port = 1")
    assert load(env).port == 1
    (folder / "hodios.toml").write_text("server.port = 2")
    assert load(env).port == 2
    named.write_text("server.port = 3")
    assert load(env | {"HODIOS_CONFIG": str(named)}).port == 3
    assert load(env, file=home / "hodios.toml").port == 1


def test_all_settings_from_a_file(folder: Path) -> None:
    (folder / "hodios.toml").write_text(
        f"""
        home = "{folder}/h"
        [server]
        host = "localhost"
        port = 0
        admin_key = "k"
        cors_origins = ["https://a.example", "http://b.example:8080"]
        metrics_public = true
        max_body_bytes = "2 MiB"
        max_choices = 4
        first_event_timeout_s = 3
        log_level = "DEBUG"
        [engine]
        models = ["a/b"]
        families = {{"a/b" = "hermes", "c" = "chatml"}}
        threads = 2
        exact = true
        kv_cache_bytes = 1073741824
        max_sequences = 8
        max_batch_tokens = 128
        max_queue = 5
        context_length = 2048
        speculation = false
        """
    )
    settings = load({"HOME": "/"})
    assert settings == Config(
        home=folder / "h",
        host="localhost",
        port=0,
        admin_key="k",
        cors_origins=("https://a.example", "http://b.example:8080"),
        metrics_public=True,
        max_body_bytes=2 * 2**20,
        max_choices=4,
        first_event_timeout_s=3.0,
        log_level="debug",
        models=("a/b",),
        families=(("a/b", "hermes"), ("c", "chatml")),
        threads=2,
        exact=True,
        kv_cache_bytes=2**30,
        max_sequences=8,
        max_batch_tokens=128,
        max_queue=5,
        context_length=2048,
        speculation=False,
    )
    assert load(environment(settings, base={"HOME": "/", "HODIOS_CONFIG": "/gone"})) == settings


def test_a_child_does_not_need_the_key(folder: Path) -> None:
    settings = Config(home=folder, admin_key="secret", cors_origins=("https://a.example",))
    base = {"PATH": "/bin", "HODIOS_ADMIN_KEY": "older"}
    assert "HODIOS_ADMIN_KEY" not in environment(settings, base=base, with_key=False)
    assert environment(settings, base=base)["HODIOS_ADMIN_KEY"] == "secret"
    assert environment(settings, base=base)["PATH"] == "/bin"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("HODIOS_PROT", "HODIOS_PORT"),
        ("HODIOS_ADMINKEY", "HODIOS_ADMIN_KEY"),
        ("HODIOS_SERVER_PORT", "HODIOS_PORT"),
        ("HODIOS_CONFG", "HODIOS_CONFIG"),
        ("HODIOS_MODEL", "HODIOS_MODELS"),
        ("HODIOS_", "HODIOS_"),
    ],
)
def test_an_unknown_variable_names_the_nearest(folder: Path, wrong: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"Unknown setting {wrong} in the environment. Did you mean {right}"):
        load({"HOME": "/", wrong: "1"})


@pytest.mark.parametrize(
    ("text", "wrong", "right"),
    [
        ("[server]\nprot = 1", "server.prot", "server.port"),
        ("port = 1", "port", "server.port"),
        ("[engine]\nport = 1", "engine.port", "server.port"),
        ("[sever]\nport = 1", "sever", "server"),
        ("[engine]\nthread = 1", "engine.thread", "engine.threads"),
        ("[server.port]\nx = 1", None, None),
    ],
)
def test_an_unknown_key_names_the_nearest(folder: Path, text: str, wrong: str | None, right: str | None) -> None:
    (folder / "hodios.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load({"HOME": "/"})
    if wrong:
        assert str(caught.value) == f"Unknown setting {wrong} in hodios.toml. Did you mean {right}?"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "65536"), ("PORT", "-1"), ("PORT", "http"), ("PORT", ""), ("PORT", "8000.0"), ("PORT", "٨٠٠٠x"),
        ("HOST", ""), ("HOST", "a b"), ("HOST", "http://x"), ("HOST", "u@h"), ("HOME", ""), ("HOME", "  "),
        ("HOME", "a\0"),
        ("CORS_ORIGINS", "example.org"), ("CORS_ORIGINS", "https://a.example/path"), ("CORS_ORIGINS", "ftp://a"),
        ("CORS_ORIGINS", "https://"), ("METRICS_PUBLIC", "maybe"), ("METRICS_PUBLIC", ""), ("MAX_BODY_BYTES", "10"),
        ("MAX_BODY_BYTES", "8 MB/s"),
        ("MAX_BODY_BYTES", "inf"), ("MAX_BODY_BYTES", "nanMiB"), ("MAX_BODY_BYTES", "1e400"),
        ("MAX_CHOICES", "0"), ("MAX_CHOICES", "129"), ("FIRST_EVENT_TIMEOUT_S", "0"), ("FIRST_EVENT_TIMEOUT_S", "nan"),
        ("FIRST_EVENT_TIMEOUT_S", "inf"),
        ("LOG_LEVEL", "loud"), ("THREADS", "0"), ("EXACT", "2"), ("KV_CACHE_BYTES", "1"),
        ("MAX_SEQUENCES", "0"), ("MAX_BATCH_TOKENS", "1"), ("MAX_QUEUE", "0"), ("CONTEXT_LENGTH", "1"),
    ],
)  # fmt: skip
def test_an_impossible_variable_is_refused(folder: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"HOME": "/", f"HODIOS_{name}": value})
    told = str(caught.value)
    assert told.startswith(
        f"{name.lower()} = {value!r} from the environment (HODIOS_{name}) is not accepted: it must be "
    )
    assert told.endswith(next(s.accepts for s in SETTINGS if s.variable == f"HODIOS_{name}") + ".")


@pytest.mark.parametrize(
    "text",
    [
        "server.port = true", "server.port = 8000.0", "server.port = [1]", "server.host = 1", "server.admin_key = 5",
        "server.cors_origins = [1]", "server.cors_origins = ['']", "server.metrics_public = 1", "engine.exact = 1",
        "server.first_event_timeout_s = true", "server.max_body_bytes = 1.5", "engine.models = {}", "server = 1",
        "server.log_level = 3", "home = 1", "home = ['/']", "server.port =", "server.port = 1\nserver.port = 2",
    ],
)  # fmt: skip
def test_an_impossible_key_is_refused_and_says_where(folder: Path, text: str) -> None:
    (folder / "hodios.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"hodios\.toml"):
        load({"HOME": "/"})


def test_a_file_that_cannot_be_read_is_told(folder: Path) -> None:
    (folder / "hodios.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read as TOML"):
        load({"HOME": "/"})
    with pytest.raises(ConfigError, match="HODIOS_CONFIG='/nowhere' is not a file"):
        load({"HOME": "/", "HODIOS_CONFIG": "/nowhere"})
    with pytest.raises(ConfigError, match="HODIOS_CONFIG='' is not a file"):
        load({"HOME": "/", "HODIOS_CONFIG": ""})


@pytest.mark.parametrize(
    ("text", "size"), [("8MiB", 8 * 2**20), ("1.5 KiB", 1536), ("2gb", 2 * 10**9), ("65_536", 65536)]
)
def test_sizes_may_have_units(folder: Path, text: str, size: int) -> None:
    if size <= 2**30:
        assert load({"HOME": "/", "HODIOS_MAX_BODY_BYTES": text}).max_body_bytes == size
    if size >= 2**20:
        assert load({"HOME": "/", "HODIOS_KV_CACHE_BYTES": text}).kv_cache_bytes == size


def test_an_empty_key_is_an_error_not_an_absent_one(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"admin_key = \(empty\) from the environment \(HODIOS_ADMIN_KEY\)"):
        load({"HOME": "/", "HODIOS_ADMIN_KEY": ""})


@pytest.mark.parametrize("key", ["topsecret key", "topsecret\n", "topsecrét"])
def test_an_unusable_key_is_not_shown(folder: Path, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"HOME": "/", "HODIOS_ADMIN_KEY": key})
    assert "topsec" not in str(caught.value)
    assert "(not shown)" in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "192.168.1.5", "server.example", "localhost.example"])
def test_other_addresses_need_a_strong_key(folder: Path, host: str) -> None:
    env = {"HOME": "/", "HODIOS_HOST": host}
    with pytest.raises(ConfigError, match=r"no admin key is set\. Set HODIOS_ADMIN_KEY"):
        load(env)
    with pytest.raises(ConfigError, match="the admin key has 7 characters, fewer than 24"):
        load(env | {"HODIOS_ADMIN_KEY": "sk-1234"})
    assert load(env | {"HODIOS_ADMIN_KEY": STRONG}).admin_key == STRONG


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST"])
def test_loopback_needs_none(folder: Path, host: str) -> None:
    assert is_loopback(host)
    assert load({"HOME": "/", "HODIOS_HOST": host, "HODIOS_ADMIN_KEY": "x"}).admin_key == "x"


@pytest.mark.parametrize("secret", ["topsecret", "changemechangemechangeme", "ab" * 32])
def test_a_weak_secret_of_keys_is_refused_wherever_the_server_listens(folder: Path, secret: str) -> None:
    with pytest.raises(ConfigError, match=r"keys_secret .*Set HODIOS_KEYS_SECRET") as caught:
        load({"HOME": "/", "HODIOS_KEYS_SECRET": secret})
    assert secret not in str(caught.value)


def test_a_secret_of_keys_reaches_replicas_and_no_engine(folder: Path) -> None:
    (folder / "hodios.toml").write_text(f"[store]\nkeys_secret = '{STRONG}'")
    settings = load({"HOME": "/"})
    assert settings.keys_secret == STRONG
    assert environment(settings, base={})["HODIOS_KEYS_SECRET"] == STRONG
    assert "HODIOS_KEYS_SECRET" not in environment(settings, base={"HODIOS_KEYS_SECRET": STRONG}, with_key=False)
    with pytest.raises(ConfigError, match=r"keys_secret = \(not shown\)"):
        load({"HOME": "/", "HODIOS_KEYS_SECRET": f"{STRONG} {STRONG}"})


def test_command_line_options_become_variables(folder: Path) -> None:
    env = with_overrides({"HOME": "/", "HODIOS_PORT": "1"}, port=2, models=["a/b", "c/d"], exact=True, threads=None)
    settings = load(env)
    assert (settings.port, settings.models, settings.exact, settings.threads) == (2, ("a/b", "c/d"), True, None)


def test_the_hub_is_named_by_its_own_variables() -> None:
    assert config.hub_endpoint({}) == ("https://huggingface.co", None)
    assert config.hub_endpoint({"HF_ENDPOINT": "https://mirror/", "HF_TOKEN": "t"}) == ("https://mirror", "t")


@given(st.dictionaries(st.sampled_from([s.variable for s in SETTINGS]), st.text(max_size=12), max_size=4))
def test_whatever_stands_in_the_environment_loads_or_is_told(env: dict[str, str]) -> None:
    with contextlib.suppress(ConfigError):
        load({"HOME": "/"} | env)


SECRETS = """
[server]
admin_key = "sk-0123456789abcdef0123456789"
[store]
url = "postgresql://ann:hidden@db.example/hodios"
keys_secret = "0123456789abcdef0123456789"
limits_url = "redis://cache.example:6379"
[[launch]]
name = "other"
command = ["x", "{port}"]
[launch.env]
OTHER_API_KEY = "k"
LANG = "C"
"""


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604])
def test_secrets_in_a_file_that_others_can_open_are_told(folder: Path, mode: int) -> None:
    path = folder / "hodios.toml"
    path.write_text(SECRETS)
    path.chmod(mode)
    env = {"HODIOS_CONFIG": str(path)}
    found = exposed_file(env)
    assert found is not None
    assert found.secrets == ("server.admin_key", "store.url", "store.keys_secret", "launch.env.OTHER_API_KEY")
    assert "hidden" not in found.sentence
    assert found.fix == f"Run: chmod 600 {path}"
    assert stat.S_IMODE(path.stat().st_mode) == mode, "it is not ours"
    path.chmod(0o600)
    assert exposed_file(env) is None


def test_what_is_no_secret_may_be_open(folder: Path) -> None:
    path = folder / "hodios.toml"
    path.write_text("[server]\nport = 1\n[store]\nlimits_url = 'redis://cache.example'\n")
    path.chmod(0o644)
    assert exposed_file({"HOME": "/"}) is None
    path.unlink()
    assert exposed_file({"HOME": "/"}) is None
