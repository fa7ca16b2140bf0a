"""Servers that Hodios starts itself, as the settings name them: a section `[[launch]]` for each, with its command.

Refuses what it does not know, and names the nearest valid key. Starts nothing.
"""

from __future__ import annotations

import shlex
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct, structs

from hodios.errors import ConfigError
from hodios.remotes import (
    RESERVED_NAMES,
    Dialect,
    Remote,
    RemoteFeature,
    RemoteModel,
    check_address,
    check_models,
    model_table,
    read_section,
)

PORT = "{port}"
"""In a command, in `env` and in `base_url`: the server's port."""
PYTHON = "{python}"
"""In a command: the interpreter that runs Hodios."""
LAUNCHED_AS = "LAUNCHED_BY_HODIOS_AS"
"""The variable that tells a server its own name."""

_Text = Annotated[str, Meta(min_length=1)]
_Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_.-]*$")]
_Variable = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
_Path = Annotated[str, Meta(pattern="^/")]
_Seconds = Annotated[float, Meta(gt=0, le=86400)]
_Pause = Annotated[float, Meta(gt=0, le=3600)]
_Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
_Port = Annotated[int, Meta(ge=1, le=65535)]


class Launch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One command that serves models over OpenAI's protocol. None: as the catalog says of servers of its kind."""

    name: _Name
    """Under which it is a provider; its log is `HODIOS_HOME/logs/NAME.log`."""
    command: Annotated[tuple[_Text, ...], Meta(min_length=1)]
    kind: _Name = "openai_compatible"
    """The provider of the catalog that it is like: `vllm`, `sglang`, `llama_server` …"""
    env: dict[_Variable, str] = {}
    """Variables that it gets beside those of Hodios, which are handed on without settings, keys and tokens."""
    pass_env: tuple[_Variable, ...] = ()
    """Names of variables that it gets although they look like keys: `HF_TOKEN`."""
    cwd: str = ""
    """The folder it runs in; "": that of Hodios."""
    port: _Port | None = None
    """None: any free one."""
    base_url: str = ""
    """With the version and without the route; "": `http://127.0.0.1:{port}/v1`."""
    api_key_env: _Variable | None = None
    """The variable that has the key which it expects; it is handed on."""
    ready: _Path | None = None
    """The route that answers 200 once it can serve; None: `/health`, and where there is none the models route."""
    start_timeout_s: _Seconds = 900.0
    """How long it may take to become ready; then it is started anew."""
    stop_timeout_s: Annotated[float, Meta(gt=0, le=25)] = 10.0
    """How long it may take to end when it is asked to; then it is killed. Less than the parent waits itself."""
    dialect: Dialect | None = None
    features: tuple[RemoteFeature, ...] | None = None
    """What it honours natively, for models whose row has none of its own."""
    parameters: tuple[_Text, ...] | None = None
    first_byte_timeout_s: _Pause | None = None
    silence_timeout_s: _Pause | None = None
    context_length: _Count | None = None
    """Of listed models whose server does not tell theirs."""
    models: tuple[RemoteModel, ...] = ()
    """As in `[remote.NAME]`; none: all that it lists."""


def parse(value: object) -> tuple[Launch, ...]:
    """The array of tables `[[launch]]`, or that array as JSON text. Raises ConfigError."""
    try:
        entries = msgspec.json.decode(value) if isinstance(value, str) else value
    except msgspec.DecodeError as error:
        raise ConfigError(f"launch is not JSON: {error}.") from None
    if not isinstance(entries, list):
        raise ConfigError("launch must be an array of sections: write [[launch]] and its settings below it.")
    launches = tuple(_launch(f"launch[{place}]", entry) for place, entry in enumerate(entries))
    names = [launch.name for launch in launches]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ConfigError(f"launch[{place}]: the name {name!r} is there twice. Rename one of them.")
    return launches


def write(launches: tuple[Launch, ...]) -> str:
    """As JSON that `parse` reads."""
    return msgspec.json.encode([_table(launch) for launch in launches]).decode()


def check_names(launches: tuple[Launch, ...], remotes: tuple[Remote, ...]) -> None:
    """Raises ConfigError where a server of others has the name of one that is to be started."""
    taken = {remote.name for remote in remotes}
    for place, launch in enumerate(launches):
        if launch.name in taken:
            raise ConfigError(
                f"launch[{place}]: there is a section [remote.{launch.name}] too. Rename one of them; a server "
                "that Hodios starts needs no [remote] section."
            )


def check_circle(launches: tuple[Launch, ...], own_name: str | None) -> None:
    """Raises ConfigError where a Hodios that another one has started would start itself once more, without end, because
    it reads the same settings. `own_name`: what LAUNCHED_AS holds."""
    if any(launch.name == own_name for launch in launches):
        raise ConfigError(
            f"launch {own_name}: this Hodios was itself started as {own_name}, and would start itself without end. "
            "If it reads the hodios.toml of the one that started it, give that section a cwd without one, and a "
            "HODIOS_HOME of its own in env; else rename its own section."
        )


def placed(launch: Launch, port: int, python: str) -> Launch:
    """With `port` as its port, which `base_url` and `command` then name, and `python` as the interpreter."""
    port = launch.port or port

    def filled(text: str) -> str:
        return text.replace(PORT, str(port))

    return structs.replace(
        launch,
        command=tuple(filled(word).replace(PYTHON, python) for word in launch.command),
        env={name: filled(value) for name, value in launch.env.items()},
        port=port,
        base_url=filled(launch.base_url or f"http://127.0.0.1:{PORT}/v1"),
    )


def ready_urls(launch: Launch) -> tuple[str, ...]:
    """Of a placed launch: what to ask whether it is ready; the second only where the first does not exist."""
    parts = urlsplit(launch.base_url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if launch.ready is not None:
        return (origin + launch.ready,)
    return (f"{origin}/health", f"{launch.base_url.rstrip('/')}/models")


def _launch(path: str, entry: Any) -> Launch:
    if isinstance(entry, dict) and isinstance(entry.get("command"), str):
        try:
            entry = {**entry, "command": shlex.split(entry["command"])}
        except ValueError as error:
            raise ConfigError(f"{path}.command is not accepted: {error}. Write it as a list of words.") from None
    launch = read_section(path, entry, Launch, RemoteModel)
    if launch.name in RESERVED_NAMES:
        raise ConfigError(f"{path}: {launch.name} is the name of a provider of Hodios itself. Choose another one.")
    words = (*launch.command, *launch.env.values())
    is_free = launch.port is None and (not launch.base_url or PORT in launch.base_url)
    if is_free and not any(PORT in word for word in words):
        raise ConfigError(
            f"{path}: nothing tells the server on which port to listen. Write {PORT} in the command where it takes a "
            "port, or set port (or base_url) to the one that it has."
        )
    check_address(path, launch.api_key_env, launch.base_url.replace(PORT, "1") or None)
    check_models(path, launch.models)
    return launch


def _table(launch: Launch) -> dict[str, Any]:
    table: dict[str, Any] = msgspec.to_builtins(launch)
    if launch.models:
        table["models"] = [model_table(model) for model in launch.models]
    return table
