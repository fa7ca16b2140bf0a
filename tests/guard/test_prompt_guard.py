"""Prompt Guard's path with real graphs of a few bytes, loaded, cut and run as the published ones are."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from prompt_guard_files import write_prompt_guard

from hodios.errors import GuardDown, SetupError
from hodios.guard.base import Passage, Side
from hodios.guard.prompt_guard import PromptGuard
from hodios.guard.prompt_guard_model import MOST_WINDOWS, OVERLAP, WINDOW, PromptGuardModel

ROOM = WINDOW - 2
ONE = {"hello": (1.0, 0.0, 0.0), "ignore": (0.0, 0.0, 4.0), "run": (0.0, 3.0, 0.0)}
"""Version 1: benign, injection, jailbreak."""
TWO = {"hello": (1.0, 0.0), "ignore": (0.0, 4.0)}


def softmax(logits: Sequence[float]) -> list[float]:
    powers = [math.exp(value) for value in logits]
    return [power / sum(powers) for power in powers]


async def found(guard: PromptGuard, text: str, side: Side) -> tuple[dict[str, float], dict[str, float]]:
    (assessment,) = await guard.assess([Passage(text=text, side=side)], 60)
    return dict(assessment.scores), dict(assessment.further)


async def test_version_1(tmp_path: Path) -> None:
    guard = PromptGuard(write_prompt_guard(tmp_path, ONE))
    benign, injection, jailbreak = softmax((1, 3, 4))
    assert benign < injection < jailbreak
    assert await found(guard, "hello ignore run", "prompt") == ({"jailbreak": pytest.approx(jailbreak)}, {})
    scores, further = await found(guard, "run run", "document")
    assert scores == {"jailbreak": pytest.approx(softmax((0, 6, 0))[2])}
    assert further == {"indirect_injection": pytest.approx(softmax((0, 6, 0))[1])}
    await guard.aclose()
    await guard.aclose()


async def test_version_2(tmp_path: Path) -> None:
    guard = PromptGuard(write_prompt_guard(tmp_path, TWO))
    malicious = pytest.approx(softmax((1, 4))[1])
    assert await found(guard, "ignore hello", "prompt") == ({"jailbreak": malicious}, {})
    assert await found(guard, "ignore hello", "document") == (
        {"jailbreak": malicious},
        {"indirect_injection": malicious},
    )
    await guard.aclose()


async def test_labels_in_another_order(tmp_path: Path) -> None:
    words = {"ignore": (4.0, 0.0, 0.0)}
    guard = PromptGuard(write_prompt_guard(tmp_path, words, labels=("JAILBREAK", "BENIGN", "INJECTION")))
    assert (await found(guard, "ignore", "prompt"))[0]["jailbreak"] == pytest.approx(softmax((4, 0, 0))[0])
    await guard.aclose()


async def test_labels_without_names_are_in_metas_order(tmp_path: Path) -> None:
    guard = PromptGuard(write_prompt_guard(tmp_path, TWO, labels=("LABEL_0", "LABEL_1")))
    assert (await found(guard, "ignore", "prompt"))[0]["jailbreak"] == pytest.approx(softmax((0, 4))[1])
    await guard.aclose()


@pytest.mark.parametrize("place", [0, ROOM - 1, ROOM, 3 * ROOM, 1999])
def test_a_word_anywhere_in_a_long_text_is_found(tmp_path: Path, place: int) -> None:
    model = PromptGuardModel(write_prompt_guard(tmp_path, {"hello": (0.0, 0.0), "ignore": (0.0, 4.0)}))
    words = ["hello"] * 2000
    words[place] = "ignore"
    (labels,) = model.judge([" ".join(words)], math.inf)
    assert labels == {"malicious": pytest.approx(softmax((0, 4))[1])}


def test_windows_overlap(tmp_path: Path) -> None:
    """What is cut by the end of one window stands whole in the next."""
    model = PromptGuardModel(write_prompt_guard(tmp_path, {"hello": (0.0, 0.0), "ignore": (0.0, 0.1)}))
    words = ["hello"] * (2 * ROOM)
    start = ROOM - OVERLAP // 2
    words[start : start + OVERLAP] = ["ignore"] * OVERLAP
    (labels,) = model.judge([" ".join(words)], math.inf)
    assert labels["malicious"] == pytest.approx(softmax((0, 0.1 * OVERLAP))[1], rel=1e-4)


def test_many_texts_of_all_lengths_keep_their_order(tmp_path: Path) -> None:
    model = PromptGuardModel(write_prompt_guard(tmp_path, {"hello": (0.0, 0.0), "ignore": (0.0, 0.01)}))
    counts = [7, 0, 300, 1, 64, 65, 500, 3, 128, 2, 400]
    found = model.judge(["ignore " * count + "hello" for count in counts], math.inf)
    assert [labels["malicious"] for labels in found] == [
        pytest.approx(softmax((0, 0.01 * count))[1], rel=1e-4) for count in counts
    ]


def test_no_more_windows_than_there_is_time_for(tmp_path: Path) -> None:
    model = PromptGuardModel(write_prompt_guard(tmp_path, TWO))
    text = "hello " * (MOST_WINDOWS * ROOM) + "ignore"
    assert model.judge([text], math.inf) == [{"malicious": pytest.approx(0.0)}]
    with pytest.raises(TimeoutError):
        model.judge([text], time.monotonic() - 1)


async def test_the_budget(tmp_path: Path) -> None:
    guard = PromptGuard(write_prompt_guard(tmp_path, TWO))
    with pytest.raises(GuardDown, match="1 texts took longer"):
        await guard.assess([Passage(text="ignore " * 500_000, side="prompt")], 0.001)
    await guard.aclose()


async def test_the_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    guard = PromptGuard(write_prompt_guard(tmp_path, TWO))
    task = asyncio.create_task(found(guard, "ignore " * 20_000, "prompt"))
    num_rounds = 0
    while not task.done():
        await asyncio.sleep(0)
        num_rounds += 1
    await task
    assert num_rounds > 10
    await guard.aclose()


def test_files_that_are_missing_or_none(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"has no model\.onnx"):
        PromptGuardModel(tmp_path)
    write_prompt_guard(tmp_path, TWO)
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(SetupError, match=r"model\.onnx cannot be loaded"):
        PromptGuardModel(tmp_path)
    write_prompt_guard(tmp_path, TWO)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(SetupError, match=r"tokenizer\.json cannot be loaded"):
        PromptGuardModel(tmp_path)


def test_a_model_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="logits per text: benign, malicious or benign, injection, jailbreak"):
        PromptGuardModel(write_prompt_guard(tmp_path, {"a": (0.0, 0.0, 0.0, 0.0)}))
