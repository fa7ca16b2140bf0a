"""Guards and policies together: who is to be guarded, and by which policy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hodios.guard.budgets import budgets_of
from hodios.guard.panel import Panel, Startable
from hodios.guard.policy import Policy, resolved
from hodios.guard.watch import Watch
from hodios.guard_settings import NO_POLICY, GuardPolicy, GuardSettings
from hodios.types import Request

MOST_KNOWN = 1000
PATIENCE = 2
"""What nobody waits for may take so many times its budget."""


class Guarding:
    """Of one event loop."""

    def __init__(self, panel: Panel, settings: GuardSettings) -> None:
        self.panel = panel
        self.settings = settings
        self.budgets = budgets_of(settings)
        self._patient = self.budgets.times(PATIENCE)
        self._default = resolved(settings.policy)
        self._known: dict[tuple[int, int], tuple[GuardPolicy, GuardPolicy, Policy]] = {}
        """By the identities of both, which live as long as they stand here."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While entered, those guards work that have to be started."""
        try:
            for guard in self.panel.guards:
                if isinstance(guard, Startable):
                    await guard.start()
            yield
        finally:
            await self.panel.aclose()

    def policy(self, key: GuardPolicy = NO_POLICY, project: GuardPolicy = NO_POLICY) -> Policy:
        """Of a request with such a key, of such a project."""
        if key is NO_POLICY and project is NO_POLICY:
            return self._default
        known = self._known.get((id(key), id(project)))
        if known is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            known = self._known[id(key), id(project)] = key, project, resolved(self.settings.policy, project, key)
        return known[2]

    def watch(self, request: Request, policy: Policy) -> Watch | None:
        """None where nobody is to look at it."""
        if policy.is_off or not (self.panel.guards or policy.is_closed):
            return None
        return Watch(self.panel, policy, request, self.budgets, self._patient)
