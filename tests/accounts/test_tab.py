"""A request is never thought to have fewer prompt tokens than it has, and costs what was generated of it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hodios.accounts.keyring import Admitted
from hodios.accounts.office import Office, opened
from hodios.accounts.tab import Tab, most_prompt_tokens
from hodios.dialog.profile import Profile
from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.gguf import open_model
from hodios.errors import InsufficientQuota
from hodios.store.records import Budgets, KeyRecord
from hodios.types import Attempt, ModelCard, Price, Request, Tool

DOLLAR = 10**9
CARD = ModelCard(
    id="m",
    provider="x",
    context_length=8192,
    max_output_tokens=4096,
    price=Price(prompt=3 * DOLLAR, completion=7 * DOLLAR, cached=DOLLAR),
)


def request(**values: Any) -> Request:
    return Request(id="chat-1", model="m", **{"messages": ({"role": "user", "content": "hi"},), **values})


@pytest.fixture(scope="module")
def tokenizer(starter_model_path: Path) -> Tokenizer:
    return Tokenizer.from_gguf(open_model(starter_model_path).metadata)


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "user", "assistant"]),
            "content": st.one_of(TEXTS, st.lists(TEXTS.map(lambda text: {"type": "text", "text": text}), max_size=3)),
        }
    ),
    min_size=1,
    max_size=5,
).map(tuple)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MESSAGES, st.lists(TEXTS, max_size=2))
def test_no_prompt_has_more_tokens(tokenizer: Tokenizer, messages: Any, names: list[str]) -> None:
    profile = Profile.for_tokenizer(tokenizer, datetime.now)
    tools = tuple(Tool(f"tool_{number}", description=name) for number, name in enumerate(names))
    asked = request(messages=messages, tools=tools)
    rendered = profile.render(messages, tools=tools)
    assert len(tokenizer.encode_rendered(rendered)) <= most_prompt_tokens(asked)


@given(st.lists(st.one_of(TEXTS, st.lists(st.integers(0, 9), min_size=1).map(tuple)), min_size=1, max_size=3))
def test_no_raw_prompt_has_more_tokens(tokenizer: Tokenizer, prompts: Any) -> None:
    num = sum(len(tokenizer.encode(prompt)) if isinstance(prompt, str) else len(prompt) for prompt in prompts)
    assert num <= most_prompt_tokens(request(messages=None, prompts=tuple(prompts)))


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with opened(tmp_path, f"sqlite:///{tmp_path / 'hodios.db'}") as office:
        yield office


Make = Callable[..., Tab]


@pytest.fixture
def tab_of(office: Office) -> Make:
    def make(**budgets: int) -> Tab:
        name = f"k{random.getrandbits(32)}"
        key = KeyRecord(id=name, prefix="", digest=name.encode(), budgets=Budgets(**budgets), created_at_s=0)
        return Tab(office.accounts, Admitted(key, None))

    return make


def attempt(**values: Any) -> Attempt:
    usual = {"provider": "x", "model": "m", "began_s": 0.0, "first_token_s": 0.1, "ended_s": 1.0, "outcome": "answered"}
    return Attempt(**{**usual, "prompt_tokens": 10, "completion_tokens": 5, "price": CARD.price, **values})


async def test_what_was_generated_is_paid_and_counts_for_the_limits(tab_of: Make) -> None:
    tab = tab_of(total=DOLLAR)
    await tab.reserve(1, CARD, request(max_tokens=100))
    assert tab.progress(1, 10, 0, 5)
    tab.settle(1, attempt())
    assert tab.num_tokens == 15


@pytest.mark.parametrize(
    "values",
    [
        {"first_token_s": None, "outcome": "failed"},
        {"completion_tokens": 0},
        {"outcome": "refused", "completion_tokens": 0},
    ],
)
async def test_what_nobody_has_seen_costs_nothing(tab_of: Make, values: Any) -> None:
    tab = tab_of(total=DOLLAR)
    await tab.reserve(1, CARD, request(max_tokens=100))
    tab.settle(1, attempt(**values))
    assert tab.num_tokens == 0


async def test_what_may_cost_too_much_is_refused_and_what_was_not_reserved_is_not_settled(tab_of: Make) -> None:
    tab = tab_of(daily=1000)
    with pytest.raises(InsufficientQuota, match="this day of this key"):
        await tab.reserve(1, CARD, request(max_tokens=1_000_000))
    tab.settle(1, attempt(completion_tokens=0))
