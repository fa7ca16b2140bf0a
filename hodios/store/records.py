"""What is kept: keys, projects, what was spent on which account, and requests as they were. Knows no database.

Money is whole nano-dollars, times are Unix seconds, None stands for no limit.
"""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from typing import Literal

from msgspec import Struct

from hodios.guard_settings import NO_POLICY, GuardPolicy

OwnerKind = Literal["key", "project"]
Period = Literal["total", "day", "week", "month"]
ANSWERED = frozenset({"answered", "cancelled"})
"""Outcomes of attempts that are nobody's failure."""


class Budgets(Struct, frozen=True, kw_only=True):
    """What may be spent at most, in nano-dollars: ever, and in each day, week and month of UTC."""

    total: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None


class Limits(Struct, frozen=True, kw_only=True):
    """How much may be asked at most."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_requests: int | None = None


class KeyRecord(Struct, frozen=True, kw_only=True):
    """A key that clients send; of the key itself no more than its digest and the beginning by which people know it."""

    id: str
    """Letters, digits, `-` and `_`, as ids of projects."""
    prefix: str
    digest: bytes
    previous_digest: bytes | None = None
    """Of the key before the last rotation, which is good until `previous_expires_at_s`."""
    previous_expires_at_s: float | None = None
    name: str = ""
    owner: str = ""
    project_id: str | None = None
    models: tuple[str, ...] | None = None
    """Catalog ids that it may ask for; None: all."""
    providers: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None
    """Names of tools that it may offer to models, in which `*` stands for any letters; None: all."""
    budgets: Budgets = Budgets()
    limits: Limits = Limits()
    priority: int = 0
    """Among keys that wait; higher goes first."""
    is_queueing: bool = False
    """Waits where a limit is reached, instead of being refused at once."""
    default_max_tokens: int | None = None
    expires_at_s: float | None = None
    is_disabled: bool = False
    metadata: dict[str, str] = {}
    content_filter: str | None = None
    guard: GuardPolicy = NO_POLICY
    stores_content: bool = False
    on_store_error: Literal["open", "closed"] = "closed"
    """Whether it may go on beyond what is leased while the store cannot be reached."""
    created_at_s: float
    last_used_at_s: float | None = None
    version: int = 1
    """Grows with each change of the record, but not with `last_used_at_s`."""

    def allows(self, model: str, provider: str) -> bool:
        """Whether it may ask for the model with this catalog id, of this provider."""
        is_model = self.models is None or model in self.models
        return is_model and (self.providers is None or provider in self.providers)

    def allows_tool(self, name: str) -> bool:
        """Whether it may offer a tool of this name to a model."""
        return self.tools is None or any(fnmatchcase(name, pattern) for pattern in self.tools)


class ProjectRecord(Struct, frozen=True, kw_only=True):
    """Several keys with budgets and limits in common, besides their own."""

    id: str
    name: str = ""
    budgets: Budgets = Budgets()
    limits: Limits = Limits()
    is_disabled: bool = False
    metadata: dict[str, str] = {}
    guard: GuardPolicy = NO_POLICY
    created_at_s: float
    version: int = 1


class AccountId(Struct, frozen=True, order=True, cache_hash=True):
    """What somebody spends in one period; `since` is its first day in UTC, None for the period `total`."""

    owner_kind: OwnerKind
    owner_id: str
    period: Period
    since: date | None = None

    def __str__(self) -> str:
        """`key/k1/day/2026-11-21`, `project/p1/total`."""
        parts = [self.owner_kind, self.owner_id, self.period]
        return "/".join([*parts, self.since.isoformat()] if self.since else parts)

    @classmethod
    def parse(cls, text: str) -> AccountId:
        """What `str` has written. Raises ValueError for all else."""
        match text.split("/"):
            case ["key" | "project" as kind, owner, "total"] if owner:
                return cls(kind, owner, "total")
            case ["key" | "project" as kind, owner, "day" | "week" | "month" as period, since] if owner:
                return cls(kind, owner, period, date.fromisoformat(since))
        raise ValueError(f"{text!r} is not the name of an account")


class Balance(Struct, frozen=True):
    """Of one account."""

    settled: int
    leased: int
    """By all processes."""


class Grant(Struct, frozen=True):
    """What came of asking for a lease: `amount` is now leased to the process besides what it has; 0: refused."""

    amount: int
    balance: Balance
    """After it."""


class SettledAttempt(Struct, frozen=True, kw_only=True):
    """One provider was asked for one request, and that is over. (request id, attempt number) is settled once, however
    often it is told."""

    request_id: str
    """Ours. One that a client chose could be the same twice, and only the first would be charged."""
    number: int
    key_id: str
    project_id: str | None
    user: str | None
    """The person on whose behalf the client asked, in the client's words."""
    model: str
    provider: str
    outcome: str
    """As `types.Attempt.outcome`."""
    prompt_tokens: int
    cached_tokens: int
    """Of the prompt's."""
    completion_tokens: int
    cost: int | None
    """None where nobody knows the price; it counts as 0 then."""
    is_estimated: bool
    """What was used is not known exactly, as after the death of a process."""
    at_s: float
    accounts: tuple[AccountId, ...]
    """In which the cost counts, with and without a budget."""


class StoredContent(Struct, frozen=True, kw_only=True):
    """What was asked and answered in one request, as far as it is kept. In the order of the columns."""

    request_id: str
    key_id: str
    project_id: str | None
    user: str | None
    request: bytes
    """As the client sent it; JSON, unless it was bad."""
    answer: bytes
    """JSON."""
    is_request_cut: bool
    is_answer_cut: bool
    at_s: float


class LoggedRequest(Struct, frozen=True, kw_only=True, array_like=True):
    """One request as it ended, without its content. Its fields keep their order, in which journals have them."""

    request_id: str
    answer_id: str | None
    key_id: str
    project_id: str | None
    user: str | None
    wanted_model: str
    model: str | None
    """Who answered, or was asked last; None where nobody was asked."""
    provider: str | None
    status: int
    """Of the HTTP answer; 499 where the client has left."""
    upstream_status: int | None
    finish_reason: str | None
    error_code: str | None
    latency_s: float
    first_token_s: float | None
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost: int | None
    is_streamed: bool
    is_estimated: bool
    route: bytes
    """JSON."""
    at_s: float
    """When it came in."""
    max_tokens: int | None = None
    """That it allowed for each answer; None where it named none."""
    prefix: int | None = None
    """By which prompts are known that begin the same; None where it is short. 64 bits, signed."""
