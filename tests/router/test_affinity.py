from __future__ import annotations

import random
from collections import Counter, OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seating import names, option, request

from hodios.router.affinity import FIRST_TOKENS, Affinity, Mark, marks_of
from hodios.router.load import Report
from hodios.router.policy import Option
from hodios.router.stats import Average
from hodios.types import Request, Tool

LONG = "once upon a time there was a king " * 400


def keys(asked: Request) -> list[int]:
    return [mark.key for mark in marks_of(asked)]


def test_a_longer_conversation_is_known_by_its_beginning() -> None:
    shorter, longer = marks_of(request(LONG)), marks_of(request(LONG + "and more " * 4000))
    assert len(shorter) == 6
    assert [mark.num_tokens for mark in shorter] == [2048, 1024, 512, 256, 128, 64]
    assert set(shorter) < set(longer)


def test_what_differs_early_shares_little() -> None:
    other = "x" + LONG[1:]
    assert not set(keys(request(LONG))) & set(keys(request(other)))
    halves = LONG[:2000] + "y" * 9000
    assert len(set(keys(request(LONG))) & set(keys(request(halves)))) == 3


def test_short_prompts_have_no_mark() -> None:
    assert marks_of(request("hello")) == []
    assert marks_of(Request(id="x", model="m", prompts=())) == []


def test_token_ids_are_known_too() -> None:
    ids = tuple(range(FIRST_TOKENS * 2))
    assert [mark.num_tokens for mark in marks_of(Request(id="x", model="m", prompts=(ids, (1,))))] == [128, 64]


def test_salts_tools_and_callers_keep_prompts_apart() -> None:
    plain = set(keys(request(LONG)))
    assert not plain & set(keys(request(LONG, cache_salt="mine")))
    assert not plain & set(keys(request(LONG, tools=(Tool("f"),))))
    assert keys(request(cache_key="k", caller="a")) != keys(request(cache_key="k", caller="b"))
    assert keys(request(user="u", caller="a")) != keys(request(user="u", caller="b"))


def test_what_the_client_says_comes_first_and_the_user_last() -> None:
    plain = keys(request(LONG))
    marked = keys(request(LONG, cache_key="k", user="u"))
    assert marked[1:-1] == plain
    assert keys(request(cache_key="k")) == marked[:1]
    assert keys(request(user="u")) == marked[-1:]


@given(st.text(max_size=3000), st.lists(st.integers(0, 9), max_size=300))
def test_any_prompt_has_marks(text: str, ids: list[int]) -> None:
    for asked in (request(text), Request(id="x", model="m", prompts=(text, tuple(ids)))):
        assert marks_of(asked) == marks_of(asked)
        assert len(marks_of(asked)) <= 16


def test_a_prompt_stays_with_its_replica_until_that_is_saturated() -> None:
    affinity = Affinity(random.Random(0), saturation_tokens=1000)
    options = [option(f"p{at}") for at in range(4)]
    marks = marks_of(request(LONG))
    affinity.sent(options[2].seat.card.id, "p2", marks)
    ticket = options[2].track.load.begin(0.0, 9999, 1000)
    choice = affinity.choose(options, marks)
    assert (names(choice.options)[0], choice.num_cached) == ("p2", 2048)
    assert sorted(names(choice.options)) == ["p0", "p1", "p2", "p3"]
    options[2].track.load.begin(0.0, 1, 1)
    choice = affinity.choose(options, marks)
    assert names(choice.options)[0] != "p2"
    assert choice.num_cached == 0
    affinity.sent(options[0].seat.card.id, names(choice.options)[0], marks)
    options[2].track.load.prefilled(ticket)
    # Now two of them have it: the less loaded one is asked.
    assert names(affinity.choose(options, marks).options)[0] == names(choice.options)[0]


