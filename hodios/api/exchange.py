"""One HTTP request and its answer, down to the ASGI messages: body, headers, and the client's leaving."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec
from starlette.types import Message, Receive, Scope, Send

from hodios.accounts.keyring import Admitted
from hodios.errors import ContentFiltered, HodiosError, InvalidRequest, RequestTooLarge
from hodios.store.records import KeyRecord
from hodios.types import FinishReason, Judgement, Request

if TYPE_CHECKING:
    from hodios.api.content import Content

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
EXPOSED_HEADERS = (
    "x-request-id, x-hodios-provider, x-hodios-attempts, x-hodios-overhead-ms, x-hodios-ignored, openai-processing-ms, "
    "retry-after"
)
API_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
"""Of every answer that is no page: no browser keeps it, guesses its type, runs it, or tells others of its address."""
CLIENT_GONE = 499
_BODILESS = (204, 304)
MAX_IGNORED_BYTES = 2000
CLOSING = (b"connection", b"close")
SEND_WHOLE = "hodios.send_whole"
"""Under which name the `extensions` of a scope have a `SendWhole`."""
SendWhole = Callable[[int, list[tuple[bytes, bytes]], bytes], bool]
"""How a server of ours takes a whole answer (status, headers, body) at once. False where it does not; then nothing was
sent."""
_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_encode = msgspec.json.encode


class ClientGone(Exception):
    """The client left before its answer was whole; nobody is there to be told."""


class Exchange:
    """What happens to one request. Handlers read `scope` and `body`, note what they learn, and answer."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, monotonic: Callable[[], float], new_id: Callable[[], str]
    ) -> None:
        self.scope = scope
        self.in_headers: dict[bytes, bytes] = dict(scope["headers"])
        given = self.in_headers.get(b"x-request-id", b"")
        self.request_id = given.decode() if _SANE_ID.fullmatch(given) else new_id()
        self.out_headers: list[tuple[bytes, bytes]] = []
        self.policy = API_HEADERS
        """What browsers may do with the answer."""
        self.caller = ""
        self.admitted: Admitted | None = None
        """Whose account pays; None where there are no accounts."""
        self.answer_id = ""
        """Ours, and nobody else has it; "" where no answer is asked for."""
        self.request: Request | None = None
        """What is asked, once it has been read."""
        self.is_streamed = False
        self.finish_reasons: tuple[FinishReason, ...] = ()
        """By choice, as far as they have ended."""
        self.judged: dict[int | None, Judgement] = {}
        """What guards say of the choices, by their index, and of the prompt, by None."""
        self.blocked: tuple[str, ...] = ()
        """Categories for which the prompt was refused."""
        self.error_code: str | None = None
        self.provider = self.model = ""
        self.num_attempts = 0
        self.asked_s: float | None = None
        """When a provider was asked, and below when its first and last word came; in seconds since arrival."""
        self.heard_s: float | None = None
        self.first_token_s: float | None = None
        self.num_prompt_tokens = self.num_cached_tokens = self.num_completion_tokens = self.num_tool_calls = 0
        self.status = 0
        self.has_started = False
        self.is_complete = False
        self.num_writes = 0
        self.is_writing = False
        self.epilogue: Callable[[HodiosError], bytes] | None = None
        """What ends a stream that fails after its start."""
        self.keep: Callable[[int, bytes], None] | None = None
        """Told of a whole answer before it is sent: status and body."""
        self.content: Content | None = None
        """What is stored of it; None where its key's policy does not say so."""
        self._ignored: list[str] = []
        self._receive = receive
        self._send = send
        # Taken out, because whoever put it there holds the scope.
        self._send_whole: SendWhole | None = (scope.get("extensions") or {}).pop(SEND_WHOLE, None)
        self._monotonic = monotonic
        self._arrived = monotonic()

    @property
    def key(self) -> KeyRecord | None:
        """None where everything is allowed to whoever asks, or nothing needs a key."""
        return None if self.admitted is None else self.admitted.key

    @property
    def is_https(self) -> bool:
        """Whether the client speaks it, to this server or to a proxy before it that says so."""
        forwarded = self.in_headers.get(b"x-forwarded-proto", b"").partition(b",")[0].strip().lower()
        return b"https" in (self.scope["scheme"].encode(), forwarded)

    def elapsed_s(self) -> float:
        return self._monotonic() - self._arrived

    async def body(self, most_bytes: int) -> bytes:
        """The whole request body. Raises RequestTooLarge, ClientGone, InvalidRequest for a compressed one."""
        encoding = self.in_headers.get(b"content-encoding")
        if encoding is not None and encoding.lower() != b"identity":
            raise InvalidRequest(
                f"content-encoding: {encoding.decode('latin-1')[:60]!r} is not accepted; accepted: none"
            )
        declared = self.in_headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared[:20]) > most_bytes:
            raise self._too_large(most_bytes)
        first = await self._message()
        if not first.get("more_body"):
            body: bytes = first.get("body", b"")
        else:
            parts = bytearray(first.get("body", b""))
            while len(parts) <= most_bytes:
                message = await self._message()
                parts += message.get("body", b"")
                if not message.get("more_body"):
                    break
            body = bytes(parts)
        if len(body) > most_bytes:
            raise self._too_large(most_bytes)
        return body

    async def _message(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message

    def _too_large(self, most_bytes: int) -> RequestTooLarge:
        self.out_headers.append(CLOSING)
        return RequestTooLarge(f"the request body is too large; accepted: at most {most_bytes} bytes")

    def report_ignored(self, names: Sequence[str]) -> None:
        """Name parameters in `x-hodios-ignored`, as long as the headers are not sent."""
        self._ignored += names

    def query(self, name: str) -> str | None:
        """A query parameter's last value. Raises InvalidRequest where the query is not UTF-8."""
        try:
            values = parse_qs(self.scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict")
        except (UnicodeDecodeError, ValueError):
            raise InvalidRequest("the query string is malformed; accepted: percent-encoded UTF-8") from None
        return values[name][-1] if name in values else None

    async def start(self, status: int, content_type: bytes, length: int | None = None) -> None:
        """Send status and headers; without `length` the body's end is its own."""
        headers = self._head(content_type, length)
        self.status = status
        self.has_started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    def _head(self, content_type: bytes, length: int | None) -> list[tuple[bytes, bytes]]:
        elapsed_s = self.elapsed_s()
        heard_s = elapsed_s if self.heard_s is None else self.heard_s
        waited_s = 0.0 if self.asked_s is None else heard_s - self.asked_s
        headers = [
            (b"content-type", content_type),
            (b"x-request-id", self.request_id.encode()),
            (b"x-hodios-provider", self.provider.encode("latin-1", "replace") or b"none"),
            (b"x-hodios-attempts", b"%d" % self.num_attempts),
            (b"openai-processing-ms", b"%d" % (elapsed_s * 1e3)),
            (b"x-hodios-overhead-ms", b"%.3f" % ((elapsed_s - waited_s) * 1e3)),
            *self.out_headers,
            *self.policy,
        ]
        if self._ignored:
            headers.append((b"x-hodios-ignored", _header_list(self._ignored)))
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        return headers

    async def write(self, data: bytes, *, is_last: bool = False) -> None:
        """Send a piece of the body; waits while the client is slow to read."""
        self.num_writes += 1
        self.is_writing = True
        self.is_complete = is_last
        await self._send({"type": "http.response.body", "body": data, "more_body": not is_last})
        self.is_writing = False

    async def answer(self, status: int, body: bytes, content_type: bytes = JSON) -> None:
        """Send a whole answer; of a HEAD request only its headers."""
        if self.keep is not None:
            self.keep(status, body)
        if self.content is not None:
            self.content.answered(body)
        if status not in _BODILESS and self._sent_whole(status, content_type, body):
            return
        await self.start(status, content_type, None if status in _BODILESS else len(body))
        await self.write(b"" if self.scope["method"] == "HEAD" else body, is_last=True)

    def _sent_whole(self, status: int, content_type: bytes, body: bytes) -> bool:
        if self._send_whole is None or CLOSING in self.out_headers:
            return False
        if not self._send_whole(status, self._head(content_type, len(body)), body):
            return False
        self.status = status
        self.has_started = self.is_complete = True
        return True

    async def answer_json(self, value: Any, status: int = 200) -> None:
        await self.answer(status, _encode(value))

    async def fail(self, error: HodiosError) -> None:
        """Tell the client, as far as that is still possible."""
        self.status = error.status
        self.error_code = error.code
        if isinstance(error, ContentFiltered):
            self.blocked = error.categories
        if not self.has_started:
            if error.retry_after is not None:
                self.out_headers.append((b"retry-after", b"%d" % error.retry_after))
            await self.answer(error.status, _encode({"error": error_fields(error)}))
        elif self.epilogue is not None:
            if self.content is not None:
                self.content.failed(error_fields(error))
            await self.write(self.epilogue(error), is_last=True)

    def client(self) -> ClientWatch:
        """While entered, the client's leaving ends the block with ClientGone. Only after the body was read."""
        return ClientWatch(self, self._receive)


class Leaving:
    """How a server of ours says that the client left. Others tell it who asks them, which takes a task of its own."""

    EXTENSION = "hodios.leaving"
    """Under which name a scope's `extensions` have it."""

    def __init__(self) -> None:
        self._tell: Callable[[], None] | None = None
        self._is_gone = False

    def listen(self, tell: Callable[[], None] | None) -> None:
        """`tell` is called when the client leaves, at once where it has left."""
        self._tell = tell
        if self._is_gone and tell is not None:
            tell()

    def leave(self) -> None:
        self._is_gone = True
        if self._tell is not None:
            self._tell()


class ClientWatch:
    """Cancels the task that entered it as soon as the client leaves, and turns that into ClientGone."""

    def __init__(self, exchange: Exchange, receive: Receive) -> None:
        self._exchange = exchange
        self._receive = receive
        self._leaving: Leaving | None = exchange.scope.get("extensions", {}).get(Leaving.EXTENSION)
        self._watcher: asyncio.Task[None] | None = None
        self._is_gone = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        if self._leaving is not None:
            self._leaving.listen(self._left)
        else:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left()

    def _left(self) -> None:
        if not self._exchange.is_complete:
            self._is_gone = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        elif self._leaving is not None:
            self._leaving.listen(None)
        if self._is_gone:
            self._task.uncancel()
            raise ClientGone from error


def _header_list(names: Sequence[str]) -> bytes:
    """Whole names, each once, as many as any client's limit lets pass."""
    joined = ", ".join(dict.fromkeys(names))
    if len(joined) > MAX_IGNORED_BYTES:
        joined = joined[:MAX_IGNORED_BYTES].rpartition(",")[0] + ", ..."
    return joined.encode("ascii")


def error_fields(error: HodiosError) -> dict[str, Any]:
    """The public shape of an error, in the order of the documentation."""
    fields: dict[str, Any] = {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }
    if error.metadata is not None:
        fields["metadata"] = dict(error.metadata)
    return fields
