"""What `hodios serve` says when it is up: who has how many models, who is still loading, and whom the line asks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from hodios.cli.announcement import LOCAL, lines, state_of_all
from hodios.providers.report import ModelAtProvider
from hodios.types import ModelCard

SMOL = ModelCard(id="smol", context_length=1, max_output_tokens=1, quantization="Q4_1", size_bytes=98_000_000)


def at(provider: str, model: str, state: str = "ready") -> ModelAtProvider:
    return ModelAtProvider(model, provider, state)


def told(states: Sequence[ModelAtProvider], cards: Sequence[ModelCard] = (), providers: Sequence[str] = ()) -> str:
    return "\n".join(lines(states, cards, providers, url="http://h", key="k", page="http://h/ui/login#code=c"))


def test_everyone_is_told_of_with_their_models() -> None:
    states = [at("big", "a", "loading"), at("big", "b"), *(at("many", f"m{n}") for n in range(4)), at(LOCAL, "smol")]
    text = told(states, [SMOL], ["launch", "big", "many"])
    assert "serves at http://h (OpenAI-compatible; base URL http://h/v1):" in text
    assert "\n  smol  Q4_1  98.0 MB\n  no models from launch yet\n  2 models from big: a, b  (1 loading)\n" in text
    assert "\n  4 models from many, see: " in text


def test_a_provider_that_came_later_is_told_of_too() -> None:
    assert "  1 model from late: x\n" in told([at("late", "x")])


@pytest.mark.parametrize(
    ("states", "model"),
    [
        ([at("paid", "p"), at(LOCAL, "smol")], "smol"),
        ([at("paid", "p"), at("own", "o"), at(LOCAL, "smol", "loading")], "o"),
        ([at("own", "o", "restarting"), at("paid", "p")], "p"),
    ],
)
def test_the_line_asks_the_nearest_model_that_can_answer(states: list[ModelAtProvider], model: str) -> None:
    text = told(states, [SMOL], ["own", "paid"])
    assert f'"model": "{model}"' in text
    assert ("(loading)" in text) is any(each.state != "ready" for each in states)


def test_without_a_model_that_can_answer_there_is_no_line() -> None:
    text = told([at("own", "o", "loading")], [], ["own", "openai"])
    assert "curl" not in text
    assert "No model can answer yet" in text
    assert "  no models from openai yet" in text
    assert text.endswith("Stop it: Ctrl-C\n")


class Server:
    """Answers with each of `reports` in turn, and with the last one from then on."""

    def __init__(self, *reports: Sequence[ModelAtProvider] | None) -> None:
        self.reports = list(reports)
        self.num_asked = 0

    async def states(self) -> list[ModelAtProvider] | None:
        self.num_asked += 1
        report = self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]
        return None if report is None else list(report)


async def awaited(server: Any, own: Sequence[str], times: Sequence[float] = ()) -> list[ModelAtProvider]:
    """`times`: what the clock says; the last of them from then on."""
    left = list(times or [0.0])
    async with asyncio.timeout(60):
        return await state_of_all(server, lambda: own, lambda: left.pop(0) if len(left) > 1 else left[0])


async def test_all_that_load_are_waited_for() -> None:
    whole = [at(LOCAL, "smol"), at("own", "o"), at("paid", "p")]
    server = Server(None, [at("paid", "p")], [at("paid", "p"), at("own", "o")], whole)
    assert await awaited(server, ["smol", "own"]) == whole
    assert server.num_asked == 4


async def test_one_that_takes_long_is_waited_for_only_until_another_has_been_ready_for_a_while() -> None:
    server = Server([at(LOCAL, "smol", "loading")], [at(LOCAL, "smol")])
    assert await awaited(server, ["smol", "slow"], [0.0, 1.0, 4.9, 5.0]) == [at(LOCAL, "smol")]


async def test_where_nothing_loads_lists_are_waited_for_a_while() -> None:
    assert await awaited(Server([], [], [at("paid", "p")]), []) == [at("paid", "p")]
    assert await awaited(Server([]), [], [0.0, 1.0, 5.0]) == []
