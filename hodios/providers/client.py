"""A small client of an OpenAI-compatible server, for the command line: models, streamed chat, streamed completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from hodios.errors import ProviderError, SetupError

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5)
_PROBE_TIMEOUT = aiohttp.ClientTimeout(total=2)


class ServedModel(Struct, frozen=True):
    """What `GET models` says of a model, as far as the command line shows it."""

    id: str
    aliases: tuple[str, ...] = ()
    context_length: int = 0
    status: str = ""


class Counts(Struct, frozen=True):
    """An answer's usage."""

    prompt_tokens: int
    completion_tokens: int


class Piece(Struct, frozen=True):
    """A part of an answer; the last one has the usage."""

    text: str = ""
    usage: Counts | None = None


class _Models(Struct):
    data: list[ServedModel]


class _Delta(Struct, frozen=True):
    content: str | None = None


class _Choice(Struct):
    delta: _Delta = _Delta()
    text: str = ""


class _Error(Struct):
    message: str = "the server gave no reason"


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: Counts | None = None
    error: _Error | None = None


class Client:
    """One server, as `async with`. Raises SetupError where it cannot be reached, ProviderError with what it answers."""

    def __init__(self, url: str, key: str | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def __aenter__(self) -> Client:
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def answers(self, path: str) -> bool:
        """Whether the server answers GET `path` with 200. Never raises."""
        try:
            async with self._session.get(f"{self._url}{path}", timeout=_PROBE_TIMEOUT) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False

    async def models(self) -> list[ServedModel]:
        try:
            async with self._session.get(f"{self._url}/v1/models", timeout=_PROBE_TIMEOUT) as response:
                await _check(response)
                return msgspec.json.decode(await response.read(), type=_Models).data
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._unreachable(error) from error

    def chat(self, model: str, messages: list[dict[str, str]], **parameters: object) -> AsyncIterator[Piece]:
        return self._stream("/v1/chat/completions", {"model": model, "messages": messages, **parameters})

    def complete(self, model: str, prompt: str, **parameters: object) -> AsyncIterator[Piece]:
        return self._stream("/v1/completions", {"model": model, "prompt": prompt, **parameters})

    async def _stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[Piece]:
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        try:
            async with self._session.post(f"{self._url}{path}", json=body) as response:
                await _check(response)
                async for data in _events(response):
                    chunk = msgspec.json.decode(data, type=_Chunk)
                    if chunk.error is not None:
                        raise ProviderError(chunk.error.message)
                    for choice in chunk.choices:
                        yield Piece(choice.delta.content or choice.text)
                    if chunk.usage is not None:
                        yield Piece(usage=chunk.usage)
        except aiohttp.ClientConnectorError as error:
            raise self._unreachable(error) from error
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ProviderError(f"The answer broke off: {error or type(error).__name__}.") from error

    def _unreachable(self, error: Exception) -> SetupError:
        system = error.os_error.strerror if isinstance(error, aiohttp.ClientConnectorError) else None
        reason = system or str(error) or type(error).__name__
        return SetupError(f"No server answers at {self._url} ({reason}). Start one with: make serve")


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raises ProviderError with the server's own sentence."""
    if response.status == 200:
        return
    try:
        error = msgspec.json.decode(await response.read(), type=_Chunk).error or _Error()
    except msgspec.MsgspecError:
        error = _Error()
    raise ProviderError(f"{error.message} (status {response.status})")


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The data of server-sent events until `[DONE]`; comments are passed over."""
    async for line in response.content:
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        if line.startswith(b"data:") and data:
            yield data