def test_without_a_mark_the_less_loaded_of_two_is_asked() -> None:
    affinity = Affinity(random.Random(0))
    options = [option(f"p{at}") for at in range(4)]
    for at, each in enumerate(options):
        each.track.load.begin(0.0, 100 * at, 0)
    firsts = Counter(names(affinity.choose(options, []).options)[0] for _ in range(3000))
    # The most loaded one is never the better of two; the others follow by how many they beat.
    assert firsts["p3"] == 0
    assert [round(firsts[f"p{at}"] / 3000, 1) for at in range(3)] == [0.5, 0.3, 0.2]
    assert names(affinity.choose(options[:1], []).options) == ["p0"]


def reported(each: Option, num_others: int, num_waiting: int = 0) -> None:
    each.track.load.report = Report(0.0, num_others, num_waiting, None)


def test_requests_of_others_count_like_ours_of_usual_size() -> None:
    affinity = Affinity(random.Random(0))
    options = [option("p0"), option("p1")]
    reported(options[0], 3)
    options[1].track.load.begin(0.0, 1000, 0)
    for size, first in ((300, "p0"), (400, "p1")):
        options[0].track.size = Average()
        options[0].track.size.add(size)
        assert {names(affinity.choose(options, []).options)[0] for _ in range(20)} == {first}
    options[0].track.load.report = None
    assert names(affinity.choose(options, []).options)[0] == "p0"


def test_a_prompt_leaves_a_replica_where_requests_wait() -> None:
    affinity = Affinity(random.Random(0))
    options = [option("p0"), option("p1")]
    affinity.sent(options[0].seat.card.id, "p0", [Mark(1, 64)])
    for num_waiting, first in ((0, "p0"), (1, "p1"), (0, "p0")):
        reported(options[0], 5, num_waiting)
        assert names(affinity.choose(options, [Mark(1, 64)]).options)[0] == first


def test_other_models_and_replicas_that_are_gone_do_not_count() -> None:
    affinity = Affinity(random.Random(0))
    options = [option("p0"), option("p1")]
    marks = [Mark(1, 64)]
    affinity.sent("other/model", "p1", marks)
    affinity.sent(options[0].seat.card.id, "gone", marks)
    assert affinity.choose(options, marks).num_cached == 0


def test_what_was_not_sent_for_longest_is_forgotten() -> None:
    affinity = Affinity(random.Random(0), most_kept=3)
    options = [option("p0"), option("p1")]
    model = options[0].seat.card.id
    for key in (1, 2, 3, 1, 4):
        affinity.sent(model, "p1", [Mark(key, 64)])
    assert [affinity.choose(options, [Mark(key, 64)]).num_cached for key in (1, 2, 3, 4)] == [64, 0, 64, 64]


class Server:
    """A replica with room for so many prompts' prefixes, those used last."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._kept: OrderedDict[int, None] = OrderedDict()

    def has(self, prefix: int) -> bool:
        hit = prefix in self._kept
        self._kept[prefix] = None
        self._kept.move_to_end(prefix)
        while len(self._kept) > self._room:
            self._kept.popitem(last=False)
        return hit


@pytest.mark.parametrize(("has_affinity", "least", "most"), [(True, 0.75, 1.0), (False, 0.0, 0.4)])
def test_prefixes_are_found_in_caches(has_affinity: bool, least: float, most: float) -> None:
    """150 conversations of five users each over eight replicas, of which each has room for thirty."""
    rng = random.Random(0)
    affinity = Affinity(rng)
    options = [option(f"p{at}") for at in range(8)]
    servers = {name: Server(30) for name in names(options)}
    order = [prefix for prefix in range(150) for _ in range(5)]
    rng.shuffle(order)
    hits, loads = 0, Counter[str]()
    for prefix in order:
        asked = request(f"{prefix} is the number of this conversation. " + LONG)
        marks = marks_of(asked) if has_affinity else []
        first = affinity.choose(options, marks).options[0]
        name = first.seat.provider.name
        affinity.sent(first.seat.card.id, name, marks)
        first.track.load.begin(0.0, 3000, 0)
        hits += servers[name].has(prefix)
        loads[name] += 1
    assert least <= hits / len(order) <= most
    assert max(loads.values()) <= 1.6 * len(order) / 8
