from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from unrouted import unrouted

from hodios.errors import ModelNotFound, Overloaded, ProviderError, UnsupportedParameter
from hodios.events import Event, Finish, Noticed, Reasoning, Started, Stopped, Text, ToolCall, Usage
from hodios.gateway import FURTHER_CALLS, Gateway
from hodios.providers.base import ModelHealth
from hodios.types import ModelCard, Request, Warning

STARTED = Started("one", "maker/Model-A", "fp_0", 3)
FINISH = Finish(usage=Usage(prompt_tokens=3, completion_tokens=1))


def card(model: str, *aliases: str) -> ModelCard:
    return ModelCard(id=model, aliases=aliases, context_length=10, max_output_tokens=5)


class Played:
    def __init__(self, name: str, cards: Sequence[ModelCard], script: Sequence[Event | Exception] = ()) -> None:
        self.name = name
        self.cards = list(cards)
        self.script = script
        self.asked: list[Request] = []
        self.num_open = 0

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...

    def models(self) -> Sequence[ModelCard]:
        return self.cards

    def tokenizer(self, model: str) -> None:
        return None

    def health(self) -> Sequence[ModelHealth]:
        return [ModelHealth(model=entry.id, state="ready") for entry in self.cards]

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        self.asked.append(request)
        self.num_open += 1
        try:
            for step in self.script:
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.num_open -= 1


def request(model: str = "maker/Model-A", n: int = 1, prompts: tuple[str, ...] = ("x",)) -> Request:
    return Request(id="cmpl-0", model=model, prompts=prompts, n=n)


async def events_of(script: Sequence[Event | Exception], asked: Request) -> list[Event]:
    gateway = Gateway([Played("one", [card("maker/Model-A")], script)])
    async with aclosing(gateway.generate(asked)) as events:
        return unrouted([event async for event in events])


@pytest.mark.parametrize(
    "name",
    ["maker/Model-A", "MAKER/model-a", "a-alias", "A-ALIAS", "one/maker/Model-A", "ONE/a-alias", "maker/Model-A:nitro"],
)
def test_every_spelling_of_a_model_finds_it(name: str) -> None:
    gateway = Gateway([Played("one", [card("maker/Model-A", "a-alias")]), Played("two", [card("maker/Model-B")])])
    assert gateway.resolve(name).card.id == "maker/Model-A"


def test_the_first_provider_answers_and_the_prefix_chooses_another() -> None:
    one, two = Played("one", [card("m")]), Played("two", [card("m")])
    gateway = Gateway([one, two])
    assert gateway.resolve("m").provider is one
    assert gateway.resolve("two/m").provider is two
    assert [seat.provider.name for seat in gateway.seats()] == ["one", "two"]
    assert [name for name, _ in gateway.health()] == ["one", "two"]


def test_an_id_with_a_variants_ending_of_its_own_is_taken_as_it_is() -> None:
    gateway = Gateway([Played("one", [card("m"), card("m:free")])])
    assert gateway.resolve("m:free").card.id == "m:free"
    assert gateway.resolve("m:floor").card.id == "m"


def test_a_missing_model_names_the_closest_ids() -> None:
    gateway = Gateway([Played("one", [card("maker/Model-A"), card("other/thing")])])
    with pytest.raises(ModelNotFound) as caught:
        gateway.resolve("maker/modl-a")
    assert "maker/Model-A" in caught.value.message
    assert caught.value.param == "model"
    assert caught.value.metadata == {"closest": ["maker/Model-A"]}


@given(st.text(max_size=300))
def test_no_name_breaks_the_look_up(name: str) -> None:
    with pytest.raises(ModelNotFound):
        Gateway([Played("one", [card("maker/Model-A")])]).resolve(name)


def test_models_that_come_later_are_found() -> None:
    provider = Played("one", [])
    gateway = Gateway([provider])
    with pytest.raises(ModelNotFound):
        gateway.resolve("late")
    provider.cards.append(card("late"))
    assert gateway.resolve("late").card.id == "late"


