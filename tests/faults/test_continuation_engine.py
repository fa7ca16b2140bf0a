"""Answers that break off, and the engine on this machine goes on: with the starter model, in full precision.

Nothing that was sent comes again or is lost, and where the cut falls between two tokens, the greedy answer is the one
that nobody broke off.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from bisect import bisect_left
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import precise_engine
import pytest
import pytest_asyncio
from msgspec.structs import replace
from parlour import Heard, hear
from precise_engine import Generated, Precise

from hodios.errors import ProviderError
from hodios.events import Event, Finish, Noticed, Stopped, Text, ToolCall
from hodios.gateway import Gateway
from hodios.providers.base import ModelHealth
from hodios.providers.prepared import Prepared
from hodios.router.router import Router
from hodios.types import ModelCard, Request, Routing, Sampling, Tool

pytestmark = pytest.mark.asyncio(loop_scope="module")
NUM_AT_ONCE = 16
LEAST_GAP = 1e-3
"""Between the two most likely tokens, in log-probabilities. How a prompt is cut into steps moves them by far less."""
GREEDY = Sampling(temperature=0.0)
WEATHER = Tool(
    "get_weather",
    "The weather.",
    {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer"}},
        "required": ["city", "days"],
    },
)


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": ({"role": "user", "content": text},), **fields}


def raw(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"prompts": (prompt,), **fields}


PROMPTS: dict[str, dict[str, Any]] = {
    "code": raw("def fibonacci(n):\n", max_tokens=20),
    "emoji": raw("Emoji: 😀 😃 😄", max_tokens=18),
    "chat": chat("What is the capital of Switzerland?", max_tokens=20),
    "call": chat(
        "What will the weather be in Zürich?",
        tools=(WEATHER,),
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=60,
    ),
    "prose": raw("Once upon a time, in a small village by the sea, there lived", max_tokens=40),
    "numbers": raw("1, 2, 3, 4,", max_tokens=40),
}
NAMES = [
    "code",
    "emoji",
    "chat",
    "call",
    *(pytest.param(name, marks=pytest.mark.full) for name in ("prose", "numbers")),
]


class BreaksOff:
    """Says what it was given, one event a character, and breaks off after so many."""

    def __init__(self, card: ModelCard, events: Sequence[Event], cut: int) -> None:
        self.name = "broken"
        self._card = card
        self._events = [event for event in events if not isinstance(event, Noticed)][: cut + 1]

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def models(self) -> Sequence[ModelCard]:
        return (self._card,)

    def tokenizer(self, model: str) -> None:
        return None

    def health(self) -> Sequence[ModelHealth]:
        return [ModelHealth(model=self._card.id, state="ready")]

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        for event in self._events:
            yield event
        raise ProviderError("broke off")


def characters(event: Event, num_before: Callable[[int], int], at: int) -> Iterator[Event]:
    """One event for each. `num_before` knows the tokens that have begun within so many characters of the text, of
    which `at` came before."""
    match event:
        case Text():
            for place, character in enumerate(event.text, start=at + 1):
                yield replace(event, text=character, completion_tokens=num_before(place))
        case ToolCall():
            if event.name:
                yield replace(event, arguments="")
            for character in event.arguments:
                yield replace(event, id="", name="", arguments=character)
        case _:
            yield event


@dataclass
class Uncut:
    """The whole answer to a request, and how to break it off."""

    precise: Precise
    request: Request
    heard: Heard
    events: list[Event]
    """The start, and then one for each character and for each head of a call."""
    tokens: list[int]

    @property
    def cuts(self) -> list[int]:
        """All places where something was said, and where there is something left to say."""
        most = self.request.max_tokens
        return [cut for cut in range(1, len(self.events)) if _num_tokens(self.events[cut]) != most]

    def boundaries(self) -> list[int]:
        """Cuts that fall between two tokens."""
        sizes = [len(self.precise.tokenizer.token_bytes(token)) for token in self.tokens]
        ends = set(itertools.accumulate(sizes))
        data = b"".join(map(self.precise.tokenizer.token_bytes, self.tokens))
        shown = (self.heard.calls[0][2] if self.heard.calls else self.heard.text).encode()
        before = data.index(shown)
        return [cut for cut in self.cuts if before + len(self.said(cut).encode()) in ends]

    def said(self, cut: int) -> str:
        """Of the text, or of the call's arguments."""
        sent = Heard(self.events[: cut + 1])
        return sent.calls[0][2] if sent.calls else sent.text

    async def broken_off(self, cut: int, **fields: Any) -> tuple[Heard, Generated]:
        (card,) = self.precise.provider.models()
        first = BreaksOff(card, self.events, cut)
        request = replace(self.request, routing=Routing(order=("broken", "local")), **fields)
        heard = await hear(Gateway([first, self.precise.provider], Router()), request)
        task = asyncio.current_task()
        assert task is not None
        return heard, self.precise.generated[task.get_name()]

    async def all_broken_off(self, cuts: Sequence[int], **fields: Any) -> list[tuple[int, Heard, Generated]]:
        """Several at once, each in a task of its own."""
        turns = asyncio.Semaphore(NUM_AT_ONCE)

        async def one(cut: int) -> tuple[int, Heard, Generated]:
            async with turns:
                return (cut, *await self.broken_off(cut, **fields))

        return await asyncio.gather(*(asyncio.create_task(one(cut), name=f"cut {cut}") for cut in cuts))


def _num_tokens(event: Event) -> int | None:
    return event.completion_tokens if isinstance(event, Text) else None


