"""`hodios chat` with tools and schemas against the starter model, which is small, but cannot help answering in form."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live_server import MODEL, LiveServer
from scripted_server import Said

from hodios.cli.tools import Toolbox
from hodios.providers.client import Client

Chat = Callable[..., Said]
TOOLS = '''
import dataclasses
from typing import Literal


@dataclasses.dataclass
class Place:
    city: Literal["Paris", "Rome"]
    country: Literal["France", "Italy"] | None = None


def get_current_temperature(place: Place, unit: Literal["celsius", "fahrenheit"]) -> float:
    """Get the current temperature at a place.

    Args:
        place: Where
        unit: The unit to return the temperature in
    """
    return 22.0
'''


@pytest.fixture
def live(live_server: LiveServer, hodios_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LiveServer:
    """The environment's commands ask it; `my_tools.py` is in the working directory."""
    monkeypatch.setenv("HODIOS_PORT", live_server.url.rpartition(":")[2])
    monkeypatch.setenv("HODIOS_ADMIN_KEY", live_server.key)
    (tmp_path / "my_tools.py").write_text(TOOLS)
    return live_server


def test_an_answer_has_the_form_that_was_asked_for(live: LiveServer, chat: Chat) -> None:
    ended = chat("--schema", "my_tools.py:Place", "--max-tokens", "100", "Where is the Colosseum?")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["city"] in ("Paris", "Rome")


def test_a_conversation_with_tools_comes_to_an_end(live: LiveServer, chat: Chat) -> None:
    question = "What is the temperature in Paris, in celsius?"
    ended = chat("--tools", "my_tools.py", "--yes", "--max-rounds", "2", "--max-tokens", "60", question)
    assert "status 4" not in ended.err
    assert "status 5" not in ended.err
    assert ended.code == 0 or "still calls tools after 2 rounds" in ended.err


async def test_calls_that_are_required_can_be_made(live: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    tools = Toolbox([Path("my_tools.py")], asks=False)
    messages: list[dict[str, Any]] = [{"role": "user", "content": "How warm is it in Rome?"}]
    options = {"tools": tools.definitions, "tool_choice": "required", "parallel_tool_calls": False, "temperature": 0}
    async with Client(live.url, live.key) as client:
        pieces = [piece async for piece in client.chat(MODEL, messages, **options)]
        (made,) = pieces[-1].calls
        assert made.name == "get_current_temperature"
        assert tools.answer(made) == "22.0", made.arguments
        written = {"id": made.id, "type": "function", "function": {"name": made.name, "arguments": made.arguments}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [written]})
        messages.append({"role": "tool", "tool_call_id": made.id, "content": "22.0"})
        last = client.chat(MODEL, messages, tools=tools.definitions, tool_choice="none", max_tokens=20)
        assert "".join([piece.text async for piece in last])
