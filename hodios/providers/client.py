"""A small client of an OpenAI-compatible server, for the command line: models, streamed chat, streamed completions.

What it tells of an answer can be built on: calls of tools come whole, and an answer that breaks off is an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Struct

from hodios.errors import ProviderError, SetupError
from hodios.providers.call_deltas import CallDeltas, Called
from hodios.providers.server_events import EventReader

if TYPE_CHECKING:
    from hodios.providers.sync_report import Outcome

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5)
_PROBE_TIMEOUT = aiohttp.ClientTimeout(total=2)


class ServedModel(Struct, frozen=True):
    """What `GET models` says of a model, as far as the command line shows it."""

    id: str
    aliases: tuple[str, ...] = ()
    context_length: int = 0
    status: str = ""


class LocalState(Struct, frozen=True):
    """What the server says of a model of its machine."""

    id: str
    state: str
    error: str | None = None


class Counts(Struct, frozen=True):
    """An answer's usage."""

    prompt_tokens: int
    completion_tokens: int


class Piece(Struct, frozen=True):
    """A part of an answer."""

    text: str = ""
    reasoning: str = ""
    warnings: tuple[str, ...] = ()
    """What the server did not do as it was asked, in its words."""
    finish_reason: str | None = None
    calls: tuple[Called, ...] = ()
    """All of the answer's, in its last piece."""
    usage: Counts | None = None


class GuardReport(Struct, frozen=True):
    """What one guard says of a text."""

    name: str
    ms: float
    scores: dict[str, float] = {}
    further: dict[str, float] = {}
    problem: str = ""
    """Why it has not judged."""


class _Moderated(Struct):
    guards: list[GuardReport]


class _Moderation(Struct):
    results: list[_Moderated]


class _Models(Struct):
    data: list[ServedModel]


class _Delta(Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: object = None


class _Choice(Struct):
    delta: _Delta = _Delta()
    text: str = ""
    finish_reason: str | None = None


class _Said(Struct):
    message: str = "the server gave no reason"


class _Chunk(Struct):
    choices: list[_Choice] = []
    usage: Counts | None = None
    error: _Said | str | None = None
    warnings: list[_Said] = []


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

    async def models(self, *, is_probe: bool = False) -> list[ServedModel]:
        """`is_probe`: a server that takes its time counts as none."""
        try:
            timeout = _PROBE_TIMEOUT if is_probe else _TIMEOUT
            async with self._session.get(f"{self._url}/v1/models", timeout=timeout) as response:
                await _check(response)
                return msgspec.json.decode(await response.read(), type=_Models).data
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._unreachable(error) from error

    async def sync(self, providers: Sequence[str]) -> list[Outcome]:
        """Have the server ask these providers what they list, or all."""
        # Imported here because no other command needs the catalog for what it asks.
        from hodios.providers.sync_report import SyncOutcomes

        body = {"providers": list(providers)}
        try:
            async with self._session.post(f"{self._url}/admin/v1/sync", json=body) as response:
                await _check(response)
                return msgspec.json.decode(await response.read(), type=SyncOutcomes).data
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._unreachable(error) from error

    async def turn(self, model: str, action: Literal["load", "unload"]) -> LocalState:
        """Have the server load an installed model, or serve it no more."""
        url = f"{self._url}/admin/v1/local/models/{quote(model, safe='/')}/{action}"
        try:
            async with self._session.post(url) as response:
                await _check(response)
                return msgspec.json.decode(await response.read(), type=LocalState)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._unreachable(error) from error

    async def moderate(self, text: str) -> list[GuardReport]:
        """What the server's guards say of a user's text."""
        try:
            async with self._session.post(f"{self._url}/v1/moderations", json={"input": text}) as response:
                await _check(response)
                (result,) = msgspec.json.decode(await response.read(), type=_Moderation).results
                return result.guards
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._unreachable(error) from error

    async def chat(
        self, model: str, messages: Sequence[Mapping[str, Any]], **parameters: object
    ) -> AsyncIterator[Piece]:
        """Parameters that are None are left out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        tools: Any = given.get("tools", ())
        calls = CallDeltas([tool["function"]["name"] for tool in tools])
        async for chunk in self._chunks("/v1/chat/completions", {"model": model, "messages": messages, **given}):
            for choice in chunk.choices:
                calls.push(choice.delta.tool_calls)
            yield _piece(chunk)
        yield Piece(calls=tuple(calls.finish()))

    async def complete(self, model: str, prompt: str, **parameters: object) -> AsyncIterator[Piece]:
        async for chunk in self._chunks("/v1/completions", {"model": model, "prompt": prompt, **parameters}):
            yield _piece(chunk)

    async def _chunks(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[_Chunk]:
        """The chunks of a whole answer."""
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        is_whole = False
        try:
            async with self._session.post(f"{self._url}{path}", json=body) as response:
                await _check(response)
                async for data in _events(response):
                    if data == b"[DONE]":
                        return
                    chunk = msgspec.json.decode(data, type=_Chunk)
                    if chunk.error is not None:
                        raise ProviderError(chunk.error if isinstance(chunk.error, str) else chunk.error.message)
                    is_whole = is_whole or any(choice.finish_reason for choice in chunk.choices)
                    yield chunk
        except aiohttp.ClientConnectorError as error:
            raise self._unreachable(error) from error
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ProviderError(f"The answer broke off: {error or type(error).__name__}.") from error
        if not is_whole:
            raise ProviderError("The answer broke off: the server closed the connection.")

    def _unreachable(self, error: Exception) -> SetupError:
        system = error.os_error.strerror if isinstance(error, aiohttp.ClientConnectorError) else None
        reason = system or str(error) or type(error).__name__
        return SetupError(f"No server answers at {self._url} ({reason}). Start one with: make serve")


def _piece(chunk: _Chunk) -> Piece:
    finish_reasons = [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
    return Piece(
        text="".join(choice.delta.content or choice.text for choice in chunk.choices),
        reasoning="".join(choice.delta.reasoning_content or "" for choice in chunk.choices),
        warnings=tuple(warning.message for warning in chunk.warnings),
        finish_reason=finish_reasons[-1] if finish_reasons else None,
        usage=chunk.usage,
    )


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raises ProviderError with the server's own sentence."""
    if response.status == 200:
        return
    try:
        error = msgspec.json.decode(await response.read(), type=_Chunk).error or _Said()
    except msgspec.MsgspecError:
        error = _Said()
    raise ProviderError(f"{error if isinstance(error, str) else error.message} (status {response.status})")


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    events = EventReader()
    async for chunk in response.content.iter_any():
        for data in events.push(chunk):
            yield data
    for data in events.finish():
        yield data
