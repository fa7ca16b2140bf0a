from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from hodios.providers import http_client
from hodios.providers.http_client import ConnectTimeout, HttpClient, Unreachable
from hodios.providers.http_connection import MOST_HEAD_BYTES, MOST_WAITING_BYTES, Disconnected, Response

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"
TO_THE_END = b"HTTP/1.1 200 OK\r\n\r\nhello"
CERTIFICATE = Path(__file__).with_name("localhost.pem")
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers each request with the next of `answers`: bytes, or what is done with the connection."""

    def __init__(self) -> None:
        self.answers: list[bytes | Answer] = []
        self.requests: list[bytes] = []
        self.num_connections = 0
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()
        """A connection has."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.ended.set()
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
            self.requests.append(head + await reader.readexactly(int(length or b"0")))
            answer = self.answers.pop(0)
            if callable(answer):
                await answer(writer)
            else:
                writer.write(answer)
                await writer.drain()


@contextlib.asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "localhost", 0, ssl=context)
    async with listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server
        for task in server.tasks:
            task.cancel()
        await asyncio.gather(*server.tasks, return_exceptions=True)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[HttpClient]:
    client = HttpClient(f"http://localhost:{server.port}/v1", {"X-Key": "secret"}, 5.0)
    yield client
    client.close()


