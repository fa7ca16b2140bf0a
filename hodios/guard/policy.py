"""What follows from what guards say: policies of settings, projects and keys made into one, and its verdicts.

What a project says takes the place of the settings. A key may be stricter than its project, and never laxer; where its
project says nothing, the key says what it wants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from hodios.guard.base import ASKED
from hodios.guard_settings import NO_POLICY, Action, Bar, GuardPolicy
from hodios.types import CATEGORIES, Category, GuardRun, Judgement, Side

DEFAULT_BAR = 0.5
_STRICTNESS: Sequence[Action] = ("off", "annotate", "block")


class Policy(Struct, frozen=True, kw_only=True):
    """Of one request, complete."""

    prompt: Action
    answer: Action
    is_closed: bool
    """Whether nothing that may be blocked passes unjudged."""
    flag_at: Mapping[Category, float]
    """For each category; infinity: never."""
    block_at: Mapping[Category, float]
    least: float = 0.0
    """Nothing follows from scores that are all below."""

    def action(self, side: Side) -> Action:
        return self.answer if side == "answer" else self.prompt

    @property
    def is_off(self) -> bool:
        return self.prompt == self.answer == "off"


def resolved(settings: GuardPolicy, project: GuardPolicy = NO_POLICY, key: GuardPolicy = NO_POLICY) -> Policy:
    """`settings` says what nobody else has said."""
    may_loosen = project == NO_POLICY
    flag_at = {name: _bar("flag_at", name, settings, project, key, DEFAULT_BAR) for name in CATEGORIES}
    block_at = {name: _bar("block_at", name, settings, project, key, flag_at[name]) for name in CATEGORIES}
    base = _action(project.prompt, settings.prompt), _action(project.answer, settings.answer)
    is_closed = (project.when_down or settings.when_down) == "closed"
    if may_loosen:
        prompt, answer = key.prompt or base[0], key.answer or base[1]
        is_closed = key.when_down == "closed" if key.when_down else is_closed
    else:
        prompt, answer = _stricter(base[0], key.prompt), _stricter(base[1], key.answer)
        is_closed = is_closed or key.when_down == "closed"
    least = min(*flag_at.values(), *block_at.values())
    return Policy(prompt=prompt, answer=answer, is_closed=is_closed, flag_at=flag_at, block_at=block_at, least=least)


def verdict(policy: Policy, side: Side, runs: tuple[GuardRun, ...], *, has_text: bool = True) -> Judgement:
    """Of what guards said of one side. What others wrote, as results of tools, is flagged and never blocked."""
    asked = ASKED[side] if has_text else frozenset[Category]()
    for run in runs:
        if run.scores and max(run.scores.values()) >= policy.least:
            break
    else:
        return Judgement(runs=runs, asked=asked)
    flagged: set[str] = set()
    blocked: set[str] = set()
    for run in runs:
        for category in CATEGORIES:
            score = run.scores.get(category)
            if score is None:
                continue
            if score >= policy.flag_at[category]:
                flagged.add(category)
            if run.side == side and policy.action(side) == "block" and score >= policy.block_at[category]:
                blocked.add(category)
    return Judgement(runs=runs, asked=asked, flagged=frozenset(flagged | blocked), blocked=frozenset(blocked))


def _action(said: Action | None, usual: Action | None) -> Action:
    return said or usual or "annotate"


def _stricter(demanded: Action, own: Action | None) -> Action:
    return max(demanded, own or demanded, key=_STRICTNESS.index)


def _bar(
    kind: str, category: Category, settings: GuardPolicy, project: GuardPolicy, key: GuardPolicy, usual: float
) -> float:
    own, demanded, said = (_number(getattr(each, kind).get(category)) for each in (key, project, settings))
    base = next(bar for bar in (demanded, said, usual) if bar is not None)
    if own is None:
        return base
    return own if project == NO_POLICY else min(own, base)


def _number(bar: Bar | None) -> float | None:
    return math.inf if bar == "never" else bar
