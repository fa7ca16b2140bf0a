from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.money import dollars, dollars_per_token, nanodollars, novita_units


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
