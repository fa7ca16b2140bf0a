"""For how long each guard is waited for."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from hodios.guard_settings import GuardSettings


class Budgets(Struct, frozen=True):
    """In seconds."""

    usual_s: float
    by_guard: Mapping[str, float] = {}

    def of(self, guard: str) -> float:
        return self.by_guard.get(guard, self.usual_s)

    def times(self, factor: float) -> Budgets:
        return Budgets(factor * self.usual_s, {name: factor * each for name, each in self.by_guard.items()})


def budgets_of(settings: GuardSettings) -> Budgets:
    by_guard = {
        "llama_guard": settings.llama_guard_budget_s,
        "prompt_guard": settings.prompt_guard_budget_s,
        "code_shield": settings.code_shield_budget_s,
    }
    return Budgets(settings.budget_s, by_guard)
