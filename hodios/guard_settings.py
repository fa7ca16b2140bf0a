"""What guards look at and what follows from it, as the settings say: the section `[guard]`, and policies of keys and
projects. Refuses what it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from hodios.sections import parse_section
from hodios.types import Category

Action = Literal["off", "annotate", "block"]
WhenDown = Literal["open", "closed"]
Score = Annotated[float, Meta(ge=0, le=1)]
Bar = Score | Literal["never"]
"""The score from which something follows."""


Seconds = Annotated[float, Meta(gt=0, le=60)]
Code = Annotated[str, Meta(pattern=r"^S([1-9]|1[0-4])$")]


class GuardPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What somebody wants of the guards; None and categories that are missing: says nothing of it."""

    prompt: Action | None = None
    answer: Action | None = None
    when_down: WhenDown | None = None
    """Whether what is to be blocked passes unjudged where a guard cannot judge."""
    flag_at: Mapping[Category, Bar] = {}
    """The score from which a category counts as detected."""
    block_at: Mapping[Category, Bar] = {}
    """The score from which it is blocked, where its side is; where missing, as `flag_at`."""


NO_POLICY = GuardPolicy()


class GuardSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the operator chose."""

    embedded: bool = True
    """Whether the guard that is built in looks at texts, in a process of its own."""
    injection_rules: bool = True
    """Whether rules look for orders to the model in results of tools and in documents."""
    llama_guard: str = ""
    """The id of a Llama Guard 3 among the models that are served; "": none."""
    llama_guard_route: Literal["completions", "chat"] = "completions"
    """`chat` for servers whose chat template is Llama Guard's own."""
    llama_guard_categories: tuple[Code, ...] = ()
    """What it is asked about, of S1 to S14; empty: all. The 1B model knows all but S14."""
    llama_guard_budget_s: Seconds = 5.0
    """As `budget_s`, of this one alone: it is a model, which reads the conversation and writes a verdict."""
    prompt_guard: str = ""
    """The folder with the files of a Prompt Guard; "": none."""
    prompt_guard_budget_s: Seconds = 1.0
    code_shield: str = ""
    """A Python that has CodeShield; "": none."""
    code_shield_budget_s: Seconds = 5.0
    """The first code waits for its process to start."""
    budget_s: Seconds = 0.25
    """For how long an answer, or a prompt that may be blocked, waits for the embedded guard and for rules."""
    prompt: Action = "annotate"
    answer: Action = "annotate"
    when_down: WhenDown = "open"
    flag_at: Mapping[Category, Bar] = {}
    """Where missing, the score that guards are tuned for."""
    block_at: Mapping[Category, Bar] = {}

    @property
    def policy(self) -> GuardPolicy:
        """Of whoever has no other."""
        return GuardPolicy(
            prompt=self.prompt,
            answer=self.answer,
            when_down=self.when_down,
            flag_at=self.flag_at,
            block_at=self.block_at,
        )


def parse(value: object) -> GuardSettings:
    """The table below `[guard]`, or that table as JSON text. Raises ConfigError."""
    return parse_section(value, GuardSettings, "guard")


def write(settings: GuardSettings) -> str:
    """As JSON that `parse` reads."""
    return msgspec.json.encode(settings).decode()
