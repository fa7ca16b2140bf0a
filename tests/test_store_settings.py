"""URLs of databases: what is accepted, what is not, and what people are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from hodios import config
from hodios.errors import ConfigError
from hodios.store_settings import default_url, limits_url, shown, url

ACCEPTED = [
    "sqlite:////var/lib/hodios.db",
    "sqlite:///relative.db",
    "postgresql://hodios:secret@db.example.org:5432/hodios?sslmode=require",
    "postgres://one,two:5433/hodios",
    "postgresql:///hodios?host=/run/postgresql",
]
REFUSED = ["", "hodios.db", "sqlite://", "sqlite:///", "sqlite://host/x.db", "sqlite:///x.db?mode=ro", "mysql://h/d",
           "postgresql://host", "postgresql://host/", "postgresql://host/a b", 5, None, True]  # fmt: skip


@pytest.mark.parametrize("value", ACCEPTED)
def test_urls_of_both_databases_are_accepted(value: str) -> None:
    assert url(value) == value
    assert config.load({"HODIOS_STORE_URL": value}).store_url == value


@pytest.mark.parametrize("value", REFUSED)
def test_everything_else_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        url(value)


@pytest.mark.parametrize(
    "value",
    ["redis://127.0.0.1", "redis://:secret@cache.example:6380/2", "rediss://ann:secret@cache.example/0",
     "redis://[::1]:6379", "rediss://h?ssl_ca_certs=/etc/ca.pem", "unix:///run/redis.sock?db=1",
     "unix://:secret@/run/redis.sock"],
)  # fmt: skip
def test_urls_of_redis_are_accepted(value: str) -> None:
    assert limits_url(value) == value
    loaded = config.load({"HODIOS_LIMITS_URL": value})
    assert loaded.limits_url == value
    assert "HODIOS_LIMITS_URL" not in config.environment(loaded, base={}, with_key=False)


@pytest.mark.parametrize(
    "value",
    ["", "127.0.0.1:6379", "http://h", "redis://", "redis:///0", "redis://h/one", "redis://h:0", "redis://h:port",
     "redis://h:65536", "redis://h/0#x", "redis://h/0/1", "unix://", "unix:///", "redis://h/ 0", 6379, None],
)  # fmt: skip
def test_everything_else_counts_no_limits(value: object) -> None:
    with pytest.raises(ValueError, match=r"^$|[Pp]ort"):
        limits_url(value)


def test_a_refused_url_of_redis_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"limits_url = \(not shown\)") as refused:
        config.load({"HODIOS_LIMITS_URL": "redis://:hunter2@host:port", "HODIOS_HOME": str(tmp_path)})
    assert "hunter2" not in str(refused.value)


def test_a_refused_url_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"store_url = \(not shown\)") as refused:
        config.load({"HODIOS_STORE_URL": "mysql://ann:hunter2@host/db", "HODIOS_HOME": str(tmp_path)})
    assert "hunter2" not in str(refused.value)


def test_engines_do_not_get_the_password() -> None:
    loaded = config.load({"HODIOS_STORE_URL": ACCEPTED[2]})
    assert "HODIOS_STORE_URL" in config.environment(loaded, base={})
    assert "HODIOS_STORE_URL" not in config.environment(loaded, base={}, with_key=False)
    assert "HODIOS_STORE_URL" not in config.environment(loaded, base={"HODIOS_STORE_URL": ACCEPTED[2]}, with_key=False)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "needs a PostgreSQL database, because SQLite serves one process"),
        ({"HODIOS_LIMITS_URL": "redis://h"}, "Set HODIOS_STORE_URL=postgresql://"),
        ({"HODIOS_STORE_URL": ACCEPTED[0], "HODIOS_LIMITS_URL": "redis://h"}, "because SQLite serves one process"),
        ({"HODIOS_STORE_URL": ACCEPTED[2]}, "needs a Valkey or Redis.*Set HODIOS_LIMITS_URL=redis://HOST:6379"),
    ],
)
def test_several_processes_need_what_they_share(settings: dict[str, str], told: str) -> None:
    assert config.load(settings).workers == 1
    with pytest.raises(ConfigError, match=f"workers = 4 .*{told}.*or workers to 1"):
        config.load(settings | {"HODIOS_WORKERS": "4"})


def test_several_processes_have_what_they_share() -> None:
    settings = {"HODIOS_STORE_URL": ACCEPTED[3], "HODIOS_LIMITS_URL": "redis://h", "HODIOS_WORKERS": "4"}
    assert config.load(settings).workers == 4


def test_passwords_are_not_shown() -> None:
    assert shown(ACCEPTED[2]) == "postgresql://hodios@db.example.org:5432/hodios"
    assert shown("postgresql://h/d?user=ann&password=secret") == "postgresql://h/d"
    assert shown(ACCEPTED[0]) == ACCEPTED[0]


def test_the_default_is_a_file_at_home() -> None:
    assert default_url(Path("/a b")) == "sqlite:////a%20b/hodios.db"
    assert url(default_url(Path("/a b")))
