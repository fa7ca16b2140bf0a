"""Answers that break off on the wire, over real sockets on both sides: whatever happens to the connection and wherever,
the client has the whole answer once, and is told who gave which part and what it cost.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import served_app
from breaking_server import PIECE, PROMPT_TOKENS, Break, BreakingServer, raw, written
from fake_server import CLOSE, END, HANG, RESET, Step, delta, serving
from live_server import MODEL as STARTER
from live_server import LiveServer, stream_events, until

from hodios.api.app import create_app
from hodios.config import Config
from hodios.providers.remote import RemoteProvider
from hodios.remotes import Remote, RemoteModel
from hodios.router_settings import RouterSettings
from hodios.types import Price

KEY = "test-key-0123456789abcdef0123456789"
QUESTION = "What is the sea like?"
TEXT = "The sea — «héllo» 🙂🇨🇭 is  blue,\n\n\tsaid 日本 twice: €€."
PIECES = [TEXT[at : at + PIECE] for at in range(0, len(TEXT), PIECE)]
PRICES = (Price(prompt=10**9, completion=2 * 10**9), Price(prompt=3 * 10**9, completion=5 * 10**9))
"""Dollars per million tokens: 1 and 2, 3 and 5."""
SHORT_S = 0.3
"""How long a server may be silent that is to be given up."""
KINDS: dict[str, dict[str, Any]] = {
    "completions": {"dialect": "completions"},
    "chats and completions": {"has_completions": True},
    "prefilled chats": {"prefill": "assistant"},
}
FAULTS: dict[str, tuple[Step, ...]] = {
    "a reset": (RESET,),
    "a closed connection": (CLOSE,),
    "an end without [DONE]": (END,),
    "silence": (HANG,),
}


@dataclass
class Told:
    """What the client got of one stream."""

    text: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    """(name, arguments)"""
    id: str = ""
    finish_reason: str | None = None
    codes: list[str] = field(default_factory=list)
    usage: Any = None

    def take(self, chunk: Any) -> None:
        self.id = chunk.id
        self.usage = chunk.usage or self.usage
        self.codes += [warning["code"] for warning in (chunk.model_extra or {}).get("warnings", ())]
        for choice in chunk.choices:
            self.text += choice.delta.content or ""
            self.finish_reason = choice.finish_reason or self.finish_reason
            for call in choice.delta.tool_calls or ():
                if call.function.name:
                    self.calls.append((call.function.name, ""))
                name, arguments = self.calls[call.index]
                self.calls[call.index] = (name, arguments + (call.function.arguments or ""))


@dataclass(frozen=True)
class Case:
    """Servers of a model of their own, asked in their order."""

    title: str
    servers: tuple[BreakingServer, BreakingServer]

    def notice(self, text: str) -> None:
        """What the client has of the answer."""
        for server in self.servers:
            if server.stop is not None and text.startswith(server.stop.text):
                server.is_seen.set()

    @property
    def is_silent(self) -> bool:
        return any(server.stop is not None and HANG in server.stop.steps for server in self.servers)


def model_of(number: int) -> str:
    return f"maker/model-{number}"


@dataclass
class Hodios:
    """A client in front of an API server in front of servers that break."""

    http: httpx2.AsyncClient
    client: openai.AsyncOpenAI
    cases: Sequence[Case]

    async def stream(self, number: int, **fields: Any) -> Told:
        told = Told()
        self.cases[number].notice("")
        chunks = await self.client.chat.completions.create(
            model=model_of(number),
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
            **fields,
        )
        async for chunk in chunks:
            told.take(chunk)
            self.cases[number].notice(told.text)
        return told

    async def generation(self, id: str) -> dict[str, Any]:
        response = await self.http.get("/generation", params={"id": id})
        found: dict[str, Any] = response.json()["data"]
        return found


Check = Callable[[Hodios, int], Awaitable[None]]


async def all_of(home: Path, cases: Sequence[Case], check: Check, row: Any = None, **remote: Any) -> None:
    """Every case at the same time: what takes long is silence."""
    async with hodios(home, cases, row, **remote) as service:
        await asyncio.gather(*(check(service, number) for number in range(len(cases))))


@asynccontextmanager
async def hodios(home: Path, cases: Sequence[Case], row: Any = None, **remote: Any) -> AsyncIterator[Hodios]:
    """`remote` is the section of each server, `row` that of each model."""
    async with AsyncExitStack() as stack:
        providers = []
        for is_silent, place in itertools.product((False, True), range(len(PRICES))):
            found = {model_of(at): case.servers[place] for at, case in enumerate(cases) if case.is_silent == is_silent}
            fake = await stack.enter_async_context(serving(functools.partial(_wire, found)))
            fields = {"context_length": 4096, "family": "hermes", "continues": True, "price": PRICES[place]}
            settings = {"name": f"p{place}{'-silent' * is_silent}", "base_url": fake.url, **remote}
            settings["models"] = tuple(RemoteModel(id=id, **fields | (row or {})) for id in found)
            settings["silence_timeout_s"] = SHORT_S if is_silent else 60.0
            providers.append(RemoteProvider(Remote(**settings), None))
            await providers[-1].start()
            stack.push_async_callback(providers[-1].aclose)
        config = Config(home=home, admin_key=KEY, router=RouterSettings(policy="price"))
        port = await stack.enter_async_context(served_app.serving(create_app(config, providers)))
        url = f"http://127.0.0.1:{port}/v1"
        headers = {"authorization": f"Bearer {KEY}"}
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, headers=headers, timeout=600))
        yield Hodios(http, openai.AsyncOpenAI(base_url=url, api_key=KEY, http_client=http, max_retries=0), cases)


def _wire(servers: Mapping[str, BreakingServer], body: dict[str, Any]) -> Sequence[Step]:
    return servers[body["model"]].wire(body)


def broken(num_pieces: int, fault: Sequence[Step], rest: bytes = b"") -> Break:
    return Break(num_pieces, "".join(PIECES[:num_pieces]), rest, tuple(fault))


Event = Callable[[str], dict[str, Any]]


def within(character: str, event: Event) -> tuple[int, bytes]:
    """Up to the second byte of the character: how many pieces come before, and the part of the next."""
    place = TEXT.index(character) // PIECE
    data = written(event(PIECES[place]))
    return place, data[: data.index(character.encode()) + 2]


def half_of(character: str, event: Event) -> tuple[int, bytes]:
    """Up to the first of the two halves that UTF-16 has of it."""
    place = TEXT.index(character) // PIECE
    before = PIECES[place].partition(character)[0]
    return place, b"data: " + json.dumps(event(before + json.loads('"\\ud83d"'))).encode() + b"\n\n"


PLACES: dict[str, Callable[[Event], tuple[int, bytes]]] = {
    "after the first piece": lambda event: (1, b""),
    "in the name of a field": lambda event: (4, b'data: {"id": "x", "cho'),
    "in a character of two bytes": lambda event: within("é", event),
    "in a character of three bytes": lambda event: within("本", event),
    "in a character of four bytes": lambda event: within("🙂", event),
    "after half of a character": lambda event: half_of("🙂", event),
    "between two halves of a flag": lambda event: (TEXT.index("🇭") // PIECE, b""),
    "before the end is told": lambda event: (len(PIECES), b""),
}


def said(text: str) -> dict[str, Any]:
    return delta(content=text)


@pytest.mark.parametrize("kind", KINDS)
async def test_another_server_goes_on_wherever_the_stream_breaks(kind: str, tmp_path: Path) -> None:
    cases = []
    for fault, steps in FAULTS.items():
        for place, cut in PLACES.items():
            num_pieces, rest = cut(raw if kind == "completions" else said)
            first = BreakingServer(TEXT, stop=broken(num_pieces, steps, rest))
            cases.append(Case(f"{fault} {place}", (first, BreakingServer(TEXT))))

    async def check(service: Hodios, number: int) -> None:
        case = cases[number]
        first, second = case.servers
        told = await service.stream(number, max_tokens=100)
        assert (told.text, told.finish_reason, told.codes) == (TEXT, "stop", ["continued"]), case.title
        (begun,) = second.begun
        assert first.stop is not None
        assert begun.startswith(first.stop.text), case.title
        # What comes with half of a character is a piece, too.
        num_first = first.stop.num_events + (begun != first.stop.text)
        num_second = len(second.events(begun, is_raw=True)) - 1
        assert second.bodies[0]["max_tokens"] == 100 - num_first, case.title
        check_bill(told, await service.generation(told.id), num_first, num_second)

    await all_of(tmp_path, cases, check, **KINDS[kind])


def check_bill(told: Told, record: dict[str, Any], num_first: int, num_second: int) -> None:
    """The prompt counts once for the client; each provider is paid for its part."""
    num_prompt = -(-len(QUESTION) // 4)
    total = num_first + num_second
    usage = told.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (num_prompt, total)
    assert usage.total_tokens == num_prompt + total
    assert (record["tokens_prompt"], record["tokens_completion"]) == (num_prompt, total)
    facts = ("outcome", "prompt_tokens", "completion_tokens")
    attempts = record["route"]["attempts"]
    assert [tuple(attempt[name] for name in facts) for attempt in attempts] == [
        ("broke_off", num_prompt, num_first),
        ("answered", PROMPT_TOKENS, num_second),
    ]
    # Who has nothing to add is paid nothing.
    costs = [num_prompt + 2 * num_first, 3 * PROMPT_TOKENS + 5 * num_second if num_second else 0]
    assert [dollars(attempt["cost"]) for attempt in attempts] == [Decimal(cost) / 10**6 for cost in costs]
    assert dollars(record["total_cost"]) == dollars(usage.model_extra["cost"]) == Decimal(sum(costs)) / 10**6
    assert attempts[0]["error"]


def dollars(number: float) -> Decimal:
    return Decimal(repr(number))


async def test_what_breaks_before_the_first_text_is_not_gone_on_with(tmp_path: Path) -> None:
    cases = [
        Case(fault, (BreakingServer(TEXT, stop=broken(0, steps, b'data: {"id": "x')), BreakingServer(TEXT)))
        for fault, steps in FAULTS.items()
    ]

    async def check(service: Hodios, number: int) -> None:
        told = await service.stream(number)
        record = await service.generation(told.id)
        assert (told.text, told.codes) == (TEXT, [])
        assert told.usage.prompt_tokens == PROMPT_TOKENS
        assert [attempt["outcome"] for attempt in record["route"]["attempts"]] == ["failed", "answered"]
        assert record["total_cost"] == record["route"]["attempts"][1]["cost"]

    await all_of(tmp_path, cases, check)


async def test_an_answer_in_one_piece_is_gone_on_with_too(tmp_path: Path) -> None:
    first, second = BreakingServer(TEXT, stop=broken(5, (HANG,))), BreakingServer(TEXT)
    first.is_seen.set()
    async with hodios(tmp_path, [Case("", (first, second))], **KINDS["prefilled chats"]) as service:
        answer = await service.client.chat.completions.create(
            model=model_of(0), messages=[{"role": "user", "content": QUESTION}]
        )
    assert answer.choices[0].message.content == TEXT
    assert second.begun == ["".join(PIECES[:5])]
    assert answer.model_extra is not None
    assert [warning["code"] for warning in answer.model_extra["warnings"]] == ["continued"]


ARGUMENTS = '{"city": "Zürich 🙂", "days": [1, {"a": null}]}'
CALL = ("get_weather", [ARGUMENTS[at : at + 5] for at in range(0, len(ARGUMENTS), 5)])
WRITTEN = f'<tool_call>\n{{"name": "get_weather", "arguments": {ARGUMENTS}}}\n</tool_call>'
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def calling(before: str, steps: tuple[Step, ...], *, is_native: bool) -> Case:
    """A server that breaks off in the middle of the arguments."""
    text, call = (before, CALL) if is_native else (f"{before}\n{WRITTEN}".lstrip(), None)
    whole = BreakingServer(text, call)
    events = whole.events(is_raw=not is_native)
    place, data = next(each for each in enumerate(map(written, events)) if "ü".encode() in each[1])
    first = BreakingServer(text, call, Break(place, before, data[: data.index("ü".encode()) + 1], steps))
    return Case(before, (first, whole))


@pytest.mark.parametrize("is_native", [True, False])
async def test_a_call_that_breaks_off_is_made_once(is_native: bool, tmp_path: Path) -> None:
    """Nobody has seen anything of it before it was whole."""
    texts = ("", "Let me look.")
    cases = [calling(text, steps, is_native=is_native) for text in texts for steps in FAULTS.values()]

    async def check(service: Hodios, number: int) -> None:
        before, second = cases[number].title, cases[number].servers[1]
        told = await service.stream(number, tools=[WEATHER])
        record = await service.generation(told.id)
        ((name, arguments),) = told.calls
        assert (told.text, name, json.loads(arguments)) == (before, "get_weather", json.loads(ARGUMENTS))
        assert (told.finish_reason, told.codes) == ("tool_calls", ["continued"] if before else [])
        assert second.begun == [before]
        outcomes = [attempt["outcome"] for attempt in record["route"]["attempts"]]
        assert outcomes == ["broke_off" if before else "failed", "answered"]

    row, kind = ({"features": ("tools",)}, "prefilled chats") if is_native else ({}, "completions")
    await all_of(tmp_path, cases, check, row, **KINDS[kind])


def text_in(line: str) -> str:
    if not line.startswith("data: {"):
        return ""
    choices = json.loads(line.removeprefix("data: "))["choices"]
    return "".join(choice.get("delta", {}).get("content") or "" for choice in choices)


@pytest.mark.parametrize("is_second_able", [True, False])
async def test_where_nobody_goes_on_the_stream_ends_in_an_error(is_second_able: bool, tmp_path: Path) -> None:
    """Because the second one breaks off as well, after three more pieces, or cannot go on."""
    cases = []
    for fault, steps in FAULTS.items():
        later = Break(3, "".join(PIECES[:9]), b"", steps) if is_second_able else None
        servers = (BreakingServer(TEXT, stop=broken(6, steps)), BreakingServer(TEXT, stop=later))
        cases.append(Case(fault, servers))

    async def check(service: Hodios, number: int) -> None:
        body = {"model": model_of(number), "messages": [{"role": "user", "content": QUESTION}], "stream": True}
        lines, told = [], ""
        async with service.http.stream("POST", "/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                lines.append(line)
                told += text_in(line)
                cases[number].notice(told)
        *chunks, last = stream_events("\n".join([*lines, ""]))
        assert told == "".join(PIECES[: 9 if is_second_able else 6])
        assert not any("error" in chunk for chunk in chunks)
        assert last["error"]["code"] == ("timeout" if cases[number].title == "silence" else "provider_error")
        assert [choice["finish_reason"] for choice in last["choices"]] == ["error"]
        record = await service.generation(chunks[0]["id"])
        outcomes = [attempt["outcome"] for attempt in record["route"]["attempts"]]
        assert outcomes == ["broke_off"] * (2 if is_second_able else 1)
        assert record["error"]

    await all_of(tmp_path, cases, check, {"continues": is_second_able}, **KINDS["prefilled chats"])


def _is_loaded(live: LiveServer) -> bool:
    return all(model["state"] == "ready" for model in live.get("/health")[1]["models"])


async def test_the_engine_on_this_machine_goes_on(start_server: Callable[..., LiveServer]) -> None:
    """With `hodios serve` whole, and the starter model."""
    shown = "The capital of Switzerland is B"
    other = BreakingServer(f"{shown}€", stop=Break(11, shown, written(said("€"))[:-20], (RESET,)))
    told = Told()
    async with serving(other.wire) as fake:
        row = {"id": STARTER, "context_length": 2048, "price": {"prompt": "1", "completion": "2"}}
        section = json.dumps({"other": {"base_url": fake.url, "models": [row]}})
        live = await asyncio.to_thread(start_server, HODIOS_REMOTE=section, HODIOS_CONTEXT_LENGTH="1024")
        # It tells its address as soon as anybody can be asked.
        await asyncio.to_thread(until, lambda: _is_loaded(live), live.told)
        async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key=live.key, max_retries=0) as client:
            chunks = await client.chat.completions.create(
                model=STARTER,
                messages=[{"role": "user", "content": QUESTION}],
                stream=True,
                stream_options={"include_usage": True},
                temperature=0,
                max_tokens=20,
                extra_body={"provider": {"order": ["other", "local"]}},
            )
            async for chunk in chunks:
                told.take(chunk)
                if told.text.startswith(shown):
                    other.is_seen.set()
        _, record = await asyncio.to_thread(live.get, f"/v1/generation?id={told.id}")
    assert live.stop() == 0
    assert told.text.startswith(shown)
    assert len(told.text) > len(shown)
    assert told.codes == ["continued"]
    broken, answered = record["data"]["route"]["attempts"]
    assert [(each["provider"], each["outcome"]) for each in (broken, answered)] == [
        ("other", "broke_off"),
        ("local", "answered"),
    ]
    assert told.usage.completion_tokens == broken["completion_tokens"] + answered["completion_tokens"] <= 20
    assert (dollars(broken["cost"]), answered["cost"]) == (Decimal(6 + 2 * 11) / 10**6, 0)
