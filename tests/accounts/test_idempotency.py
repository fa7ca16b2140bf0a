from __future__ import annotations

import pytest

from hodios.accounts.idempotency import KEPT_S, Claim, Idempotency, KeptAnswer
from hodios.errors import IdempotencyConflict, IdempotencyMismatch, InvalidRequest

ANSWER = KeptAnswer(200, (("content-type", "application/json"),), b"{}")


def claim(kept: Idempotency, owner: str = "k", key: str = "one", digest: bytes = b"d", now_s: float = 0) -> Claim:
    claimed = kept.begin(owner, key, digest, now_s)
    assert isinstance(claimed, Claim)
    return claimed


def test_the_same_request_gets_the_same_answer_for_a_day() -> None:
    kept = Idempotency()
    kept.keep(claim(kept), ANSWER, 10)
    assert kept.begin("k", "one", b"d", 10 + KEPT_S - 1) == ANSWER
    assert isinstance(kept.begin("k", "one", b"d", 10 + KEPT_S), Claim)
    assert kept.num_bytes == 0


def test_keys_of_others_are_others() -> None:
    kept = Idempotency()
    kept.keep(claim(kept), ANSWER, 0)
    claim(kept, owner="other")


def test_one_that_is_being_answered_is_a_conflict_until_it_is_given_up() -> None:
    kept = Idempotency()
    first = claim(kept)
    with pytest.raises(IdempotencyConflict) as caught:
        kept.begin("k", "one", b"d", 1)
    assert (caught.value.status, caught.value.retry_after) == (409, 1)
    kept.abandon(first)
    claim(kept)


def test_another_request_under_the_same_key_is_refused_while_and_after() -> None:
    kept = Idempotency()
    first = claim(kept)
    with pytest.raises(IdempotencyMismatch):
        kept.begin("k", "one", b"e", 0)
    kept.keep(first, ANSWER, 0)
    with pytest.raises(IdempotencyMismatch) as caught:
        kept.begin("k", "one", b"e", 0)
    assert caught.value.status == 422


def test_the_oldest_go_where_there_are_too_many_bytes() -> None:
    kept = Idempotency(most_bytes=10_000)
    for at in range(50):
        kept.keep(claim(kept, key=str(at)), KeptAnswer(200, (), b"x" * 1000), at)
        assert kept.num_bytes <= 10_000
    assert isinstance(kept.begin("k", "49", b"d", 50), KeptAnswer)
    claim(kept, key="0")
    kept.keep(claim(kept, key="large"), KeptAnswer(200, (), b"x" * 20_000), 50)
    claim(kept, key="large")


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\nb"])
def test_keys_are_short_and_printable(key: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 255"):
        Idempotency().begin("k", key, b"", 0)
