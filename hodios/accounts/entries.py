"""What the texts of the journal say: whose attempt it is and what it costs per token, or a request as it ended.

From such an entry and the state beside it follows what is to be settled, in the process that wrote it and in any other.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from hodios.accounts.journal_format import Entry, Outcome, Phase
from hodios.money import charge_of
from hodios.store.records import AccountId, LoggedRequest, SettledAttempt
from hodios.types import Price


class Opening(Struct, frozen=True, kw_only=True, array_like=True):
    """What is known of an attempt before it is made. Its fields keep their order, in which files of version 2 have
    them."""

    request_id: str
    number: int
    key_id: str
    project_id: str | None
    user: str | None
    model: str
    provider: str
    price: Price
    """At the time."""
    accounts: tuple[AccountId, ...]
    """In which its cost counts."""


class Spent(Struct, frozen=True, kw_only=True):
    """What was generated."""

    prompt_tokens: int
    cached_tokens: int
    """Of the prompt's."""
    completion_tokens: int


class _Heading(Struct, frozen=True, array_like=True):
    """What many attempts have in common, in the order in which files have it."""

    key_id: str
    project_id: str | None
    model: str
    provider: str
    price: Price
    accounts: tuple[AccountId, ...]


class _Text(Struct, frozen=True, array_like=True):
    """Of an attempt, as files have it since version 3."""

    request_id: str
    number: int
    user: str | None
    heading: _Heading


MOST_HEADINGS = 4096
_decode_opening = msgspec.msgpack.Decoder(Opening).decode
_decode_text = msgspec.msgpack.Decoder(_Text).decode
_decode_request = msgspec.msgpack.Decoder(LoggedRequest).decode
_encode = msgspec.msgpack.Encoder().encode


class Headings:
    """Packs what attempts have in common once for all of them, as long as the objects are the same."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str, str], tuple[Opening, msgspec.Raw]] = {}

    def text(self, opening: Opening) -> bytes:
        """What the journal has of an attempt."""
        name = (id(opening.accounts), opening.model, opening.provider)
        found = self._found.get(name)
        if found is None or not _has_same_heading(found[0], opening):
            if len(self._found) >= MOST_HEADINGS:
                self._found.clear()
            # The opening is held, so that nothing else can have the identity of its accounts.
            found = self._found[name] = (opening, msgspec.Raw(_heading(opening)))
        try:
            return _encode((opening.request_id, opening.number, opening.user, found[1]))
        except UnicodeEncodeError:
            user = opening.user and opening.user.encode(errors="replace").decode()
            return _encode((opening.request_id, opening.number, user, found[1]))


def _has_same_heading(one: Opening, other: Opening) -> bool:
    return (
        one.accounts is other.accounts
        and (one.price is other.price or one.price == other.price)
        and one.key_id == other.key_id
        and one.project_id == other.project_id
    )


def _heading(opening: Opening) -> bytes:
    names = (opening.key_id, opening.project_id, opening.model, opening.provider)
    key_id, project_id, model, provider = (name and name.encode(errors="replace").decode() for name in names)
    return _encode(_Heading(key_id or "", project_id, model or "", provider or "", opening.price, opening.accounts))


def packed(record: LoggedRequest) -> bytes:
    """Halves of characters, which JSON has and UTF-8 has not, become question marks."""
    try:
        return _encode(record)
    except UnicodeEncodeError:
        fields = msgspec.structs.asdict(record).items()
        texts = {name: text.encode(errors="replace").decode() for name, text in fields if isinstance(text, str)}
        return _encode(msgspec.structs.replace(record, **texts))


def cost_of(price: Price, spent: Spent) -> int | None:
    """Nano-dollars; nothing for an answer without a token, None where nobody says what tokens cost."""
    num_completion = spent.completion_tokens
    if not num_completion:
        return 0
    return charge_of(price, spent.prompt_tokens, spent.cached_tokens, num_completion) if price.is_known else None


def settled_attempt(
    opening: Opening, spent: Spent, outcome: Outcome, cost: int | None, is_estimated: bool, at_s: float
) -> SettledAttempt:
    return SettledAttempt(
        request_id=opening.request_id,
        number=opening.number,
        key_id=opening.key_id,
        project_id=opening.project_id,
        user=opening.user,
        model=opening.model,
        provider=opening.provider,
        outcome=outcome,
        prompt_tokens=spent.prompt_tokens,
        cached_tokens=spent.cached_tokens,
        completion_tokens=spent.completion_tokens,
        cost=cost,
        is_estimated=is_estimated,
        at_s=at_s,
        accounts=opening.accounts,
    )


def recovered(entry: Entry) -> SettledAttempt | LoggedRequest:
    """What an entry of a process that has ended comes to: an attempt under way is charged as far as it was known to
    have come. Raises ValueError for a text that makes no sense."""
    state = entry.state
    if state.phase == Phase.LOGGED:
        return _decode_request(entry.text)
    opening = _opening(entry)
    spent = Spent(
        prompt_tokens=state.prompt_tokens,
        cached_tokens=state.cached_tokens,
        completion_tokens=state.completion_tokens,
    )
    if state.phase == Phase.SETTLED:
        return settled_attempt(opening, spent, state.outcome, state.cost, state.is_estimated, state.at_s)
    outcome: Outcome = "broke_off" if spent.completion_tokens else "failed"
    return settled_attempt(opening, spent, outcome, cost_of(opening.price, spent), True, state.at_s)


def _opening(entry: Entry) -> Opening:
    if entry.version < 3:
        return _decode_opening(entry.text)
    text = _decode_text(entry.text)
    heading = text.heading
    return Opening(
        request_id=text.request_id,
        number=text.number,
        key_id=heading.key_id,
        project_id=heading.project_id,
        user=text.user,
        model=heading.model,
        provider=heading.provider,
        price=heading.price,
        accounts=heading.accounts,
    )
