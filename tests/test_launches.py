"""Sections of servers to start: what is read, what is refused, and where they are placed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hodios import launches
from hodios.config import Config, environment, foreign_environment, load
from hodios.errors import ConfigError
from hodios.launches import LAUNCHED_AS, Launch, placed, ready_urls

VLLM = """
[[launch]]
name = "big"
kind = "vllm"
command = "vllm serve org/model --port {port} --override '{\\"a\\": 1}'"
env = { VLLM_LOGGING_LEVEL = "WARNING" }
pass_env = ["HF_TOKEN"]

[[launch.models]]
id = "org/model"
context_length = 4096
price = { prompt = "0.1", completion = "0.2" }
"""


def read(text: str) -> tuple[Launch, ...]:
    return launches.parse(tomllib.loads(text)["launch"])


def test_a_section_is_read() -> None:
    (big,) = read(VLLM)
    assert big.command == ("vllm", "serve", "org/model", "--port", "{port}", "--override", '{"a": 1}')
    assert (big.name, big.kind, big.env, big.pass_env) == (
        "big",
        "vllm",
        {"VLLM_LOGGING_LEVEL": "WARNING"},
        ("HF_TOKEN",),
    )
    assert big.models[0].price.completion == 200_000_000


def test_what_is_written_is_read_again() -> None:
    given = read(VLLM + '[[launch]]\nname = "b"\ncommand = ["x"]\nport = 7\nready = "/up"\nfeatures = []\n')
    assert launches.parse(launches.write(given)) == given
    assert given[1].features == ()


def test_settings_have_launches_and_children_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hodios.toml").write_text(VLLM)
    settings = load({"HOME": "/"})
    assert [launch.name for launch in settings.launch] == ["big"]
    assert load(environment(settings, base={"HOME": "/"})) == settings


def test_a_port_and_an_interpreter_are_filled_in_and_nothing_else() -> None:
    (launch,) = read("""
        [[launch]]
        name = "x"
        command = ["{python}", "-m", "x", "--listen=127.0.0.1:{port}", "{other} {}"]
        env = { PORT = "{port}" }
    """)
    there = placed(launch, 4321, "/bin/py")
    assert there.command == ("/bin/py", "-m", "x", "--listen=127.0.0.1:4321", "{other} {}")
    assert (there.env, there.base_url, there.port) == ({"PORT": "4321"}, "http://127.0.0.1:4321/v1", 4321)
    assert placed(there, 9, "/bin/py") == there


@pytest.mark.parametrize(
    ("more", "urls"),
    [
        ("", ("http://127.0.0.1:5/health", "http://127.0.0.1:5/v1/models")),
        ('ready = "/up?x=1"', ("http://127.0.0.1:5/up?x=1",)),
        ('base_url = "http://[::1]:{port}/api/v3/"', ("http://[::1]:5/health", "http://[::1]:5/api/v3/models")),
        ('base_url = "http://127.0.0.1:99"', ("http://127.0.0.1:99/health", "http://127.0.0.1:99/models")),
    ],
)
def test_where_to_ask_whether_it_is_ready(more: str, urls: tuple[str, ...]) -> None:
    (launch,) = read(f'[[launch]]\nname = "x"\ncommand = "x {{port}}"\n{more}')
    assert ready_urls(placed(launch, 5, "")) == urls


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("command", "comand", "Unknown setting launch[0].comand. Did you mean launch[0].command?"),
        ("pass_env", "passenv", "Unknown setting launch[0].passenv. Did you mean launch[0].pass_env?"),
        ("context_length", "context", "launch[0].models[0].context. Did you mean launch[0].models[0].context_length?"),
        ('"big"', '"Big one"', "launch[0].name is not accepted"),
        ('"big"', '"local"', "local is the name of a provider of Hodios itself"),
        ("{port}", "8000", "nothing tells the server on which port to listen"),
        ("serve org", "'serve org", "launch[0].command is not accepted: No closing quotation"),
        ('kind = "vllm"', "kind = 7", "launch[0].kind is not accepted: expected `str`, got `int`"),
        ('kind = "vllm"', "start_timeout_s = 0", "launch[0].start_timeout_s is not accepted"),
        ('kind = "vllm"', "stop_timeout_s = 60", "launch[0].stop_timeout_s is not accepted"),
        ('kind = "vllm"', "port = 70000", "launch[0].port is not accepted"),
        ('kind = "vllm"', 'ready = "up"', "launch[0].ready is not accepted"),
        ('kind = "vllm"', 'base_url = "nowhere"', "base_url = 'nowhere' is not accepted"),
        ('kind = "vllm"', 'base_url = "http://u:p@h"', "launch[0].base_url (not shown) is not accepted"),
        (
            'kind = "vllm"',
            'api_key_env = "HODIOS_ADMIN_KEY"',
            "variables that begin with HODIOS_ are settings of Hodios",
        ),
        ('"WARNING" }', "7 }", "launch[0].env[...] is not accepted: expected `str`, got `int`"),
        ("[[launch]]", '[[launch]]\nname="big"\ncommand="y {port}"\n[[launch]]', "the name 'big' is there twice"),
        ("[[launch.models]]", "[launch.models]", "launch[0].models is not accepted: expected `array`"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, told: str) -> None:
    assert old in VLLM
    with pytest.raises(ConfigError) as caught:
        read(VLLM.replace(old, new))
    assert told in str(caught.value)


@pytest.mark.parametrize("value", ["{", "{}", 7, {"name": "x"}, ["x"], [[]]])
def test_what_is_no_array_of_sections_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"launch"):
        launches.parse(value)


def test_an_empty_command_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"launch\[0\]\.command is not accepted"):
        read('[[launch]]\nname = "x"\ncommand = ""\nport = 1')


def test_a_remote_by_the_same_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    remote = '[remote.big]\nbase_url = "http://h"\n[[remote.big.models]]\nid = "m"\ncontext_length = 1\n'
    (tmp_path / "hodios.toml").write_text(VLLM + remote)
    with pytest.raises(ConfigError, match=r"there is a section \[remote\.big\] too"):
        load({"HOME": "/"})


def test_a_program_of_others_gets_no_settings_and_only_the_keys_that_are_its_own(tmp_path: Path) -> None:
    (launch,) = read('[[launch]]\nname = "x"\ncommand = "x {port}"\napi_key_env = "MINE"')
    base = {
        "PATH": "/bin",
        "HODIOS_ADMIN_KEY": "k",
        "HODIOS_PORT": "1",
        "OPENAI_API_KEY": "o",
        "HF_TOKEN": "h",
        "MINE": "m",
    }
    config = Config(home=tmp_path, launch=(launch,))
    assert foreign_environment(config, (), {}, base) == {"PATH": "/bin"}
    assert foreign_environment(config, ("HF_TOKEN", "MINE"), {"PATH": "/x", "A": "b"}, base) == {
        **{"PATH": "/x", "A": "b"},
        **{"HF_TOKEN": "h", "MINE": "m"},
    }


def test_a_hodios_that_would_start_itself_without_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hodios.toml").write_text(VLLM)
    assert load({"HOME": "/", LAUNCHED_AS: "other"}).launch
    with pytest.raises(ConfigError, match="launch big: this Hodios was itself started as big"):
        load({"HOME": "/", LAUNCHED_AS: "big"})
