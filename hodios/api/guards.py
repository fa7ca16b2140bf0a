"""Puts together the guards that the settings name."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from hodios import config
from hodios.errors import HodiosError
from hodios.events import Usage
from hodios.gateway import Gateway
from hodios.guard.base import Guard
from hodios.guard.embedded import EmbeddedGuard
from hodios.guard.guarding import Guarding
from hodios.guard.injection import InjectionRules
from hodios.guard.llama_guard import CALLER, NAMES, LlamaGuard
from hodios.guard.panel import Panel
from hodios.guard_settings import GuardSettings
from hodios.router.router import Record
from hodios.types import Request, Route


def guarding_of(
    settings: config.Config, socket_path: Path | None = None, clock: Callable[[], float] = time.monotonic
) -> Guarding:
    """`socket_path` is where the guard process listens; without one there is none. Raises SetupError."""
    chosen = settings.guard or GuardSettings()
    guards: list[Guard] = []
    if chosen.embedded and socket_path is not None:
        guards.append(EmbeddedGuard(socket_path))
    if chosen.injection_rules:
        guards.append(InjectionRules())
    if chosen.prompt_guard:
        # Imported here because it loads what reads the files of models.
        from hodios.guard.prompt_guard import PromptGuard

        guards.append(PromptGuard(Path(chosen.prompt_guard).expanduser()))
    if chosen.code_shield:
        from hodios.guard.code_shield import CodeShield

        guards.append(CodeShield(chosen.code_shield, config.foreign_environment(settings, (), {})))
    return Guarding(Panel(guards, clock=clock), chosen)


def of_clients(record: Record) -> Record:
    """Tells `record` of what clients have asked, and not of what guards ask models meanwhile."""

    def tell(request: Request, route: Route, usage: Usage | None, error: HodiosError | None) -> None:
        if request.caller != CALLER:
            record(request, route, usage, error)

    return tell


def add_models(guarding: Guarding, gateway: Gateway, new_id: Callable[[], str]) -> None:
    """Guards that are models behind this very gateway."""
    chosen = guarding.settings
    if chosen.llama_guard:
        codes = chosen.llama_guard_categories or tuple(NAMES)
        guarding.panel.add(
            LlamaGuard(
                gateway.generate_unguarded,
                chosen.llama_guard,
                new_id=new_id,
                codes=codes,
                route=chosen.llama_guard_route,
            )
        )
