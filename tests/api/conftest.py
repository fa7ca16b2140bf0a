"""Callers and providers for the API's tests: ASGI in process, and a provider that plays a script."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hodios.accounts.office import Office, opened
from hodios.api.app import create_app
from hodios.config import Config
from hodios.errors import HodiosError
from hodios.events import Event
from hodios.providers.base import ModelHealth
from hodios.providers.echo import EchoProvider
from hodios.types import ModelCard, Request

KEY = "test-key-0123456789abcdef0123456789"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    pieces: list[bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        document = self.json()
        assert list(document) == ["error"]
        error: dict[str, Any] = document["error"]
        assert list(error)[:4] == ["message", "type", "param", "code"]
        return error

    def data(self) -> list[str]:
        """The payloads of the server-sent events, `[DONE]` included."""
        events = self.body.decode().split("\n\n")
        assert events.pop() == ""
        return [event.removeprefix("data: ") for event in events if not event.startswith(":")]

    def chunks(self) -> list[dict[str, Any]]:
        data = self.data()
        assert data[-1] == "[DONE]"
        return [json.loads(item) for item in data[:-1]]


@dataclass
class Caller:
    """Talks ASGI to an app. `leave` makes the client go away; `sent` collects what came so far."""

    app: Any
    key: str | None = KEY

    async def __call__(
        self,
        method: str,
        path: str,
        value: Any = None,
        *,
        body: bytes | Sequence[bytes] | None = None,
        headers: dict[str, str] | None = None,
        query: str = "",
        leave: asyncio.Event | None = None,
        sent: list[dict[str, Any]] | None = None,
    ) -> Answer:
        if body is None:
            body = b"" if value is None else json.dumps(value).encode()
        parts = [body] if isinstance(body, bytes) else list(body)
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": part, "more_body": index + 1 < len(parts)}
            for index, part in enumerate(parts)
        ]
        fields = {"host": "test", **(headers or {})}
        if self.key is not None:
            fields.setdefault("authorization", f"Bearer {self.key}")
        sent = [] if sent is None else sent
        gone = leave or asyncio.Event()

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop(0)
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode("latin-1"),
            "headers": [(name.encode(), text.encode("latin-1")) for name, text in fields.items() if text],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        await self.app(scope, receive, send)
        return _answer(sent)

    async def chat(self, **values: Any) -> Answer:
        body = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}], **values}
        return await self("POST", "/v1/chat/completions", body)

    async def complete(self, **values: Any) -> Answer:
        return await self("POST", "/v1/completions", {"model": "echo", "prompt": "Hello", **values})


def _answer(sent: list[dict[str, Any]]) -> Answer:
    if not sent:
        return Answer(0, {}, [])
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    names = [name for name, _ in start["headers"]]
    assert len(names) == len(set(names)), "a header twice"
    headers = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    assert all("\r" not in value and "\n" not in value for value in headers.values())
    assert bodies, "no body"
    assert [message["more_body"] for message in bodies] == [True] * (len(bodies) - 1) + [False]
    return Answer(start["status"], headers, [message["body"] for message in bodies])


@dataclass
class ScriptedProvider:
    """Yields the events of `script`; an error in it is raised, a callable is awaited."""

    script: Sequence[Event | HodiosError | Exception | Callable[[], Any]] = ()
    name: str = "scripted"
    cards: Sequence[ModelCard] = (
        ModelCard(id="maker/model", aliases=("model",), context_length=100, max_output_tokens=50),
    )
    states: Sequence[ModelHealth] = (ModelHealth(model="maker/model", state="ready"),)
    requests: list[Request] = field(default_factory=list)
    num_open: int = 0
    log: list[str] = field(default_factory=list)

    async def start(self) -> None:
        self.log.append("start")

    async def aclose(self) -> None:
        self.log.append("aclose")

    def models(self) -> Sequence[ModelCard]:
        return self.cards

    def tokenizer(self, model: str) -> None:
        return None

    def health(self) -> Sequence[ModelHealth]:
        return self.states

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        self.requests.append(request)
        self.num_open += 1
        try:
            for step in self.script:
                if isinstance(step, Exception):
                    raise step
                if callable(step):
                    await step()
                else:
                    yield step
        finally:
            self.num_open -= 1


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(
        home=tmp_path, admin_key=KEY, max_body_bytes=65536, max_choices=8, cors_origins=("https://a.example",)
    )


@pytest.fixture
def call(config: Config) -> Caller:
    return Caller(create_app(config, [EchoProvider(context_length=4096)]))


@pytest.fixture
def caller_of() -> Callable[[Any], Caller]:
    """For an app of the test's own."""
    return Caller


@pytest.fixture
def scripted(config: Config) -> Callable[..., tuple[Caller, ScriptedProvider]]:
    """A caller whose app has a scripted provider alone; keywords go to the provider."""

    def build(*script: Any, first_event_timeout_s: float = 15.0, **values: Any) -> tuple[Caller, ScriptedProvider]:
        from msgspec import structs

        provider = ScriptedProvider(script, **values)
        settings = structs.replace(config, first_event_timeout_s=first_event_timeout_s)
        return Caller(create_app(settings, [provider])), provider

    return build


@pytest.fixture
async def office(config: Config) -> AsyncIterator[Office]:
    """With accounts in a file of its own."""
    async with opened(config.home, f"sqlite:///{config.home}/hodios.db") as office:
        yield office
