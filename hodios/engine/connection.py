"""A worker's end of one client's socket: frames in, frames out, never waiting for either. Knows no message."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import TypeVar

import msgspec

LENGTH_BYTES = 4
MAX_FRAME_BYTES = 1 << 26
READ_BYTES = 1 << 16
MAX_UNSENT_BYTES = 1 << 26
"""A client that lets so much pile up is gone for all we know."""

Message = TypeVar("Message")

logger = logging.getLogger(__name__)


class Connection:
    """One API process: its unread bytes, and those it has not taken yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.unread = bytearray()
        self.unsent = bytearray()
        self.is_lost = False

    def receive(self, decoder: msgspec.msgpack.Decoder[Message]) -> list[Message]:
        """Whole messages that have come in. A closed or broken connection is marked lost."""
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        self.is_lost = self.is_lost or not data
        self.unread += data
        messages: list[Message] = []
        try:
            while (frame := self._next_frame()) is not None:
                messages.append(decoder.decode(frame))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            logger.error("dropping a client that sent an unreadable frame: %s", error)
            self.is_lost = True
        return messages

    def _next_frame(self) -> bytes | None:
        if len(self.unread) < LENGTH_BYTES:
            return None
        size = int.from_bytes(self.unread[:LENGTH_BYTES], "big")
        if size > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {size} bytes")
        if len(self.unread) < LENGTH_BYTES + size:
            return None
        frame = bytes(self.unread[LENGTH_BYTES : LENGTH_BYTES + size])
        del self.unread[: LENGTH_BYTES + size]
        return frame

    def send(self, message: msgspec.Struct) -> None:
        frame = msgspec.msgpack.encode(message)
        self.unsent += len(frame).to_bytes(LENGTH_BYTES, "big") + frame
        self.flush()

    def flush(self) -> None:
        """Hand over what the socket takes now."""
        try:
            while self.unsent:
                del self.unsent[: self.socket.send(self.unsent)]
        except BlockingIOError:
            self.is_lost = self.is_lost or len(self.unsent) > MAX_UNSENT_BYTES
        except OSError:
            self.is_lost = True


def listen(path: Path) -> socket.socket:
    """A fresh socket at `path`, open to its owner alone; a dead worker's is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)
    former = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(former)
    listener.listen(16)
    return listener
