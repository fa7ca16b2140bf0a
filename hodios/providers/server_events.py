"""Server-sent events, read: bytes in any chunks become the data of whole events. Sans-IO.

Follows the HTML standard, §9.2.6, but for two things: an event that the end of the stream cuts short still counts,
since many servers leave out the last blank line, and no event may be of any size.
"""

from __future__ import annotations

from hodios.errors import ProviderError

MOST_BYTES = 16 * 2**20
"""Of one event."""
_MARK = b"\xef\xbb\xbf"


class EventReader:
    """One stream. Comments and fields besides `data` are passed over."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held = bytearray()
        """The beginning of an event."""
        self._is_first = True
        self._ends_in_return = False

    def push(self, chunk: bytes) -> list[bytes]:
        """The data of the events that `chunk` completes. Raises ProviderError for an event that is too large."""
        if self._ends_in_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
            self._ends_in_return = False
        if not chunk:
            return []
        self._ends_in_return = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        has_end = b"\n\n" in chunk or (chunk.startswith(b"\n") and self._held.endswith(b"\n"))
        self._held += chunk
        if not has_end:
            self._check_size(self._held)
            return []
        *blocks, rest = bytes(self._held).split(b"\n\n")
        self._held = bytearray(rest)
        self._check_size(self._held)
        return [data for block in blocks if (data := self._read(block)) is not None]

    def finish(self) -> list[bytes]:
        """The stream has ended: the event that was not closed, if there is one."""
        data = self._read(bytes(self._held))
        self._held.clear()
        return [] if data is None else [data]

    def _read(self, block: bytes) -> bytes | None:
        """The data of an event, without the blank line that closed it; None for one without data."""
        self._check_size(block)
        if self._is_first:
            self._is_first = False
            block = block.removeprefix(_MARK)
        if block.startswith(b"data: ") and b"\n" not in block:
            return block[6:]
        fields = (line.partition(b":") for line in block.split(b"\n"))
        values = [value.removeprefix(b" ") for field, _, value in fields if field == b"data"]
        return b"\n".join(values) if values else None

    def _check_size(self, event: bytes | bytearray) -> None:
        if len(event) > self._most_bytes:
            raise ProviderError(f"an event of the answer has more than {self._most_bytes} bytes")
