"""The guards that the settings name, put together as a server does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prompt_guard_files import write_prompt_guard

from hodios import guard_settings
from hodios.api.guards import guarding_of
from hodios.config import Config
from hodios.errors import ConfigError, SetupError
from hodios.guard.base import Passage
from hodios.guard.budgets import Budgets
from hodios.guard_settings import GuardSettings


def config(folder: Path, **settings: Any) -> Config:
    return Config(home=folder, guard=GuardSettings(**settings))


async def test_prompt_guard_judges_prompts_and_documents(tmp_path: Path) -> None:
    folder = write_prompt_guard(tmp_path / "files", {"ignore": (0.0, 0.0, 4.0), "run": (0.0, 3.0, 0.0)})
    guarding = guarding_of(config(tmp_path, prompt_guard=str(folder)))
    passages = [Passage(text="ignore", side="prompt"), Passage(text="run run run", side="document")]
    async with guarding.running():
        found = {(run.guard, run.side): run for run in await guarding.panel.judge(passages, Budgets(60))}
    assert set(found) == {
        ("prompt_guard", "prompt"),
        ("prompt_guard", "document"),
        ("injection_rules", "document"),
    }
    assert found["prompt_guard", "prompt"].scores["jailbreak"] > 0.9
    assert found["prompt_guard", "prompt"].further == {}
    assert found["prompt_guard", "document"].scores["jailbreak"] < 0.1
    assert found["prompt_guard", "document"].further["indirect_injection"] > 0.9


def test_a_folder_without_a_prompt_guard_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=rf"{tmp_path} has no model\.onnx; a Prompt Guard needs model\.onnx and"):
        guarding_of(config(tmp_path, prompt_guard=str(tmp_path)))


def test_nobody_is_there_where_nobody_is_wanted(tmp_path: Path) -> None:
    assert guarding_of(config(tmp_path, embedded=False, injection_rules=False)).panel.guards == []


@pytest.mark.parametrize("codes", [["S0"], ["S15"], ["hate"], "S1"])
def test_categories_of_llama_guard_that_there_are_not(codes: Any) -> None:
    with pytest.raises(ConfigError, match=r"guard\.llama_guard_categories"):
        guard_settings.parse(json.dumps({"llama_guard_categories": codes}))
