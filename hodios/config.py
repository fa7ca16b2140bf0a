"""Settings: the only reader of environment variables and `hodios.toml`. Refuses what it does not know."""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from hodios.admin_key import weakness_of
from hodios.errors import ConfigError

LOG_LEVELS = ("debug", "info", "warning", "error")
_BYTE_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class Config(Struct, frozen=True, kw_only=True):
    """All settings, checked. `load` builds it; what each field means stands in `SETTINGS`."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 8000
    admin_key: str | None = None
    cors_origins: tuple[str, ...] = ()
    metrics_public: bool = False
    max_body_bytes: int = 8 * 2**20
    max_choices: int = 128
    first_event_timeout_s: float = 15.0
    log_level: str = "info"
    models: tuple[str, ...] = ()
    threads: int | None = None
    exact: bool = False
    kv_cache_bytes: int | None = None
    max_sequences: int = 64
    max_batch_tokens: int = 512
    max_queue: int = 256
    context_length: int | None = None
    speculation: bool = True


class Setting(Struct, frozen=True):
    """One setting: where it stands in `hodios.toml`, how its value is read, and what is accepted."""

    section: str
    name: str
    parse: Callable[[object], Any]
    """Raises ValueError for anything but what `accepts` says. Gets a string (environment) or TOML's own type."""
    accepts: str
    meaning: str
    is_secret: bool = False

    @property
    def key(self) -> str:
        return f"{self.section}.{self.name}" if self.section else self.name

    @property
    def variable(self) -> str:
        return f"HODIOS_{self.name.upper()}"


def _integer(least: int, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, str):
            value = int(value.replace("_", ""))
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError
        return value

    return parse


def _bytes(least: int, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, str):
            digits = value.strip().rstrip("abgikmABGIKM ")
            unit = value.strip()[len(digits) :].strip().lower()
            if unit not in _BYTE_UNITS:
                raise ValueError
            value = int(float(digits) * _BYTE_UNITS[unit])
        return _integer(least, most)(value)

    return parse


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError
    seconds = float(value)
    if not 0.0 < seconds <= 3600.0:
        raise ValueError
    return seconds


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _BOOLEANS:
        return _BOOLEANS[value.strip().lower()]
    raise ValueError


