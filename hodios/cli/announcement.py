"""What `hodios serve` says once it can answer: where it is, who serves how many models, and a line to paste.

Reads what the API process tells of itself, asks no model, and names in its line only one that can answer.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from hodios import __version__
from hodios.cli.console import gigabytes, program, visible
from hodios.types import ModelCard

if TYPE_CHECKING:
    from hodios.providers.report import ModelAtProvider, Report

LOCAL = "local"
"""The provider of the models that the engine runs."""
_MOST_NAMED = 3
_POLL_S = 0.05
_PATIENCE_S = 5.0
"""How long those that can answer wait for the others, so that all are told at once; and how long an API without any
model waits for what providers list."""


async def state_of_all(
    report: Report, own: Callable[[], Collection[str]], clock: Callable[[], float] = time.monotonic
) -> list[ModelAtProvider]:
    """Every model at every provider, once there is something to say: all of `own` are ready, or something is and time
    is up, or nothing can be waited for. `own`: the servers and local models that are loading, as `holder` has them."""
    since: float | None = None
    while True:
        states = await report.states()
        if states is not None:
            ready = {holder(each) for each in states if each.state == "ready"}
            waited_for = own()
            if since is None and (ready or not waited_for):
                since = clock()
            if since is not None and (clock() - since >= _PATIENCE_S or (ready and ready >= set(waited_for))):
                return states
        await asyncio.sleep(_POLL_S)


def holder(each: ModelAtProvider) -> str:
    """Who has to be loaded for a model to be ready: the model itself on this machine, else the whole server."""
    return each.model if each.provider == LOCAL else each.provider


def lines(
    states: Sequence[ModelAtProvider],
    cards: Sequence[ModelCard],
    providers: Iterable[str],
    *,
    url: str,
    key: str,
    page: str,
) -> list[str]:
    """All that is to be said. `cards`: of the local models that are not given up; `providers`: the other ones that
    are asked, in the order in which they are shown; `page`: a link that opens the web page once."""
    told = [f"\nHodios {__version__} serves at {url} (OpenAI-compatible; base URL {url}/v1):"]
    ready = {(each.provider, each.model) for each in states if each.state == "ready"}
    for card in cards:
        state = "" if (LOCAL, card.id) in ready else "  (loading)"
        told.append(f"  {card.id}  {card.quantization}  {gigabytes(card.size_bytes)}{state}")
    providers = dict.fromkeys((*providers, *(each.provider for each in states if each.provider != LOCAL)))
    for provider in providers:
        told.append(f"  {_summary(provider, [each for each in states if each.provider == provider])}")
    told.append(f"\nThe web page is at {url}/ui/; this link opens it once, within ten minutes:\n\n  {page}")
    rank = {name: place for place, name in enumerate((LOCAL, *providers))}
    able = sorted((each for each in states if each.state == "ready"), key=lambda each: rank[each.provider])
    if able:
        told += ["\nAsk it:\n", example(able[0].model, url, key)]
    else:
        told.append(
            f"\nNo model can answer yet. What is offered here, and why others are not asked: {program()} models --all"
        )
    told.append(f"\nChat with it: {program()} chat     Another link: {program()} ui     Stop it: Ctrl-C\n")
    return told


def _summary(provider: str, states: Sequence[ModelAtProvider]) -> str:
    """`2 models from vllm: a, b`."""
    if not states:
        return f"no models from {provider} yet"
    names = [visible(each.model) for each in states]
    shown = f": {', '.join(names)}" if len(names) <= _MOST_NAMED else f", see: {program()} models"
    not_ready = sum(each.state != "ready" for each in states)
    loading = "" if not not_ready else "  (loading)" if not_ready == len(states) else f"  ({not_ready} loading)"
    return f"{len(names)} model{'s' if len(names) != 1 else ''} from {provider}{shown}{loading}"


def example(model: str, url: str, key: str) -> str:
    """A curl line to paste into a terminal."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi there!"}], "stream": True}
    return (
        f"curl {url}/v1/chat/completions \\\n"
        f"  -H 'Authorization: Bearer {_quoted(key)}' \\\n"
        f"  -H 'Content-Type: application/json' \\\n"
        f"  -d '{_quoted(json.dumps(body))}'"
    )


def _quoted(text: str) -> str:
    """For single quotes in a shell."""
    return text.replace("'", "'\\''")