def is_whole(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


async def uncut(precise: Precise, fields: dict[str, Any]) -> Uncut:
    request = Request(**{"id": "chat-1", "model": precise.model, "sampling": GREEDY, **fields})
    heard = await hear(Gateway([precise.provider]), request)
    assert heard.error is None, heard.error.message
    task = asyncio.current_task()
    assert task is not None
    tokens = precise.generated[task.get_name()].tokens
    ends = list(itertools.accumulate(len(precise.tokenizer.token_bytes(token)) for token in tokens))

    def num_before(place: int) -> int:
        return bisect_left(ends, len(heard.text[:place].encode())) + 1

    shown: list[Event] = []
    num_characters = 0
    for event in heard.events:
        if not isinstance(event, Stopped | Finish | Noticed):
            shown += characters(event, num_before, num_characters)
            num_characters += len(event.text) if isinstance(event, Text) else 0
    return Uncut(precise, request, heard, shown, tokens)


@pytest.fixture(scope="module")
def worker(cache_home: Path, starter_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    with precise_engine.running(cache_home, tmp_path_factory.mktemp("precise") / "log.txt") as prepared:
        yield prepared


Ask = Callable[[str], Awaitable[Uncut]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ask(worker: Prepared) -> AsyncIterator[Ask]:
    """For the whole answer to one of the prompts; each is asked for once."""
    found: dict[str, Uncut] = {}
    async with precise_engine.connected(worker) as precise:

        async def ask(name: str) -> Uncut:
            if name not in found:
                found[name] = await uncut(precise, PROMPTS[name])
            return found[name]

        yield ask


Sample = Callable[[Sequence[int], int], Sequence[int]]


@pytest.fixture
def sample(request: pytest.FixtureRequest) -> Sample:
    """So many of them, always the same; with --full all."""
    if request.config.getoption("--full"):
        return lambda options, num: options
    return lambda options, num: random.Random(1).sample(options, min(num, len(options)))


def check_parts(heard: Heard) -> None:
    assert heard.error is None, heard.error.message
    assert heard.codes == ["continued"]
    assert heard.outcomes == [("broken", "broke_off"), ("local", "answered")]


def spelled(whole: Uncut, tokens: Sequence[int]) -> bytes:
    tokenizer = whole.precise.tokenizer
    return b"".join(tokenizer.token_bytes(token) for token in tokens if token not in tokenizer.eos_ids)


def check_tokens(whole: Uncut, heard: Heard, generated: Generated) -> None:
    """What the engine was given and what it said make the answer. It may say more than is wanted: nobody knows how many
    tokens it takes for what comes again."""
    said = spelled(whole, generated.answer).decode(errors="ignore")
    if heard.calls:
        ((_, name, arguments),) = heard.calls
        assert (name, set(json.loads(arguments))) == ("get_weather", {"city", "days"})
        assert said.count(arguments) == 1
    else:
        assert said.startswith(heard.text)


async def check_likely(whole: Uncut) -> None:
    """That no token of it is about as likely as another."""
    fields = {"sampling": replace(GREEDY, logprobs=2), "id": "chat-2"}
    seen = await hear(Gateway([whole.precise.provider]), replace(whole.request, **fields))
    entries = [entry for event in seen.events if isinstance(event, Text) for entry in event.logprobs]
    assert [entry.token_id for entry in entries] == [
        token for token in whole.tokens if token not in whole.precise.tokenizer.eos_ids
    ]
    assert min(entry.top[0][3] - entry.top[1][3] for entry in entries) > LEAST_GAP


@pytest.mark.parametrize("name", NAMES)
async def test_nobody_notices_a_cut_between_two_tokens(ask: Ask, name: str, sample: Sample) -> None:
    whole = await ask(name)
    if not whole.heard.calls:
        await check_likely(whole)
    boundaries = whole.boundaries()
    assert len(boundaries) >= 5
    for cut, heard, generated in await whole.all_broken_off(sample(boundaries, 4)):
        check_parts(heard)
        assert heard.answer == whole.heard.answer, cut
        assert generated.answer[: len(whole.tokens)] == whole.tokens, cut
        if not heard.calls:  # Of a call it is not known after which character each token came.
            assert heard.finish.usage.completion_tokens == whole.heard.finish.usage.completion_tokens, cut


@pytest.mark.parametrize("name", NAMES)
async def test_nothing_is_repeated_or_lost_wherever_it_breaks(ask: Ask, name: str, sample: Sample) -> None:
    whole = await ask(name)
    for cut, heard, generated in await whole.all_broken_off(sample(whole.cuts, 4)):
        check_parts(heard)
        check_tokens(whole, heard, generated)
        assert (heard.calls[0][2] if heard.calls else heard.text).startswith(whole.said(cut)), cut
        assert heard.finish.usage.completion_tokens <= PROMPTS[name]["max_tokens"]


async def test_a_stop_string_ends_it_wherever_it_began(ask: Ask, sample: Sample) -> None:
    whole = await ask("code")
    stop = "fibonacci(n):\n"
    text, stop_at = whole.heard.text, whole.heard.text.index(stop)
    cuts = [cut for cut in whole.cuts if cut < stop_at + len(stop)]
    for cut, heard, _ in await whole.all_broken_off(sample(cuts, 4), stop=(stop,)):
        check_parts(heard)
        assert heard.text.startswith(text[:cut])
        assert stop not in heard.text
        if cut in whole.boundaries():
            assert heard.text == text[: max(cut, stop_at)]
            assert heard.answer[3] == [Stopped(0, "stop", stop)]
