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
        self._line = bytearray()
        """The beginning of a line."""
        self._data: list[bytes] = []
        self._num_bytes = 0
        """In `_data`."""
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
        self._line += chunk
        if b"\n" not in chunk:
            self._check_size()
            return []
        *lines, rest = bytes(self._line).split(b"\n")
        self._line = bytearray(rest)
        events = [data for line in lines if (data := self._read(line)) is not None]
        self._check_size()
        return events

    def finish(self) -> list[bytes]:
        """The stream has ended: the event that was not closed, if there is one."""
        lines = (bytes(self._line), b"")
        self._line.clear()
        return [data for line in lines if (data := self._read(line)) is not None]

    def _read(self, line: bytes) -> bytes | None:
        """The data of the event that `line` closes."""
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_MARK)
        if not line:
            data, self._data, self._num_bytes = self._data, [], 0
            return b"\n".join(data) if data else None
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
            self._num_bytes += len(value) + 1
            self._check_size()
        return None

    def _check_size(self) -> None:
        if len(self._line) + self._num_bytes > self._most_bytes:
            raise ProviderError(f"an event of the answer has more than {self._most_bytes} bytes")