def soon(seconds: float = 10.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def body_of(response: Response) -> bytes:
    body = b""
    while chunk := await response.read(soon()):
        body += chunk
    response.close()
    return body


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def hang(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def then_close(data: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()

    return answer


async def test_requests_are_whole_and_connections_are_kept(server: Server, client: HttpClient) -> None:
    server.answers = [WHOLE, CHUNKED, WHOLE]
    for path, data in (("/v1/a", b"{}"), ("/v1/b c", b""), ("/v1/a", b"x" * 100_000)):
        response = await client.post(path, data, soon())
        assert (response.status, await body_of(response)) == (200, b"hello")
    assert server.num_connections == 1
    host = b"localhost:%d" % server.port
    assert server.requests[0] == (
        b"POST /v1/a HTTP/1.1\r\nHost: " + host + b"\r\nX-Key: secret\r\nAccept-Encoding: identity\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )
    assert server.requests[1].startswith(b"POST /v1/b%20c HTTP/1.1\r\n")
    assert server.requests[2].endswith(b"x" * 100_000)


@pytest.mark.parametrize("answer", [WHOLE, CHUNKED, b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE])
async def test_answers_may_come_in_any_pieces(server: Server, client: HttpClient, answer: bytes) -> None:
    async def dripped(writer: asyncio.StreamWriter) -> None:
        for at in range(len(answer)):
            writer.write(answer[at : at + 1])
            await asyncio.sleep(0)

    server.answers = [dripped, WHOLE]
    for _ in range(2):
        assert await body_of(await client.post("/", b"", soon())) == b"hello"
    assert server.num_connections == 1


async def test_bodies_may_end_with_their_connection(server: Server, client: HttpClient) -> None:
    server.answers = [then_close(TO_THE_END), then_close(WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0")), WHOLE]
    for _ in range(3):
        assert await body_of(await client.post("/", b"", soon())) == b"hello"
    assert server.num_connections == 3


@pytest.mark.parametrize("answer", [WHOLE, CHUNKED])
async def test_what_breaks_off_is_not_whole(server: Server, client: HttpClient, answer: bytes) -> None:
    begun = answer.index(b"\r\n\r\n") + 4
    for end in range(len(answer)):
        server.answers = [then_close(answer[:end])]
        client.close()
        with pytest.raises(Disconnected):
            await body_of(await client.post("/", b"", soon()))
        assert end >= begun or not server.answers
    assert len(server.requests) == len(answer), "nothing is asked twice that somebody may have read"


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * MOST_HEAD_BYTES,
        CHUNKED.replace(b"2\r\nhe", b"z\r\nhe"),
    ],
)
async def test_what_is_no_http_is_no_answer(server: Server, client: HttpClient, answer: bytes) -> None:
    server.answers = [answer]
    with pytest.raises(Disconnected):
        await body_of(await client.post("/", b"", soon()))


async def test_a_kept_connection_that_was_closed_is_replaced(server: Server, client: HttpClient) -> None:
    server.answers = [WHOLE, close, WHOLE]
    for _ in range(2):
        assert await body_of(await client.post("/", b"{}", soon())) == b"hello"
    assert (server.num_connections, len(server.requests)) == (2, 3)


async def test_more_than_was_asked_for_answers_nobody_else(server: Server, client: HttpClient) -> None:
    server.answers = [WHOLE + WHOLE.replace(b"hello", b"wrong"), WHOLE]
    for _ in range(2):
        assert await body_of(await client.post("/", b"", soon())) == b"hello"
    assert server.num_connections == 2


async def test_a_connection_that_was_closed_here_or_rested_too_long_carries_nothing_more(
    server: Server, client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = [WHOLE[:-1], WHOLE, WHOLE]
    (await client.post("/", b"", soon())).close()
    await server.ended.wait()
    assert await body_of(await client.post("/", b"", soon())) == b"hello"
    assert server.num_connections == 2
    monkeypatch.setattr(http_client, "IDLE_S", -1.0)
    assert await body_of(await client.post("/", b"", soon())) == b"hello"
    assert server.num_connections == 3


async def test_time_ends_before_the_answer_and_within_it(server: Server, client: HttpClient) -> None:
    server.answers = [hang]
    with pytest.raises(TimeoutError):
        await client.post("/", b"", soon(0.01))
    server.answers = [WHOLE[:-1]]
    response = await client.post("/", b"", soon())
    assert await response.read(soon()) == b"hell"
    with pytest.raises(TimeoutError):
        await response.read(soon(0.01))
    response.close()
    await server.ended.wait()


async def test_whoever_is_cancelled_closes_the_connection(server: Server, client: HttpClient) -> None:
    has_come = asyncio.Event()

    async def never(writer: asyncio.StreamWriter) -> None:
        has_come.set()
        await hang(writer)

    server.answers = [never]
    asking = asyncio.create_task(client.post("/", b"", soon()))
    await has_come.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert all(connection.is_closing for connection in client._all)


async def test_no_more_waits_here_than_is_read(server: Server, client: HttpClient) -> None:
    size = 64 * MOST_WAITING_BYTES
    is_stuck, written = asyncio.Event(), asyncio.Event()

    async def large(writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        is_stuck.set()
        await writer.drain()
        written.set()

    server.answers = [large, WHOLE]
    response = await client.post("/", b"", soon())
    await is_stuck.wait()
    first = await response.read(soon())
    assert not written.is_set()
    assert len(first) + len(await body_of(response)) == size
    assert await body_of(await client.post("/", b"", soon())) == b"hello"
    assert server.num_connections == 1


async def test_nobody_there(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreachable):
        await HttpClient("http://127.0.0.1:1", {}, 5.0).post("/", b"", soon())
    monkeypatch.setattr(HttpClient, "_connect", lambda self: asyncio.Event().wait())
    with pytest.raises(ConnectTimeout):
        await HttpClient("http://127.0.0.1:1", {}, 0.01).post("/", b"", soon())
    with pytest.raises(TimeoutError):
        await HttpClient("http://127.0.0.1:1", {}, 5.0).post("/", b"", soon(0.01))


async def test_certificates_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    async with serving(context) as server:
        server.answers = [WHOLE]
        with pytest.raises(Unreachable) as caught:
            await HttpClient(f"https://localhost:{server.port}", {}, 5.0).post("/", b"", soon())
        assert isinstance(caught.value.error, ssl.SSLCertVerificationError)
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        client = HttpClient(f"https://localhost:{server.port}", {}, 5.0)
        assert await body_of(await client.post("/", b"", soon())) == b"hello"
        client.close()


async def test_headers_stay_on_their_lines() -> None:
    client = HttpClient("http://localhost:1", {"Authorization": "Bearer a\r\nX: y"}, 5.0)
    with pytest.raises(ValueError, match="a line of its own"):
        await client.post("/", b"", soon())
