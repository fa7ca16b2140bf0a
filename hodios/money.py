"""Money in whole numbers: decimals of dollars become nano-dollars and back, exactly. Refuses what is not exact.
What is charged for an attempt is rounded once, at its end.

A price is nano-dollars per million tokens, which for every list price in dollars per million is a whole number.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation

from hodios.types import Attempt, Price

NANO = 10**9
_MILLION = 10**6
_MOST_DOLLARS = 10**9
_NOVITA_UNIT = NANO // 10_000
"""Novita counts in ten-thousandths of a dollar per million tokens."""


def nanodollars(value: object) -> int:
    """Dollars as text, a whole number, a Decimal, or a float as written in a file (0.39 is 0.39 and not the nearest
    binary fraction). Raises ValueError for what is negative, not finite, above a billion, or finer than a nano-dollar.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError(f"{value!r} is not an amount of dollars")
    try:
        amount = Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        raise ValueError(f"{value!r} is not an amount of dollars") from None
    if not amount.is_finite() or not 0 <= amount <= _MOST_DOLLARS:
        raise ValueError(f"{amount} is not an amount of dollars from 0 to {_MOST_DOLLARS}")
    scaled = amount.scaleb(9)
    if scaled != int(scaled):
        raise ValueError(f"{amount} is finer than a billionth of a dollar")
    return int(scaled)


def dollars(nano: int) -> str:
    """In decimals without an exponent and without superfluous zeros."""
    return _plain(Decimal(nano).scaleb(-9))


def dollar_number(nano: int) -> int | float:
    """For JSON. The shortest decimals that stand for the number are the amount itself, up to a million dollars."""
    whole, rest = divmod(nano, NANO)
    return nano / NANO if rest else whole


def cost_of(attempts: Iterable[Attempt]) -> int | None:
    """Nano-dollars for what the client has of an answer: what all attempts come to that had something to show. None
    where nobody has said what one of them costs."""
    total = 0
    for attempt in attempts:
        if attempt.first_token_s is None or not attempt.completion_tokens:
            continue
        if not attempt.price.is_known:
            return None
        total += charge_of(attempt.price, attempt.prompt_tokens, attempt.cached_tokens, attempt.completion_tokens)
    return total


def charge_of(price: Price, num_prompt: int, num_cached: int, num_completion: int) -> int:
    """Nano-dollars for one attempt, half a nano-dollar rounded up. The price has to be known."""
    millionths = num_prompt * price.prompt + num_completion * price.completion + price.request * _MILLION
    if num_cached and price.cached is not None:
        # No more of a prompt can have been cached than there is of it.
        millionths += min(num_cached, num_prompt) * (price.cached - price.prompt)
    return (millionths + _MILLION // 2) // _MILLION


def dollars_per_token(nano_per_million: int) -> str:
    """As OpenRouter and APIpie write prices."""
    return _plain(Decimal(nano_per_million).scaleb(-15))


def novita_units(nano_per_million: int) -> int | float:
    """As Novita writes prices: $0.39 per million tokens is 3900. Whole wherever Novita could write it."""
    whole, rest = divmod(nano_per_million, _NOVITA_UNIT)
    return nano_per_million / _NOVITA_UNIT if rest else whole


def _plain(amount: Decimal) -> str:
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
