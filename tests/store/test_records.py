"""Names of accounts can be read back, and nothing else can."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.store.records import AccountId, OwnerKind, Period

ids = st.text("abcXYZ019-_", min_size=1)


@given(st.sampled_from(["key", "project"]), ids, st.sampled_from(["day", "week", "month"]), st.dates())
def test_names_are_read_back(kind: OwnerKind, owner: str, period: Period, since: date) -> None:
    for account in (AccountId(kind, owner, period, since), AccountId(kind, owner, "total")):
        assert AccountId.parse(str(account)) == account


def test_names_are_stable() -> None:
    assert str(AccountId("key", "k1", "day", date(2026, 11, 21))) == "key/k1/day/2026-11-21"
    assert str(AccountId("project", "p1", "total")) == "project/p1/total"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "key",
        "key/a",
        "key//total",
        "key/a/total/2026-11-21",
        "key/a/day",
        "key/a/day/x",
        "team/a/total",
        "key/a/b/c/d",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"name of an account|isoformat"):
        AccountId.parse(text)
