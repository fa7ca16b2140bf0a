"""Settings: the only reader of environment variables and `hodios.toml`. Refuses what it does not know."""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from hodios import guard_settings, launches, router_settings, store_settings
from hodios import setting_values as kinds
from hodios.admin_key import check_exposed, check_keys_secret
from hodios.errors import ConfigError
from hodios.remotes import ProviderSettings, Remote
from hodios.setting_values import Setting
from hodios.settings import SETTINGS

KEY_ENDINGS = ("_KEY", "_TOKEN")
"""Of variables that hold keys of providers."""


class Config(Struct, frozen=True, kw_only=True):
    """All settings, checked. `load` builds it; what each field means stands in `settings.SETTINGS`."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 8000
    admin_key: str | None = None
    cors_origins: tuple[str, ...] = ()
    workers: int = 1
    metrics_public: bool = False
    status_public: bool = False
    max_body_bytes: int = 8 * 2**20
    max_choices: int = 128
    first_event_timeout_s: float = 15.0
    max_connections: int = 4096
    client_timeout_s: float = 30.0
    keep_alive_s: float = 75.0
    log_level: str = "info"
    models: tuple[str, ...] = ()
    families: tuple[tuple[str, str], ...] = ()
    threads: int | None = None
    exact: bool = False
    kv_cache_bytes: int | None = None
    max_sequences: int = 64
    max_batch_tokens: int = 512
    max_queue: int = 256
    context_length: int | None = None
    speculation: bool = True
    sync_interval_s: float = 900.0
    remote: tuple[Remote, ...] = ()
    providers: tuple[ProviderSettings, ...] = ()
    router: router_settings.RouterSettings | None = None
    guard: guard_settings.GuardSettings | None = None
    launch: tuple[launches.Launch, ...] = ()
    store_url: str | None = None
    limits_url: str | None = None
    keys_secret: str | None = None
    keep_contents_days: int = 30
    keep_requests_days: int | None = None
    keep_attempts_days: int | None = None
    keep_sums_days: int | None = None
    keep_accounts_days: int | None = None


def load(env: Mapping[str, str] = os.environ, file: Path | None = None) -> Config:
    """Settings from a file and from HODIOS_* variables, which win over it.

    The file is `file`, else `HODIOS_CONFIG`, else ./hodios.toml, else HODIOS_HOME/hodios.toml, else none.
    Raises ConfigError, which names the setting, its value and where it came from.
    """
    values = _from_environment(env)
    home = values.get("home") or _default_home(env)
    path = file or _find_file(env, home)
    if path is not None:
        values = _from_file(path) | values
    values.setdefault("home", home)
    config = Config(**values)
    if not kinds.is_loopback(config.host):
        check_exposed(config.host, config.admin_key)
    check_keys_secret(config.keys_secret)
    store_settings.check_workers(config.workers, config.store_url, config.limits_url)
    launches.check_names(config.launch, config.remote)
    launches.check_circle(config.launch, env.get(launches.LAUNCHED_AS))
    return config


def environment(config: Config, *, base: Mapping[str, str] = os.environ, with_key: bool = True) -> dict[str, str]:
    """For a child process: `base` with every setting as HODIOS_*, so that the child loads this same Config.

    Without `with_key` it gets no secrets: neither the admin key nor what the store is reached with nor keys of other
    servers.
    """
    left_out = {"HODIOS_CONFIG"} | {setting.variable for setting in SETTINGS if setting.is_secret}
    left_out |= set() if with_key else _secrets(config, base)
    result = {name: value for name, value in base.items() if name not in left_out}
    for setting in SETTINGS:
        value = getattr(config, setting.name)
        if value is None or (setting.is_secret and not with_key):
            continue
        result[setting.variable] = setting.write(value)
    return result


def foreign_environment(
    config: Config, kept: Collection[str], changes: Mapping[str, str], base: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """For a program of others: `base` with `changes`, without settings, and of keys and tokens only those `kept`."""
    left_out = _secrets(config, base) - set(kept)
    inherited = {name: value for name, value in base.items() if name not in left_out and not name.startswith("HODIOS_")}
    return inherited | dict(changes)


def _secrets(config: Config, base: Mapping[str, str]) -> set[str]:
    """Names of the variables that hold keys, or look as if they did."""
    servers: tuple[Remote | ProviderSettings | launches.Launch, ...] = (
        *config.remote,
        *config.providers,
        *config.launch,
    )
    return {server.api_key_env for server in servers if server.api_key_env} | {
        name for name in base if name.endswith(KEY_ENDINGS)
    }


def with_overrides(env: Mapping[str, str] = os.environ, **settings: object) -> dict[str, str]:
    """`env` with settings that were given on the command line; None stands for not given."""
    known = {setting.name: setting for setting in SETTINGS}
    given = {name: value for name, value in settings.items() if value is not None}
    return dict(env) | {known[name].variable: known[name].write(value) for name, value in given.items()}


def remote_keys(config: Config, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The keys of remote servers by their names. Raises ConfigError for a variable that has none."""
    keys: dict[str, str] = {}
    for remote in config.remote:
        if remote.api_key_env is None:
            continue
        key = key_in(remote.api_key_env, env)
        if key is None:
            raise ConfigError(
                f"remote.{remote.name}: the variable {remote.api_key_env} holds no key. "
                "Set it to printable ASCII without spaces, or remove api_key_env."
            )
        keys[remote.name] = key
    return keys