def _strings(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not all(isinstance(part, str) and part for part in value):
        raise ValueError
    return tuple(value)


def _origins(value: object) -> tuple[str, ...]:
    origins = _strings(value)
    for origin in origins:
        scheme, _, host = origin.partition("://")
        if origin != "*" and (scheme not in ("http", "https") or not host or any(c in host for c in "/?# @")):
            raise ValueError
    return origins


def _host(value: object) -> str:
    if not isinstance(value, str) or not value or any(c.isspace() or c in "/@" for c in value):
        raise ValueError
    return value.removeprefix("[").removesuffix("]")


def _key(value: object) -> str:
    if not isinstance(value, str) or not value or not all("!" <= c <= "~" for c in value):
        raise ValueError
    return value


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError
    return Path(os.path.abspath(os.path.expanduser(value)))


def _level(value: object) -> str:
    if not isinstance(value, str) or value.lower() not in LOG_LEVELS:
        raise ValueError
    return value.lower()


SETTINGS: tuple[Setting, ...] = (
    Setting("", "home", _path, "a folder", "Where models, caches and the admin key are kept."),
    Setting(
        "server",
        "host",
        _host,
        "an address or host name",
        "The address to listen on. Anything but loopback needs an explicit, strong `admin_key`.",
    ),
    Setting("server", "port", _integer(0, 65535), "an integer 0–65535", "The port to listen on; 0 takes any free one."),
    Setting(
        "server",
        "admin_key",
        _key,
        "printable ASCII without spaces, not empty",
        "The key that clients send as `Authorization: Bearer …`. Generated at first start where absent.",
        is_secret=True,
    ),
    Setting(
        "server",
        "cors_origins",
        _origins,
        "origins like https://example.org (environment: separated by commas), or *",
        "Web origins besides loopback whose pages may call the API.",
    ),
    Setting("server", "metrics_public", _boolean, "true or false", "Let anyone read `/metrics`, without a key."),
    Setting(
        "server",
        "max_body_bytes",
        _bytes(1024, 2**30),
        "bytes, 1 KiB – 1 GiB (units allowed: 8MiB)",
        "The largest request body that is read.",
    ),
    Setting(
        "server", "max_choices", _integer(1, 128), "an integer 1–128", "The largest `n` and `best_of` of a request."
    ),
    Setting(
        "server",
        "first_event_timeout_s",
        _seconds,
        "seconds above 0, at most 3600",
        "How long response headers wait for the first token.",
    ),
    Setting("server", "log_level", _level, "debug, info, warning or error", "How much the server tells."),
    Setting(
        "engine",
        "models",
        _strings,
        "model ids (environment: separated by commas)",
        "Which installed models to serve; empty serves all of them.",
    ),
    Setting(
        "engine",
        "threads",
        _integer(1, 1024),
        "an integer 1–1024",
        "Threads per model; absent: the physical cores this process may use.",
    ),
    Setting(
        "engine",
        "exact",
        _boolean,
        "true or false",
        "Hold weights exactly as the file has them, rather than in the fastest measured form.",
    ),
    Setting(
        "engine",
        "kv_cache_bytes",
        _bytes(2**20, 2**50),
        "bytes, at least 1 MiB (units allowed: 2GiB)",
        "Memory per model for keys and values; absent: chosen from what is free.",
    ),
    Setting(
        "engine",
        "max_sequences",
        _integer(1, 4096),
        "an integer 1–4096",
        "Answers generated at the same time, per model.",
    ),
    Setting(
        "engine",
        "max_batch_tokens",
        _integer(16, 65536),
        "an integer 16–65536",
        "Tokens that one engine step computes at most.",
    ),
    Setting(
        "engine",
        "max_queue",
        _integer(1, 1_000_000),
        "an integer 1–1000000",
        "Requests that wait per model before new ones get 503.",
    ),
    Setting(
        "engine",
        "context_length",
        _integer(32, 100_000_000),
        "an integer of at least 32",
        "The longest prompt and answer together; absent: the model's own limit.",
    ),
    Setting(
        "engine", "speculation", _boolean, "true or false", "Guess tokens from the prompt and verify several at once."
    ),
)


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
    _check_exposure(config)
    return config


def environment(config: Config, *, base: Mapping[str, str] = os.environ, with_key: bool = True) -> dict[str, str]:
    """For a child process: `base` with every setting as HODIOS_*, so that the child loads this same Config."""
    result = {name: value for name, value in base.items() if name not in ("HODIOS_CONFIG", "HODIOS_ADMIN_KEY")}
    for setting in SETTINGS:
        value = getattr(config, setting.name)
        if value is None or (setting.is_secret and not with_key):
            continue
        result[setting.variable] = ",".join(value) if isinstance(value, tuple) else str(value)
    return result


def with_overrides(env: Mapping[str, str] = os.environ, **settings: object) -> dict[str, str]:
    """`env` with settings that were given on the command line; None stands for not given."""
    known = {setting.name: setting.variable for setting in SETTINGS}
    given = {known[name]: value for name, value in settings.items() if value is not None}
    return dict(env) | {k: ",".join(v) if isinstance(v, list | tuple) else str(v) for k, v in given.items()}


def inherited_environment(base: Mapping[str, str] = os.environ, **changes: str) -> dict[str, str]:
    """This process's environment with `changes`, for a foreign child process."""
    return dict(base) | changes


def hub_endpoint(env: Mapping[str, str] = os.environ) -> tuple[str, str | None]:
    """Where models are pulled from and with which token, by the hub's own variables HF_ENDPOINT and HF_TOKEN."""
    return env.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co", env.get("HF_TOKEN") or None


def is_loopback(host: str) -> bool:
    """Whether `host` is reachable from this machine only. Names other than localhost are not trusted to be."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _default_home(env: Mapping[str, str]) -> Path:
    data = env.get("XDG_DATA_HOME", "")
    if data.startswith("/"):
        return Path(data) / "hodios"
    return _path(env.get("HOME") or "~") / ".local" / "share" / "hodios"


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


def _from_file(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}. Mend that line, or remove the file.") from error
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


def _check_exposure(config: Config) -> None:
    if is_loopback(config.host):
        return
    fix = (
        "Set HODIOS_ADMIN_KEY to a random key, for example from: "
        'python3 -c "import secrets; print(secrets.token_urlsafe(32))" — or listen on 127.0.0.1.'
    )
    if config.admin_key is None:
        raise ConfigError(f"host = {config.host!r} is reachable from other machines, and no admin key is set. {fix}")
    weakness = weakness_of(config.admin_key)
    if weakness:
        raise ConfigError(
            f"host = {config.host!r} is reachable from other machines, and the admin key {weakness}. {fix}"
        )
