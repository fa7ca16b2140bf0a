"""`GET /ui/facts`: what the web page has to know of this server before anybody has logged in, so that it has no tables
of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Struct

from hodios import __version__
from hodios.api.exchange import Exchange
from hodios.api.parameters import CHAT, COMPLETIONS, Parameter, parameters
from hodios.api.routes import PREFIXES, RouteName


class ParameterFacts(Struct, frozen=True):
    """One parameter of one or both generation routes; the routes may know a name with different ranges."""

    name: str
    chat: bool
    completions: bool
    schema: dict[str, Any]
    default: Any
    required: bool
    description: str
    accepted: str
    gap: str
    """Why it is reported and not honoured; "" for one that is."""
    needs: str
    """What a model must have for it to mean something."""


class Facts(Struct, frozen=True):
    version: str
    base_url: str
    """For OpenAI's clients, as the caller reaches this server."""
    prefixes: list[str]
    status_public: bool
    accounts: bool
    """Whether there are keys besides the operator's."""
    max_choices: int
    parameters: list[ParameterFacts]


class FactSheet:
    """The handler."""

    def __init__(self, *, is_status_public: bool, has_accounts: bool, max_choices: int) -> None:
        self._facts = Facts(
            version=__version__,
            base_url="",
            prefixes=list(PREFIXES),
            status_public=is_status_public,
            accounts=has_accounts,
            max_choices=max_choices,
            parameters=_parameters(max_choices),
        )

    def handlers(self) -> dict[RouteName, Callable[[Exchange], Awaitable[None]]]:
        return {"facts": self.show}

    async def show(self, exchange: Exchange) -> None:
        host = exchange.in_headers.get(b"host", b"").decode("latin-1")
        url = f"{'https' if exchange.is_https else 'http'}://{host}{PREFIXES[0]}"
        await exchange.answer_json(msgspec.structs.replace(self._facts, base_url=url))


def _parameters(max_choices: int) -> list[ParameterFacts]:
    chat, completions = parameters(CHAT, max_choices), parameters(COMPLETIONS, max_choices)
    found = []
    for name, parameter in chat.items():
        other = completions.get(name)
        is_same = other is not None and (other.kind, other.meaning) == (parameter.kind, parameter.meaning)
        found.append(_facts_of(parameter, in_chat=True, in_completions=is_same))
        if other is not None and not is_same:
            found.append(_facts_of(other, in_chat=False, in_completions=True))
    found += [
        _facts_of(each, in_chat=False, in_completions=True) for name, each in completions.items() if name not in chat
    ]
    return found


def _facts_of(parameter: Parameter, *, in_chat: bool, in_completions: bool) -> ParameterFacts:
    return ParameterFacts(
        name=parameter.name,
        chat=in_chat,
        completions=in_completions,
        schema=dict(parameter.kind.schema),
        default=parameter.default,
        required=parameter.is_required,
        description=parameter.meaning,
        accepted=parameter.kind.accepts,
        gap=parameter.gap,
        needs=parameter.needs,
    )


def fact_schemas() -> dict[str, Any]:
    """By name, for the OpenAPI document."""
    _, components = msgspec.json.schema_components((Facts,), ref_template="#/components/schemas/{name}")
    return dict(components)