def key_in(variable: str, env: Mapping[str, str] = os.environ) -> str | None:
    """What a variable holds; None where that is nothing, or no key."""
    try:
        return kinds.key(env.get(variable))
    except ValueError:
        return None


def inherited_environment(base: Mapping[str, str] = os.environ, **changes: str) -> dict[str, str]:
    """This process's environment with `changes`, for a foreign child process."""
    return dict(base) | changes


def hub_endpoint(env: Mapping[str, str] = os.environ) -> tuple[str, str | None]:
    """Where models are pulled from and with which token, by the hub's own variables HF_ENDPOINT and HF_TOKEN."""
    return env.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co", env.get("HF_TOKEN") or None


class Exposed(Struct, frozen=True):
    """A file that others than its owner can open."""

    path: Path
    secrets: tuple[str, ...]
    """The settings in it that nobody else should know."""

    @property
    def sentence(self) -> str:
        return f"{self.path} is open to others than its owner, and holds {', '.join(self.secrets)}"

    @property
    def fix(self) -> str:
        return f"Run: chmod 600 {self.path}"


def exposed_file(env: Mapping[str, str] = os.environ) -> Exposed | None:
    """The file of the settings that `load` reads, where it holds secrets for everybody's eyes; None where it does not.

    It is not ours to change: whoever put it there may have meant a group to read it.
    """
    path = _find_file(env, _from_environment(env).get("home") or _default_home(env))
    if path is None or not stat.S_IMODE(path.stat().st_mode) & 0o077:
        return None
    secrets = tuple(_secrets_in(_document(path)))
    return Exposed(path, secrets) if secrets else None


def _secrets_in(document: Mapping[str, Any]) -> Iterator[str]:
    for setting in SETTINGS:
        section = document.get(setting.section, {}) if setting.section else document
        value = section.get(setting.option or setting.name)
        # An address without a password is none.
        if setting.is_secret and value and ("://" not in value or urlsplit(value).password):
            yield setting.key
    for launch in document.get("launch", ()):
        yield from (f"launch.env.{name}" for name in launch.get("env", ()) if name.endswith(KEY_ENDINGS))


def _default_home(env: Mapping[str, str]) -> Path:
    data = env.get("XDG_DATA_HOME", "")
    if data.startswith("/"):
        return Path(data) / "hodios"
    return kinds.path(env.get("HOME") or "~") / ".local" / "share" / "hodios"


def _find_file(env: Mapping[str, str], home: Path) -> Path | None:
    named = env.get("HODIOS_CONFIG")
    if named is not None:
        path = Path(os.path.expanduser(named))
        if not path.is_file():
            raise ConfigError(
                f"HODIOS_CONFIG={named!r} is not a file. Name an existing hodios.toml, or unset the variable."
            )
        return path
    return next((path for path in (Path("hodios.toml"), home / "hodios.toml") if path.is_file()), None)


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    known = {setting.variable: setting for setting in SETTINGS}
    values: dict[str, Any] = {}
    for name, value in env.items():
        if not name.startswith("HODIOS_") or name == "HODIOS_CONFIG":
            continue
        if name not in known:
            raise ConfigError(f"Unknown setting {name} in the environment. {_nearest(name, [*known, 'HODIOS_CONFIG'])}")
        values[known[name].name] = _read(known[name], value, f"the environment ({name})")
    return values


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}. Mend that line, or remove the file.") from error


def _from_file(path: Path) -> dict[str, Any]:
    document = _document(path)
    known = {setting.key: setting for setting in SETTINGS}
    sections = {setting.section for setting in SETTINGS} - {""}
    values: dict[str, Any] = {}
    for key, value in document.items():
        entries = {key: value}
        if key in sections:
            if not isinstance(value, dict):
                raise ConfigError(
                    f"{path}: {key} = {value!r} must be a section: write [{key}] and its settings below it."
                )
            entries = {f"{key}.{name}": entry for name, entry in value.items()}
        for full, entry in entries.items():
            if full not in known:
                raise ConfigError(f"Unknown setting {full} in {path}. {_nearest(full, [*known, *sections])}")
            values[known[full].name] = _read(known[full], entry, f"{path}, key {full}")
    return values


def _read(setting: Setting, value: object, origin: str) -> Any:
    try:
        return setting.parse(value)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error
    except (ValueError, OverflowError) as error:
        shown = "(not shown)" if setting.is_secret else repr(value)
        if setting.is_secret and value == "":
            shown = "(empty)"
        raise ConfigError(
            f"{setting.name} = {shown} from {origin} is not accepted: it must be {setting.accepts}."
        ) from error


def _nearest(name: str, known: list[str]) -> str:
    """By the whole name, or by the part after the section, so that a key in the wrong section is found too."""
    last = name.rpartition(".")[2]
    same = [key for key in known if key.rpartition(".")[2] == last]
    return f"Did you mean {(same or difflib.get_close_matches(name, known, n=1, cutoff=0.0))[0]}?"
