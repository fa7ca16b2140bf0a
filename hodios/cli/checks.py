"""What `hodios doctor` looks at, one function per subject."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import re
import shutil
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from hodios import __version__, machine
from hodios.cli.console import gigabytes, known_key, server_url
from hodios.config import Config, exposed_file, load
from hodios.engine.memory import RUNTIME_BYTES, WEIGHTS_FACTOR
from hodios.errors import DownloadFailed, SetupError
from hodios.launches import PYTHON
from hodios.providers.catalog_store import CatalogStore
from hodios.providers.client import Client
from hodios.providers.discovery import Found, discover, settings_of
from hodios.providers.installed import installed
from hodios.providers.launched import kind_row
from hodios.providers.prepare import prepare
from hodios.providers.starter import starter_path, verify_starter
from hodios.setting_values import is_loopback

_FAST_FEATURES = ("avx512_vnni", "avx_vnni", "amx_int8")
_TYPICAL_SIZES = (0.135, 0.5, 1, 3, 8, 14, 32, 70)
"""Billions of parameters of models that people run."""
_BYTES_PER_PARAMETER = 1.0
"""As the engine holds a quantized model: about eight bits for each weight."""


class Check(Struct, frozen=True):
    status: Literal["ok", "warn", "fail"]
    subject: str
    found: str
    fix: str = ""
    rows: str = ""
    """Of `hodios.toml`, to be pasted there."""


def examine() -> Iterator[Check]:
    yield check_python(sys.version_info[:3])
    yield from check_packages()
    yield check_processor(machine.cpu_model(), machine.cpu_features())
    try:
        config = load()
    except SetupError as error:
        yield Check("fail", "settings", str(error))
        return
    yield Check("ok", "settings", f"home {config.home}, address {config.host}:{config.port}")
    if (exposed := exposed_file()) is not None:
        yield Check("warn", "settings", exposed.sentence, exposed.fix)
    yield check_cores(config, machine.num_physical_cores(), os.cpu_count() or 1, machine.cpu_quota())
    yield check_memory(machine.free_memory_bytes(), machine.total_memory_bytes())
    yield check_disk(config.home)
    yield check_key(config)
    yield check_starter(config.home)
    yield from check_models(config)
    yield check_server(config)
    yield from check_launches(config)
    yield from check_others(config)


def check_python(version: tuple[int, ...]) -> Check:
    shown = ".".join(map(str, version))
    if version < (3, 11):
        return Check("fail", "Python", shown, "Install Python 3.11 or newer.")
    return Check("ok", "Python", f"{shown} on {platform.platform()}")


def check_packages() -> Iterator[Check]:
    """Every dependency that the installed package declares."""
    versions, missing = [f"hodios {__version__}"], []
    for requirement in importlib.metadata.requires("hodios") or []:
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^\w.-]", requirement)[0]
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    yield Check("ok", "packages", ", ".join(versions))
    if missing:
        yield Check(
            "fail", "packages", f"missing: {', '.join(missing)}", f"Run: {sys.executable} -m pip install hodios"
        )


def check_processor(model: str, features: tuple[str, ...]) -> Check:
    found = f"{model} ({platform.machine()}): {', '.join(features) or 'no vector features known here'}"
    if platform.machine() in ("x86_64", "AMD64"):
        if "avx2" not in features:
            return Check("warn", "processor", found, "Without AVX2 answers are slow; take a newer machine.")
        if not set(features) & set(_FAST_FEATURES):
            return Check("warn", "processor", found, "Without VNNI or AMX, quantized models run slower.")
    return Check("ok", "processor", found)


def check_cores(config: Config, physical: int, present: int, quota: float | None) -> Check:
    limit = f", limited to {quota:g} CPUs by its control group" if quota is not None else ""
    found = f"{physical} physical cores for this process of {present} logical ones present{limit}"
    if config.threads is not None and config.threads > physical:
        return Check(
            "warn", "cores", f"{found}; threads = {config.threads}", f"More threads than cores wait: set {physical}."
        )
    return Check("ok", "cores", found)


def check_memory(free: int, total: int) -> Check:
    fitting = [
        size for size in _TYPICAL_SIZES if size * 1e9 * _BYTES_PER_PARAMETER * WEIGHTS_FACTOR + RUNTIME_BYTES < free
    ]
    found = f"{gigabytes(free)} free of {gigabytes(total)}"
    if not fitting:
        return Check("fail", "memory", found, "Not even the starter model fits; close programs or raise the limit.")
    largest = fitting[-1]
    shown = f"{largest:g} billion" if largest >= 1 else f"{largest * 1000:g} million"
    return Check("ok", "memory", f"{found}: quantized models of up to {shown} parameters fit")


def check_disk(home: Path) -> Check:
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    found = f"{gigabytes(free)} free for {home}"
    if not os.access(there, os.W_OK):
        return Check("fail", "disk", f"{there} is not writable", "Set HODIOS_HOME to a folder of your own.")
    if free < 1e9:
        return Check("warn", "disk", found, "Models take gigabytes; set HODIOS_HOME to a folder on a larger disk.")
    return Check("ok", "disk", found)


def check_key(config: Config) -> Check:
    path = config.home / "admin.key"
    if config.admin_key is not None:
        return Check("ok", "admin key", "set explicitly")
    if not path.exists():
        return Check("ok", "admin key", "none yet; the first start makes one")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        return Check("warn", "admin key", f"{path} can be read by others", f"Run: chmod 600 {path}")
    return Check("ok", "admin key", f"kept in {path}, readable by its owner alone")


def check_starter(home: Path) -> Check:
    if not starter_path(home).is_file():
        return Check("ok", "starter model", "not installed; `hodios pull starter` fetches it (98 MB)")
    try:
        verify_starter(home)
    except DownloadFailed as error:
        return Check("fail", "starter model", str(error), f"Remove {starter_path(home)}, then run: hodios pull starter")
    return Check("ok", "starter model", "installed, and its checksum is right")


def check_models(config: Config) -> Iterator[Check]:
    """Each installed model: can the engine run it?"""
    for model in installed(config.home):
        try:
            card = prepare(model, config).card
        except SetupError as error:
            yield Check("warn", "model", f"{model.id} cannot be served: {error}")
        else:
            context = f"context {card.context_length} tokens"
            yield Check("ok", "model", f"{model.id}: {card.architecture}, {gigabytes(card.size_bytes)}, {context}")
    unfinished = list((config.home / "models").rglob("*.part"))
    if unfinished:
        names = ", ".join(path.name for path in unfinished)
        yield Check("warn", "model", f"unfinished downloads: {names}", "Pull again to continue, or remove the files.")


def check_server(config: Config) -> Check:
    url = server_url(config)

    async def ask() -> tuple[bool, bool]:
        async with Client(url, known_key(config)) as client:
            return await client.answers("/health/live"), await client.answers("/health/ready")

    is_live, is_ready = asyncio.run(ask())
    if is_ready:
        return Check("ok", "server", f"running and ready at {url}")
    if is_live:
        return Check("warn", "server", f"running at {url}, and no model is ready", "Its log says what it waits for.")
    host = url.removeprefix("http://").rpartition(":")[0].strip("[]")
    try:
        socket.create_connection((host, config.port), timeout=2).close()
    except OSError:
        return Check("ok", "server", f"not running; port {config.port} is free")
    return Check("fail", "server", f"another program has port {config.port}", "Choose another port: set HODIOS_PORT.")


def check_launches(config: Config) -> Iterator[Check]:
    """Each server that is to be started: is its program there?"""
    catalog = CatalogStore(config).current
    for launch in config.launch:
        try:
            kind_row(launch, catalog)
        except SetupError as error:
            yield Check("fail", "launch", str(error))
            continue
        program = launch.command[0].replace(PYTHON, sys.executable)
        where = shutil.which(program, path=launch.env.get("PATH"))
        if where is None:
            yield Check("fail", "launch", f"{launch.name}: {program} is not found", "Install it, or write its path.")
        else:
            yield Check("ok", "launch", f"{launch.name}: {where}, kind {launch.kind}")


def check_others(config: Config, origins: Sequence[str] = ()) -> Iterator[Check]:
    """Servers of other programs on this machine; `origins` instead of their usual ports."""
    known = {origin for _, url in _places(config) if url for origin in _spellings(url)}
    rows = CatalogStore(config).current.providers
    found = asyncio.run(discover(rows, origins, passed_over=_spellings(server_url(config))))
    taken = {name for name, _ in _places(config)}
    for server in found:
        told = f"{server.title} at {server.url}: {_listed(server)}"
        if known & set(_spellings(server.url)):
            yield Check("ok", "other servers", f"{told}; in the settings already")
            continue
        rows_to_paste = settings_of(server, taken)
        taken.add(rows_to_paste.partition("]")[0].removeprefix("[providers."))
        yield Check("ok", "other servers", told, "To serve its models too, add to hodios.toml:", rows_to_paste)
    if not found:
        yield Check("ok", "other servers", "none on the usual ports of Ollama, LM Studio, llama-server and vLLM")


def _places(config: Config) -> list[tuple[str, str | None]]:
    """Names and addresses that the settings have already."""
    places = [(section.name, section.base_url) for section in config.providers]
    places += [(remote.name, remote.base_url) for remote in config.remote]
    return [*places, *((launch.name, launch.base_url) for launch in config.launch)]


def _spellings(url: str) -> list[str]:
    """The server's address without a path, under all names of this machine."""
    parts = urlsplit(url)
    if not is_loopback(parts.hostname or ""):
        return [f"{parts.scheme}://{parts.netloc}"]
    return [f"{parts.scheme}://{host}:{parts.port}" for host in ("127.0.0.1", "localhost", "[::1]")]


def _listed(server: Found) -> str:
    if server.problem:
        return server.problem
    return ", ".join(offer.id for offer in server.offers) or "no models"
