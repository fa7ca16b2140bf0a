from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.money import charge_of, dollars, dollars_per_token, nanodollars, novita_units
from hodios.types import Price


@pytest.mark.parametrize(
    ("written", "nano"),
    [
        ("0.390", 390_000_000),
        (0.39, 390_000_000),
        (Decimal("0.1"), 100_000_000),
        (2, 2_000_000_000),
        ("0.000000001", 1),
        ("1e-9", 1),
        (" 3 ", 3_000_000_000),
        (0, 0),
    ],
)
def test_dollars_are_read_exactly(written: object, nano: int) -> None:
    assert nanodollars(written) == nano


@pytest.mark.parametrize(
    "written",
    ["", "x", "-1", -0.5, "nan", "inf", float("inf"), True, None, [1], "1e-10", "0.0000000015", "1e10", "1e999999"],
)
def test_what_is_no_exact_amount_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="dollar"):
        nanodollars(written)


@given(st.integers(0, 10**18))
def test_what_is_written_is_read_again(nano: int) -> None:
    text = dollars(nano)
    assert nanodollars(text) == nano
    assert "E" not in text
    assert Decimal(dollars_per_token(nano)) * 10**15 == nano


def test_each_system_has_its_unit() -> None:
    price = nanodollars("0.39")
    assert (dollars(price), dollars_per_token(price), novita_units(price)) == ("0.39", "0.00000039", 3900)
    assert novita_units(nanodollars("0.00005")) == 0.5
    assert (dollars(0), dollars_per_token(0), novita_units(0)) == ("0", "0", 0)


def test_an_attempt_costs_its_tokens_and_its_request_rounded_once() -> None:
    price = Price(prompt=200_000_000, cached=50_000_000, completion=1_000_000_001, request=3)
    assert charge_of(price, 100, 40, 10) == 60 * 200 + 40 * 50 + 10 * 1000 + 3
    assert charge_of(Price(completion=500_000), 0, 0, 1) == 1
    assert charge_of(Price(completion=499_999), 0, 0, 1) == 0
    assert charge_of(Price(prompt=1_000_000), 5, 50, 0) == 5, "no more is cached than there is"
