"""A model hub that speaks Hugging Face's protocol: what a repository holds, and which of its GGUF files to take."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import PurePosixPath
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from hodios.errors import DownloadFailed
from hodios.providers.download import RetryableError, Source, check_status
from hodios.providers.installed import PREFERRED, SPLIT, quantization_of

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


class _LargeFile(Struct):
    sha256: str | None = None
    size: int | None = None


class _Sibling(Struct):
    rfilename: str
    size: int | None = None
    lfs: _LargeFile | None = None


class _Repository(Struct):
    sha: str
    siblings: list[_Sibling] = []


class HubFile(Struct, frozen=True):
    path: str
    """Inside the repository."""
    source: Source

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


class HubModel(Struct, frozen=True):
    """One quantization: a file, or all parts of a split one in order."""

    quantization: str
    files: tuple[HubFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.source.size_bytes or 0 for file in self.files)


def is_repository(text: str) -> bool:
    """Whether `text` is `author/name` and could be nothing else, a path out of a folder least of all."""
    return bool(_REPOSITORY.fullmatch(text)) and ".." not in text


class Hub:
    def __init__(self, session: aiohttp.ClientSession, endpoint: str, token: str | None) -> None:
        self._session = session
        self._endpoint = endpoint
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def models(self, repository: str) -> list[HubModel]:
        """All whole GGUF models of a repository, at its newest commit. Raises DownloadFailed."""
        url = f"{self._endpoint}/api/models/{repository}?blobs=true"
        try:
            async with self._session.get(url, headers=self._headers) as response:
                if response.status in (401, 404):
                    raise DownloadFailed(
                        f"{self._endpoint} shows no model {repository!r} ({response.status}). Check the spelling; "
                        "if it is private or gated, set HF_TOKEN to an access token of your account."
                    )
                check_status(response)
                listing = msgspec.json.decode(await response.read(), type=_Repository)
        except (RetryableError, aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise DownloadFailed(
                f"{self._endpoint} could not be asked about {repository}: {error or type(error).__name__}. "
                "Check the network; HF_ENDPOINT names another hub."
            ) from error
        return _assemble([self._file(repository, listing.sha, entry) for entry in listing.siblings if _is_model(entry)])

    def _file(self, repository: str, commit: str, entry: _Sibling) -> HubFile:
        path = urllib.parse.quote(entry.rfilename)
        large = entry.lfs or _LargeFile()
        source = Source(
            url=f"{self._endpoint}/{repository}/resolve/{urllib.parse.quote(commit, safe='')}/{path}",
            headers=self._headers,
            sha256=large.sha256,
            size_bytes=large.size if large.size is not None else entry.size,
        )
        return HubFile(entry.rfilename, source)


def choose(repository: str, models: list[HubModel], wanted: str | None) -> HubModel:
    """The model whose quantization or file is `wanted`; without one, the only model or the most commonly preferred.

    Raises DownloadFailed with the choices.
    """
    if not models:
        raise DownloadFailed(f"{repository} holds no GGUF file; many models have a sister repository named …-GGUF.")
    if wanted is not None:
        found = [model for model in models if wanted.lower() in _names(model)]
    else:
        found = models if len(models) == 1 else []
        for quantization in PREFERRED:
            found = found or [model for model in models if model.quantization == quantization]
    if len(found) == 1:
        return found[0]
    lines = "\n".join(f"  hodios pull {repository}/{m.files[0].path}  ({m.size_bytes / 1e9:.2f} GB)" for m in models)
    problem = f"has {'several' if found else 'no'} GGUF models {wanted!r}" if wanted else "has several GGUF models"
    raise DownloadFailed(f"{repository} {problem}. Choose one:\n{lines}")


def _names(model: HubModel) -> set[str]:
    return {model.quantization.lower(), *(file.path.lower() for file in model.files)}


def _is_model(entry: _Sibling) -> bool:
    """The name is what a local file will be called, so what the hub says is not trusted."""
    name = PurePosixPath(entry.rfilename).name
    return bool(re.fullmatch(r"\w[\w.+ -]*\.gguf", name)) and not name.lower().startswith("mmproj")


def _assemble(files: list[HubFile]) -> list[HubModel]:
    """Split files `…-00001-of-00003.gguf` count once, and only if all of them are there."""
    sets: dict[tuple[Any, ...], list[HubFile]] = {}
    for file in sorted(files, key=lambda file: file.path):
        split = SPLIT.search(file.path)
        key = (file.path[: split.start()], int(split[2])) if split else (file.path, 1)
        sets.setdefault(key, []).append(file)
    return [
        HubModel(quantization_of(parts[0].name), tuple(parts))
        for (_, count), parts in sets.items()
        if len(parts) == count
    ]