async def test_a_provider_that_takes_anothers_place_is_asked_in_its_stead() -> None:
    script = [STARTED, Stopped(0, "stop"), FINISH]
    providers = [Played("one", [card("maker/Model-A")], script)]
    gateway = Gateway(providers)
    for _ in range(2):
        async with aclosing(gateway.generate(request())) as events:
            assert unrouted([event async for event in events]) == script
        assert len(providers[0].asked) == 1
        providers[0] = Played("one", [card("maker/Model-A")], script)


async def test_the_provider_sees_the_catalog_id() -> None:
    provider = Played("one", [card("maker/Model-A", "alias")], [STARTED, Stopped(0, "stop"), FINISH])
    async with aclosing(Gateway([provider]).generate(request("ALIAS"))) as events:
        assert unrouted([event async for event in events]) == [STARTED, Stopped(0, "stop"), FINISH]
    assert provider.asked[0].model == "maker/Model-A"


@pytest.mark.parametrize(
    "script",
    [
        [],
        [Text(0, "early")],
        [FINISH],
        [STARTED],
        [STARTED, STARTED],
        [STARTED, FINISH],
        [STARTED, Text(1, "x")],
        [STARTED, Text(-1, "x")],
        [STARTED, Stopped(0, "stop"), Stopped(0, "stop")],
        [STARTED, Stopped(0, "stop"), Text(0, "late")],
        [STARTED, Stopped(0, "stop")],
        [STARTED, Stopped(0, "stop"), FINISH, FINISH],
        [STARTED, Stopped(0, "stop"), FINISH, Text(0, "late")],
        [STARTED, Stopped(0, "stop"), FINISH, STARTED],
    ],
)
async def test_a_broken_event_order_becomes_a_provider_error(script: list[Event]) -> None:
    with pytest.raises(ProviderError, match="one"):
        await events_of(script, request())


def chat(**values: Any) -> Request:
    values.setdefault("messages", ({"role": "user", "content": "x"},))
    return Request(id="chat-0", model="maker/Model-A", **values)


NOTICE = Noticed(Warning("p", "c", "m"))
CALL = ToolCall(0, 0, "id-0", "f")
MORE = ToolCall(0, 0, arguments="{}")
SECOND = (ToolCall(0, 1, "id-1", "g"), ToolCall(0, 1, arguments="{}"))
CALLED = Stopped(0, "tool_calls")


@pytest.mark.parametrize(
    "middle",
    [
        [Reasoning(0, "a"), Text(0, "b"), Reasoning(0, "c"), Stopped(0, "stop")],
        [NOTICE, Stopped(0, "stop"), NOTICE],
        [CALL, MORE, CALLED],
        [CALL, MORE, *SECOND, MORE, CALLED],
        [Text(0, "a"), CALL, Reasoning(0, "b"), MORE, Text(0, "c"), Stopped(0, "length")],
        [CALL, Stopped(0, "stop")],
    ],
)
async def test_calls_thoughts_and_notices_have_their_order(middle: list[Event]) -> None:
    script = [STARTED, *middle, FINISH]
    assert await events_of(script, chat()) == script


@pytest.mark.parametrize(
    "script",
    [
        [NOTICE],
        [CALL],
        [Reasoning(0, "early")],
        [STARTED, Reasoning(1, "x")],
        [STARTED, ToolCall(1, 0, "id-0", "f")],
        [STARTED, MORE],
        [STARTED, ToolCall(0, 0, "id-0")],
        [STARTED, ToolCall(0, 0, "", "f")],
        [STARTED, ToolCall(0, 1, "id-1", "f")],
        [STARTED, ToolCall(0, -1, "id-1", "f")],
        [STARTED, CALL, CALL],
        [STARTED, CALL, ToolCall(0, -1, arguments="{}")],
        [STARTED, CALL, ToolCall(0, 1, arguments="{}")],
        [STARTED, CALL, ToolCall(0, 0, "id-0", "", "{}")],
        [STARTED, CALL, ToolCall(0, 0, "", "f", "{}")],
        [STARTED, CALL, ToolCall(0, 2, "id-2", "f")],
        [STARTED, CALLED],
        [STARTED, Text(0, "x"), CALLED],
        [STARTED, CALL, CALLED, MORE],
        [STARTED, Stopped(0, "stop"), Reasoning(0, "late")],
        [STARTED, Stopped(0, "stop"), FINISH, NOTICE],
    ],
)
async def test_calls_and_thoughts_out_of_place_become_a_provider_error(script: list[Event]) -> None:
    with pytest.raises(ProviderError, match="one"):
        await events_of(script, chat())


