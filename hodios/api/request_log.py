"""The log of requests that somebody pays for: one entry for each when it is over, without its content, which is
kept apart where a key's policy says so.

Nothing here waits for a disk: the journal of accounts has an entry at once, the store a moment later. An entry that
cannot be written is counted, and the answer stays as it is.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from hodios.accounts.accounts import Accounts
from hodios.accounts.advice_of_habits import PREFIX_CHARACTERS
from hodios.accounts.content_queue import ContentQueue
from hodios.api.exchange import Exchange
from hodios.api.explanation import cost_number, milliseconds
from hodios.api.filters import filter_summary
from hodios.errors import HodiosError, Overloaded
from hodios.events import Usage
from hodios.money import cost_of
from hodios.router.demand import texts_of
from hodios.store.records import LoggedRequest
from hodios.types import Attempt, Request, Route

MOST_OPEN = 4096
"""Routes that wait for the end of their request, which follows at once."""
MOST_CANDIDATES = 32
"""Of a route, as it is kept."""
_AROUND = 16
"""Characters of a role and what separates texts, at most."""
_log = logging.getLogger(__name__)
_encode = msgspec.json.encode


class Told(Struct, frozen=True):
    """What the router says of a request."""

    route: Route
    usage: Usage | None

    @property
    def shown(self) -> list[Attempt]:
        """The attempts of which the client has something."""
        return [attempt for attempt in self.route.attempts if attempt.first_token_s is not None]

    def tokens(self) -> tuple[int, int, int]:
        """Of the prompt, of these those from a cache, and of the answer."""
        usage = self.usage
        if usage is not None:
            return usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens
        shown = self.shown
        return (
            max((attempt.prompt_tokens for attempt in shown), default=0),
            max((attempt.cached_tokens for attempt in shown), default=0),
            sum(attempt.completion_tokens for attempt in shown),
        )


class KeptCandidate(Struct, frozen=True, omit_defaults=True):
    provider: str
    model: str
    excluded: str | None = None


class KeptAttempt(Struct, frozen=True, array_like=True):
    """In the order in which the store has it."""

    provider: str
    model: str
    outcome: str
    began_s: float
    first_token_s: float | None
    ended_s: float
    status: int | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost: int | None
    """Nano-dollars; None where nobody has said what it costs."""

    def fields(self) -> dict[str, Any]:
        """As `explanation.attempt_of`, of which an error's words are not kept."""
        return {
            "provider": self.provider,
            "model": self.model,
            "outcome": self.outcome,
            "began_ms": milliseconds(self.began_s),
            "first_token_ms": milliseconds(self.first_token_s),
            "ended_ms": milliseconds(self.ended_s),
            "status": self.status,
            "error": None,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": cost_number(self.cost),
        }


class KeptRoute(Struct, kw_only=True, omit_defaults=True):
    """The column `route`: what `GET generation` shows of an older request beside the other columns. Errors of attempts
    may repeat what a client wrote, so they are not kept, and neither are prices of those who were not asked."""

    request_id: str = ""
    """The client's `x-request-id`."""
    finish_reasons: tuple[str, ...] = ()
    reasoning_tokens: int | None = None
    queue_ms: int | None = None
    filtered: dict[str, Any] | None = None
    """What guards made of it; None where nobody looked."""
    policy: str = ""
    candidates: list[KeptCandidate] = []
    attempts: list[dict[str, Any] | KeptAttempt] = []
    """What earlier versions have written are fields already."""

    def attempt_fields(self) -> list[dict[str, Any]]:
        return [each.fields() if isinstance(each, KeptAttempt) else each for each in self.attempts]


class Losses(Struct, frozen=True):
    """Since the start."""

    num_unlogged: int
    """Requests whose entry could not be written."""
    num_unstored: int
    """Those whose content was to be stored, and could not be."""


class RequestLog:
    """Of one process. `clock` gives Unix seconds."""

    def __init__(self, accounts: Accounts, contents: ContentQueue, secret: bytes, clock: Callable[[], float]) -> None:
        self._accounts = accounts
        self._salt = hashlib.blake2b(secret, person=b"hodios-prefixes").digest()
        self._contents = contents
        self._num_unlogged = 0
        self._num_unstored = 0
        self._clock = clock
        self._told: OrderedDict[str, Told] = OrderedDict()
        self._is_losing = False

    def record(self, request: Request, route: Route, usage: Usage | None, error: HodiosError | None) -> None:
        """As `router.Record`."""
        self._told[request.id] = Told(route, usage)
        if len(self._told) > MOST_OPEN:
            self._told.popitem(last=False)

    def end(self, exchange: Exchange) -> None:
        """The exchange is over. Those that ask for no answer, and those for which nobody pays, leave no entry."""
        told = self._told.pop(exchange.answer_id, None)
        if not exchange.answer_id or exchange.admitted is None:
            return
        prefix = None if exchange.request is None else _prefix(exchange.request, self._salt)
        entry = _entry(exchange, told, self._clock() - exchange.elapsed_s(), prefix)
        try:
            self._accounts.log(entry)
        except (Overloaded, ValueError) as error:
            self._num_unlogged += 1
            if not self._is_losing:
                _log.warning("requests cannot be logged: %s", error)
            self._is_losing = True
        else:
            self._is_losing = False
            if exchange.content is not None and not self._contents.add(exchange.content.stored(entry)):
                self._num_unstored += 1

    def losses(self) -> Losses:
        return Losses(self._num_unlogged, self._num_unstored)


