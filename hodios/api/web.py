"""Puts together what lies below /ui/: the page's files, sessions, and what the page has to know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hodios.accounts.accounts import Accounts
from hodios.accounts.office import Office
from hodios.api.exchange import Exchange
from hodios.api.facts import FactSheet
from hodios.api.guesses import Guesses
from hodios.api.marks import Marks
from hodios.api.pages import Pages
from hodios.api.routes import RouteName
from hodios.api.session_keeper import SessionKeeper
from hodios.api.session_tokens import TokenSigner
from hodios.api.sessions import Sessions
from hodios.config import Config


def session_keeper(config: Config, office: Office | None, clock: Callable[[], float]) -> SessionKeeper:
    signer = TokenSigner(office.secret if office else b"", config.admin_key)
    marks = Marks(config.home / "state" / "web", clock)
    return SessionKeeper(signer, office.accounts if office else None, marks, clock)


def web_handlers(
    config: Config,
    keeper: SessionKeeper,
    accounts: Accounts | None,
    *,
    clock: Callable[[], float],
    monotonic: Callable[[], float],
) -> dict[RouteName, Callable[[Exchange], Awaitable[None]]]:
    facts = FactSheet(
        is_status_public=config.status_public, has_accounts=accounts is not None, max_choices=config.max_choices
    )
    sessions = Sessions(keeper, config.admin_key, accounts, Guesses(monotonic), clock)
    return {**Pages().handlers(), **sessions.handlers(), **facts.handlers()}
