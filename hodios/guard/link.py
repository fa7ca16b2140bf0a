"""Frames between an API process and the guard process, at the API's end: whole messages are told as they come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from hodios.engine.connection import LENGTH_BYTES, MAX_FRAME_BYTES
from hodios.guard.messages import Assess, FromClient, FromWorker

logger = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode


class Link(asyncio.Protocol):
    """One connection. `ended` is set when it is over, for whatever reason."""

    def __init__(self, hear: Callable[[FromWorker, Link], None]) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._hear = hear
        self._decode = msgspec.msgpack.Decoder(FromWorker).decode
        self._unread = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        data, start = self._unread + data, 0
        while len(data) - start >= LENGTH_BYTES:
            end = start + LENGTH_BYTES + int.from_bytes(data[start : start + LENGTH_BYTES], "big")
            if end - start > MAX_FRAME_BYTES:
                self._break(f"a frame of {end - start} bytes")
                return
            if end > len(data):
                break
            try:
                message = self._decode(data[start + LENGTH_BYTES : end])
            except msgspec.DecodeError as error:
                self._break(str(error))
                return
            self._hear(message, self)
            start = end
        self._unread = data[start:]

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if not self.ended.done():
            self.ended.set_result(None)

    def send(self, messages: Sequence[FromClient]) -> None:
        """All of them in one piece."""
        if self._transport is not None and not self._transport.is_closing():
            frames = [_encoded(message) for message in messages]
            self._transport.write(b"".join([len(frame).to_bytes(LENGTH_BYTES, "big") + frame for frame in frames]))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _break(self, reason: str) -> None:
        logger.info("guard process: unreadable: %s", reason)
        self.close()


def _encoded(message: FromClient) -> bytes:
    """Halves of characters, which UTF-8 cannot say, become question marks."""
    try:
        return _encode(message)
    except UnicodeEncodeError:
        assert isinstance(message, Assess)
        texts = [text.encode(errors="replace").decode() for text in message.texts]
        return _encode(Assess(message.id, texts, message.within_s))
