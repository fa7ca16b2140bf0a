"""What a key's own settings make of its request, and its permit: limits before the request, headers, and the end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec import structs

from hodios.accounts.accounts import Accounts
from hodios.accounts.keyring import Admitted
from hodios.accounts.limits import NO_LIMITS, Permit, Refusal, refused
from hodios.accounts.rate_headers import rate_headers
from hodios.api.exchange import Exchange
from hodios.api.wire import Call
from hodios.router.demand import demand_of
from hodios.store.records import KeyRecord
from hodios.types import Request

WAIT_S = 30.0
"""How long a request of a key that queues waits for its limits."""
_USUAL_OUTPUT = 512
"""Tokens of an answer for which nobody sets a limit, as its limits count it until it is known."""


def with_policy(call: Call, key: KeyRecord) -> Call:
    """As the key has it where the client says nothing."""
    if key.default_max_tokens is not None and call.request.max_tokens is None:
        call = structs.replace(call, request=structs.replace(call.request, max_tokens=key.default_max_tokens))
    if key.content_filter == "details" and not call.has_filter_details:
        call = structs.replace(call, has_filter_details=True)
    return call


async def permitted(accounts: Accounts, admitted: Admitted, exchange: Exchange, request: Request) -> Permit:
    """As `may_pass`, for whoever asks for an answer."""
    return await may_pass(accounts, admitted, exchange, request.id, partial(_expected_tokens, request))


async def may_pass(
    accounts: Accounts, admitted: Admitted, exchange: Exchange, id: str, count_tokens: Callable[[], int]
) -> Permit:
    """The request counts as on its way until `Accounts.leave`. Raises RateLimited, and Overloaded as `Accounts`."""
    permit = await accounts.permit(admitted, id, count_tokens, WAIT_S)
    if permit.state is not NO_LIMITS:
        exchange.out_headers += [(name.encode(), value.encode()) for name, value in rate_headers(permit.state)]
    if isinstance(permit, Refusal):
        retry_ms = max(1, -(-permit.retry_ns // 10**6))
        exchange.out_headers.append((b"retry-after-ms", b"%d" % retry_ms))
        raise refused(permit)
    return permit


def _expected_tokens(request: Request) -> int:
    demand = demand_of(request)
    most = _USUAL_OUTPUT if request.max_tokens is None else request.max_tokens
    return demand.num_prompt_tokens + most * demand.num_answers
