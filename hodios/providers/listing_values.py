"""Single values of what providers list, read exactly: prices in their units, lengths in tokens, names.

Nothing passes through binary fractions. Raises ValueError with the reason, in words that go behind a model's id. Knows
no provider.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, NoReturn

from hodios.money import NANO, dollars

PER_TOKEN = 15
"""Powers of ten between a provider's unit and nano-dollars per million tokens: of dollars per token, of dollars per
million tokens, and of ten-thousandths of a dollar per million tokens."""
PER_MILLION = 9
NOVITA_UNIT = 5
PER_REQUEST = 9
"""Between dollars and nano-dollars."""
MOST_PRICE = 10_000 * NANO
"""Per million tokens; nobody asks so much."""
MOST_TOKENS = 100_000_000
MOST_ID = 200
_MOST_DIGITS = 64
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_MOST_SHOWN = 40


def decode(body: bytes) -> Any:
    """JSON, its numbers as whole numbers and decimals; those that are beyond all reason as text. Raises ValueError."""
    try:
        return json.loads(
            body.decode("utf-8", "replace"), parse_float=_number, parse_int=_number, parse_constant=_no_number
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _number(text: str) -> int | Decimal | str:
    if len(text) > _MOST_DIGITS or not _NUMBER.fullmatch(text):
        return text
    return int(text) if text.lstrip("-").isdecimal() else Decimal(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def decimal(value: object) -> Decimal:
    """A number, also in a string."""
    if isinstance(value, str):
        text = value.strip()
        if len(text) <= _MOST_DIGITS and _NUMBER.fullmatch(text):
            return Decimal(text)
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        return Decimal(value)
    raise ValueError(f"{shown(value)} is no number")


def price(value: object, unit: int) -> int:
    """Nano-dollars per million tokens, or per request; to the nearest whole one where more digits are given."""
    number = decimal(value)
    if number.is_zero():
        return 0
    if number < 0:
        raise ValueError(f"the price {shown(value)} is negative")
    if number.adjusted() + unit > Decimal(MOST_PRICE).adjusted() or number.scaleb(unit) > MOST_PRICE:
        raise ValueError(f"the price {shown(value)} is above ${dollars(MOST_PRICE)} per million tokens")
    nano = int(number.scaleb(unit).to_integral_value(ROUND_HALF_EVEN)) if number.adjusted() + unit >= -1 else 0
    if nano == 0:
        raise ValueError(f"the price {shown(value)} is too small to be one")
    return nano


def tokens(value: object) -> int | None:
    """A number of tokens; None where it is not told, for which some write 0."""
    if value is None or value == "":
        return None
    number = decimal(value)
    if not 0 <= number <= MOST_TOKENS or number != number.to_integral_value():
        raise ValueError(f"{shown(value)} is no number of tokens from 1 to {MOST_TOKENS}")
    return int(number) or None


def name(value: object) -> str:
    """An id that may stand in a request, a log and a terminal."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{shown(value)} is no id")
    if len(value) > MOST_ID or not value.isprintable() or value != value.strip():
        raise ValueError(f"{shown(value)} is no id of at most {MOST_ID} characters that can be printed")
    return value


def label(value: object) -> str:
    """A short word, such as a quantization; "" for anything else."""
    return value if isinstance(value, str) and len(value) <= _MOST_SHOWN and value.isprintable() else ""


def flag(value: object, default: bool = True) -> bool:
    """A truth value, also as 0 and 1."""
    if value is None:
        return default
    if isinstance(value, bool | int) and value in (0, 1):
        return bool(value)
    raise ValueError(f"{shown(value)} is neither 0 nor 1")


def table(value: object) -> Mapping[str, Any]:
    """An object; empty where there is none."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)} is no object")
    return value


def words(value: object) -> tuple[str, ...] | None:
    """A list of strings; None where it is not told."""
    if not isinstance(value, list):
        return None
    return tuple(entry for entry in value if isinstance(entry, str))


def shown(value: object) -> str:
    """For people to read, never long."""
    if isinstance(value, str):
        return repr(value[:_MOST_SHOWN])
    if isinstance(value, bool | int | Decimal) or value is None:
        return str(value)[:_MOST_SHOWN]
    return "a list" if isinstance(value, list) else "an object"