def _prefix(request: Request, salt: bytes) -> int | None:
    """Tells nothing of the prompt to whoever has no secret; None where it is no longer than what is compared."""
    if request.prompts is None:
        if _is_short(request.messages or ()):
            return None
        texts = texts_of(request)
    else:
        texts = (prompt for prompt in request.prompts if isinstance(prompt, str))
    text = ""
    for each in texts:
        text += each[:PREFIX_CHARACTERS] + "\0"
        if len(text) >= PREFIX_CHARACTERS:
            break
    if len(text) < PREFIX_CHARACTERS:
        return None
    beginning = text[:PREFIX_CHARACTERS].encode(errors="replace")
    return int.from_bytes(hashlib.blake2b(beginning, digest_size=8, key=salt).digest(), "big", signed=True)


def _is_short(messages: Sequence[dict[str, Any]]) -> bool:
    """Whether that can be said at a glance, as of most chats."""
    num_characters = 0
    for message in messages:
        content = message.get("content")
        if type(content) is not str or len(message) > 2:
            return False
        num_characters += len(content) + _AROUND
    return num_characters < PREFIX_CHARACTERS


def _entry(exchange: Exchange, told: Told | None, at_s: float, prefix: int | None) -> LoggedRequest:
    assert exchange.admitted is not None
    project, request = exchange.admitted.project, exchange.request
    prompt_tokens, cached_tokens, completion_tokens = told.tokens() if told else (0, 0, 0)
    cost = cost_of(told.route.attempts) if told else 0
    last = told.route.attempts[-1] if told and told.route.attempts else None
    return LoggedRequest(
        request_id=exchange.answer_id,
        answer_id=None if exchange.first_token_s is None else exchange.answer_id,
        key_id=exchange.admitted.key.id,
        project_id=project.id if project else None,
        user=request.user if request else None,
        wanted_model=request.model if request else "",
        model=exchange.model or None,
        provider=exchange.provider or None,
        status=exchange.status,
        upstream_status=last.status if last else None,
        finish_reason=exchange.finish_reasons[0] if exchange.finish_reasons else None,
        error_code=exchange.error_code,
        latency_s=exchange.elapsed_s(),
        first_token_s=exchange.first_token_s,
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens,
        completion_tokens=completion_tokens,
        cost=cost,
        is_streamed=exchange.is_streamed,
        is_estimated=False,
        route=_encode(_kept(exchange, told, cost)),
        at_s=at_s,
        max_tokens=request.max_tokens if request else None,
        prefix=prefix,
    )


def _kept(exchange: Exchange, told: Told | None, cost: int | None) -> KeptRoute:
    kept = KeptRoute(
        request_id=exchange.request_id,
        finish_reasons=exchange.finish_reasons,
        filtered=filter_summary(exchange.judged, exchange.blocked),
    )
    if told is None:
        return kept
    if told.usage is not None:
        kept.reasoning_tokens = told.usage.reasoning_tokens
        kept.queue_ms = milliseconds(told.usage.queue_s)
    kept.policy = told.route.policy
    kept.candidates = [
        KeptCandidate(candidate.provider, candidate.model, candidate.excluded or None)
        for candidate in told.route.candidates[:MOST_CANDIDATES]
    ]
    attempts = told.route.attempts
    # Nearly always there is one, whose cost is that of all.
    kept.attempts = [_kept_attempt(each, cost if len(attempts) == 1 else cost_of((each,))) for each in attempts]
    return kept


def _kept_attempt(attempt: Attempt, cost: int | None) -> KeptAttempt:
    return KeptAttempt(
        attempt.provider,
        attempt.model,
        attempt.outcome,
        attempt.began_s,
        attempt.first_token_s,
        attempt.ended_s,
        attempt.status,
        attempt.prompt_tokens,
        attempt.cached_tokens,
        attempt.completion_tokens,
        cost,
    )