async def test_each_choice_counts_its_own_calls() -> None:
    script: list[Event] = [
        *(STARTED, CALL, ToolCall(1, 0, "id-2", "f"), *SECOND, ToolCall(1, 0, arguments="{}")),
        *(Stopped(1, "tool_calls"), CALLED, FINISH),
    ]
    assert await events_of(script, chat(n=2)) == script
    with pytest.raises(ProviderError):
        await events_of([STARTED, CALL, Stopped(1, "tool_calls")], chat(n=2))


async def test_thoughts_and_calls_are_for_those_who_can_show_them() -> None:
    for asked, event in (
        (request(), CALL),
        (request(), Reasoning(0, "x")),
        (chat(has_reasoning=False), Reasoning(0, "x")),
    ):
        with pytest.raises(ProviderError):
            await events_of([STARTED, event], asked)


async def test_one_call_at_a_time_is_one_call() -> None:
    script: list[Event] = [STARTED, CALL, *SECOND, MORE, ToolCall(0, 2, "id-2", "h"), CALLED, FINISH]
    shown = await events_of(script, chat(parallel_tool_calls=False))
    assert shown == [STARTED, CALL, Noticed(FURTHER_CALLS), MORE, Noticed(FURTHER_CALLS), CALLED, FINISH]


def image(url: str = "http://a") -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": url}]}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (chat(images=("http://a",)), "data"),
        (Request(id="cmpl-0", model="maker/Model-A", prompts=("x",), images=("http://a",)), "data"),
        (chat(messages=({"role": "user", "content": "x"}, image())), "messages[1].content[1]"),
    ],
)
async def test_images_reach_only_those_who_see(asked: Request, param: str) -> None:
    script = [STARTED, Stopped(0, "stop"), FINISH]
    with pytest.raises(UnsupportedParameter, match="no model here reads images") as caught:
        await events_of(script, asked)
    assert caught.value.param == param
    seeing = ModelCard(id="maker/Model-A", context_length=10, max_output_tokens=5, modalities=("text", "image"))
    provider = Played("one", [seeing, card("blind")], script)
    async with aclosing(Gateway([provider]).generate(asked)) as events:
        assert unrouted([event async for event in events]) == script
    assert provider.asked == [asked]
    with pytest.raises(UnsupportedParameter, match="these models read images: maker/Model-A"):
        await anext(Gateway([provider]).generate(structs.replace(asked, model="blind")))


async def test_every_choice_of_every_prompt_must_stop() -> None:
    asked = request(n=2, prompts=("x", "y"))
    stops = [Stopped(index, "stop") for index in range(4)]
    assert await events_of([STARTED, *stops, FINISH], asked) == [STARTED, *stops, FINISH]
    with pytest.raises(ProviderError):
        await events_of([STARTED, *stops[:3], FINISH], asked)


async def test_a_providers_own_error_passes_through() -> None:
    with pytest.raises(Overloaded):
        await events_of([STARTED, Overloaded("full", retry_after=2)], request())


async def test_closing_closes_the_provider_at_once() -> None:
    provider = Played("one", [card("maker/Model-A")], [STARTED, Text(0, "a"), Text(0, "b")])
    events = Gateway([provider]).generate(request())
    assert await anext(events) == STARTED
    assert await anext(events) == Text(0, "a")
    assert provider.num_open == 1
    await events.aclose()
    assert provider.num_open == 0


async def test_a_breach_closes_the_provider() -> None:
    provider = Played("one", [card("maker/Model-A")], [STARTED, STARTED])
    async with aclosing(Gateway([provider]).generate(request())) as events:
        await anext(events)
        with pytest.raises(ProviderError):
            await anext(events)
        assert provider.num_open == 0
