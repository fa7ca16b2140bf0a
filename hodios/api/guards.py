"""Puts together the guards that the settings name."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from hodios import config
from hodios.gateway import Gateway
from hodios.guard.base import Guard
from hodios.guard.embedded import EmbeddedGuard
from hodios.guard.guarding import Guarding
from hodios.guard.panel import Panel
from hodios.guard_settings import GuardSettings


def guarding_of(
    settings: config.Config, socket_path: Path | None = None, clock: Callable[[], float] = time.monotonic
) -> Guarding:
    """`socket_path` is where the guard process listens; without one there is none. Raises SetupError."""
    chosen = settings.guard or GuardSettings()
    guards: list[Guard] = []
    if chosen.embedded and socket_path is not None:
        guards.append(EmbeddedGuard(socket_path))
    if chosen.prompt_guard:
        # Imported here because it loads what reads the files of models.
        from hodios.guard.prompt_guard import PromptGuard

        guards.append(PromptGuard(Path(chosen.prompt_guard).expanduser()))
    if chosen.code_shield:
        from hodios.guard.code_shield import CodeShield

        guards.append(CodeShield(chosen.code_shield, config.foreign_environment(settings, (), {})))
    return Guarding(Panel(guards, clock=clock), chosen)


def add_models(guarding: Guarding, gateway: Gateway, new_id: Callable[[], str]) -> None:
    """Guards that are models behind this very gateway."""
    if guarding.settings.llama_guard:
        from hodios.guard.llama_guard import LlamaGuard

        route = guarding.settings.llama_guard_route
        guarding.panel.add(
            LlamaGuard(gateway.generate_unguarded, guarding.settings.llama_guard, new_id=new_id, route=route)
        )
