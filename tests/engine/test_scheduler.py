from __future__ import annotations

import random
from typing import Any

import pytest
from fake_model import Loop, lone_answer, make_submit
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from hodios.engine.messages import Submit
from hodios.engine.scheduler import Batch, QueueFull, Unservable
from hodios.engine.sequence import Group
from hodios.errors import ConfigError


def prompt(length: int, start: int = 1) -> list[int]:
    return [start + i for i in range(length)]


def talkative(length: int, *, seed: int | None = None, max_tokens: int = 20, n: int = 1) -> Submit:
    """A request whose answers do not end before `max_tokens`; its id is its length."""
    return make_submit(length, prompt(length), max_tokens, seed=seed, ignore_eos=True, n=n)


def sizes(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [len(chunk.tokens) for chunk in batch.chunks]


def starts(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [chunk.start for chunk in batch.chunks]


# Chunks


def test_a_prompt_is_computed_in_chunks_and_only_its_end_has_logits() -> None:
    loop = Loop(num_blocks=50, max_batch_tokens=16)
    loop.add(make_submit(1, prompt(40)))
    batches = [loop.step() for _ in range(3)]
    assert [sizes(batch) for batch in batches] == [[16], [16], [8]]
    assert [batch.chunks[0].num_logits for batch in batches if batch] == [0, 0, 1]
    loop.drain()


def test_no_chunk_leaves_a_single_token() -> None:
    loop = Loop(num_blocks=50, max_batch_tokens=16)
    loop.add(make_submit(1, prompt(17)))
    assert sizes(loop.step()) == [12], "15 would need padding, 16 would leave one"
    assert sizes(loop.step())[0] == 5


def test_decode_steps_and_prefill_share_a_step() -> None:
    loop = Loop(num_blocks=50, max_batch_tokens=16, max_sequences=3)
    loop.drafts_up_to = 0
    loop.add(talkative(5))
    loop.step()
    loop.add(talkative(40))
    batch = loop.step()
    assert sizes(batch) == [1, 15]
    assert batch is not None
    assert [chunk.is_prefill for chunk in batch.chunks] == [False, True]


def test_a_lone_decode_step_is_padded_to_two_rows() -> None:
    loop = Loop(num_blocks=50)
    loop.drafts_up_to = 0
    loop.add(talkative(5))
    loop.step()
    batch = loop.step()
    assert batch is not None
    assert (batch.num_tokens, batch.padded_tokens) == (1, 2)


def test_prompt_logprobs_take_small_chunks_that_need_no_padding() -> None:
    loop = Loop(num_blocks=100, max_batch_tokens=512)
    loop.drafts_up_to = 0
    loop.add(talkative(5))
    loop.step()
    loop.add(make_submit(10**6, prompt(200, 500), prompt_logprobs=0))
    batch = loop.step()
    assert sizes(batch) == [1, 63]
    assert batch is not None
    assert batch.chunks[1].num_logits == 63
    loop.drain()


def test_prompt_logprobs_are_computed_afresh_even_if_the_prefix_is_cached() -> None:
    loop = Loop(num_blocks=100)
    for id in (1, 2):
        group = loop.add(make_submit(id, prompt(12), prompt_logprobs=0))
        loop.drain()
        assert group.cached_tokens == 0


def test_guesses_leave_half_of_the_rows_to_prompts() -> None:
    loop = Loop(num_blocks=100, max_batch_tokens=16, max_sequences=3)
    first = loop.add(talkative(5)).sequences[0]
    loop.step()
    loop.add(talkative(40))
    loop._guess = lambda: first.drafts.extend([1] * 19)  # type: ignore[method-assign]
    assert sizes(loop.step()) == [1 + 7, 8]


# The prefix cache


def test_a_repeated_prompt_is_found_but_for_its_last_tokens() -> None:
    loop = Loop(num_blocks=50, block_size=4)
    for id, length, cached in ((1, 13, 0), (2, 13, 8), (3, 14, 12), (4, 12, 8), (5, 5, 0), (6, 1, 0)):
        group = loop.add(make_submit(id, prompt(length), max_tokens=1))
        loop.drain()
        assert group.cached_tokens == cached, f"{length} tokens"


def test_a_request_waits_for_a_prefix_that_is_just_being_computed() -> None:
    loop = Loop(num_blocks=200, block_size=4, max_batch_tokens=32, max_sequences=16)
    groups = [loop.add(make_submit(id, [*prompt(100), 200 + id, 300 + id], 1)) for id in range(16)]
    loop.drain()
    assert [group.cached_tokens for group in groups] == [0] + [100] * 15
    assert loop.num_computed == 102 + 15 * 2


def test_nobody_waits_for_a_prefix_whose_logits_are_all_read() -> None:
    loop = Loop(num_blocks=200, max_batch_tokens=128)
    loop.add(make_submit(1, prompt(600), prompt_logprobs=0))
    loop.step()
    group = loop.add(make_submit(2, [*prompt(100), 7]))
    loop.step()
    assert group.first_scheduled_s is not None
    loop.drain()


def test_an_answer_is_a_prefix_for_the_next_turn_but_not_for_a_seeded_one() -> None:
    first = talkative(8, max_tokens=9)
    longer = [*first.prompt, *lone_answer(first, 0)]
    for seed, cached in ((None, 12), (5, 4)):
        loop = Loop(num_blocks=50, block_size=4)
        loop.drafts_up_to = 0
        loop.add(first)
        loop.drain()
        group = loop.add(make_submit(10**6, longer[:14], seed=seed))
        loop.drain()
        # Of a seeded sequence's view the first prompt is there, and nothing that was computed token by token.
        assert group.cached_tokens == (cached if seed is None else 8)


def test_what_is_computed_on_top_of_a_decoded_prefix_is_not_exact_either() -> None:
    loop = Loop(num_blocks=50, block_size=4)
    loop.drafts_up_to = 0
    first = talkative(8, max_tokens=9)
    loop.add(first)
    loop.drain()
    longer = [*first.prompt, *lone_answer(first, 0)[:6], *prompt(12, 900)]
    loop.add(make_submit(10**6, longer, 1))
    loop.drain()
    group = loop.add(make_submit(10**6 + 1, longer, seed=3))
    loop.drain()
    assert group.cached_tokens == 8
    again = loop.add(make_submit(10**6 + 2, longer, seed=3))
    loop.drain()
    assert again.cached_tokens == 24, "now it was computed exactly"


# Forks


def test_continuations_share_the_prompt_and_copy_its_last_block_when_they_part() -> None:
    loop = Loop(num_blocks=50, block_size=4, max_sequences=4)
    loop.drafts_up_to = 0
    group = loop.add(talkative(6, n=3))
    loop.step()
    assert [len(set(blocks)) for blocks in zip(*(each.blocks for each in group.sequences), strict=True)] == [1, 1]
    batch = loop.step()
    assert batch is not None
    assert len(batch.copies) == 2, "the last of the three writes in place"
    assert [len(set(blocks)) for blocks in zip(*(each.blocks for each in group.sequences), strict=True)] == [1, 3]
    loop.drain()
    assert len(loop.answers) == 3


def test_a_prompt_of_full_blocks_needs_no_copies() -> None:
    loop = Loop(num_blocks=50, block_size=4)
    loop.add(talkative(8, n=3))
    loop.step()
    batch = loop.step()
    assert batch is not None
    assert batch.copies == []


def test_a_group_takes_all_its_slots_at_once() -> None:
    loop = Loop(num_blocks=200, max_sequences=4)
    loop.add(talkative(6))
    large = loop.add(talkative(7, n=4))
    small = loop.add(talkative(8))
    loop.step()
    assert large.first_scheduled_s is None, "three slots are free, it needs four"
    assert small.first_scheduled_s is None, "nobody overtakes the head of the queue"
    loop.drain()
    assert large.first_scheduled_s is not None
    assert small.first_scheduled_s is not None
    assert large.first_scheduled_s < small.first_scheduled_s


# Those who leave


def test_abort_frees_blocks_at_once_and_unknown_ids_are_ignored() -> None:
    loop = Loop(num_blocks=50)
    mine, other = loop.add(talkative(20), owner="me"), loop.add(talkative(21), owner="other")
    loop.step()
    loop.step()
    loop.scheduler.abort("me", mine.submit.id + 10**6)
    loop.scheduler.abort("nobody", mine.submit.id)
    assert not mine.is_finished
    loop.scheduler.abort("me", mine.submit.id)
    loop.scheduler.abort("me", mine.submit.id)
    assert mine.is_finished
    assert loop.scheduler.find("me", mine.submit.id) is None
    assert loop.pool.num_free == loop.pool.num_usable - len(other.sequences[0].blocks)
    loop.drain()
    assert [owner for owner, *_ in loop.answers] == ["other"]


def test_an_owner_leaves_with_all_that_waits_and_runs() -> None:
    loop = Loop(num_blocks=50, max_sequences=2)
    for id in range(6):
        loop.add(make_submit(id, prompt(20, id * 50)), owner="me")
    loop.add(make_submit(0, prompt(5)), owner="other")
    loop.step()
    loop.scheduler.abort_owner("me")
    assert [group.owner for group in loop.scheduler.groups] == ["other"]
    loop.drain()


def test_a_result_that_comes_after_the_abort_is_dropped() -> None:
    loop = Loop(num_blocks=50)
    group = loop.add(talkative(6, n=2))
    loop.step(then_abort=group)
    assert loop.pool.num_free == loop.pool.num_usable
    assert loop.pool.num_cached == 0
    loop.drain()


@pytest.mark.parametrize("aborted", [[0], [1], [2], [0, 1], [1, 0], [0, 2], [2, 1]])
def test_the_prompt_goes_on_for_the_continuations_that_are_left(aborted: list[int]) -> None:
    loop = Loop(num_blocks=50, max_batch_tokens=16)
    submit = talkative(30, n=3, seed=4)
    loop.add(submit)
    loop.step()
    for index in aborted:
        loop.scheduler.abort("owner", submit.id, index)
    loop.drain()
    assert {index for _, _, index in loop.answers} == {0, 1, 2} - set(aborted)


def test_the_last_continuation_to_be_aborted_ends_the_group() -> None:
    loop = Loop(num_blocks=50, max_batch_tokens=16)
    group = loop.add(talkative(30, n=2))
    loop.step()
    for index in (0, 0, 7, 1):
        assert not group.is_finished
        loop.scheduler.abort("owner", group.submit.id, index)
    assert group.is_finished
    loop.drain()


def test_one_continuation_of_several_leaves() -> None:
    loop = Loop(num_blocks=50)
    group = loop.add(talkative(6, n=3))
    loop.step()
    loop.scheduler.abort("owner", group.submit.id, 1)
    assert [sequence.is_finished for sequence in group.sequences] == [False, True, False]
    loop.drain()
    assert len(loop.answers) == 2


# Those who cannot come in


@pytest.mark.parametrize(
    ("submit", "param", "message"),
    [
        (make_submit(1, []), "prompt", "empty"),
        (make_submit(1, [1], max_tokens=-1), "max_tokens", "at least 0"),
        (make_submit(1, prompt(90), max_tokens=11), "max_tokens", "exceed the context of 100"),
        (make_submit(1, [1], n=5), "n", "n is 5: it must be 1 to 4"),
        (make_submit(1, [1], n=0), "n", "n is 0: it must be 1 to 4"),
        (make_submit(1, prompt(30), max_tokens=12), "max_tokens", "need 11 blocks of KV cache, the engine has 10"),
        (make_submit(9, [1]), "id", "in use"),
    ],
)
def test_the_unservable_are_told_why(submit: Submit, param: str, message: str) -> None:
    loop = Loop(num_blocks=11, context_length=100)
    loop.add(make_submit(9, [1]))
    with pytest.raises(Unservable, match=message) as raised:
        loop.add(submit)
    assert raised.value.param == param
    assert loop.scheduler.num_waiting == 1


@pytest.mark.parametrize("num_prompt", [1, 30, 40])
def test_what_just_fits_is_served(num_prompt: int) -> None:
    loop = Loop(num_blocks=11, context_length=41)
    loop.add(talkative(num_prompt, max_tokens=41 - num_prompt))
    loop.drain()
    assert loop.num_computed >= 40


def test_the_queue_is_bounded() -> None:
    loop = Loop(num_blocks=50, max_queue=2)
    loop.add(make_submit(1, [1]))
    loop.add(make_submit(2, [1]))
    loop.now_s = 3.0
    with pytest.raises(QueueFull, match=r"2 requests are waiting, the engine's oldest came 3\.0 s ago"):
        loop.add(make_submit(3, [1]))
    loop.step()
    loop.add(make_submit(3, [1]))
    loop.drain()


def test_limits_that_would_starve_prompts_are_refused() -> None:
    with pytest.raises(ConfigError, match="for 64 sequences it must be at least 96"):
        Loop(num_blocks=50, max_sequences=64, max_batch_tokens=64)
    Loop(num_blocks=50, max_sequences=64, max_batch_tokens=96)


# Fair order


@given(num_callers=st.integers(1, 6), turn=st.integers(0, 30))
@settings(max_examples=20)
def test_a_caller_with_one_request_starts_within_one_round_of_the_others(num_callers: int, turn: int) -> None:
    loop = Loop(num_blocks=30, max_sequences=2)
    flood = [loop.add(make_submit(id, prompt(6, id * 10), 3, caller=f"flood {id % num_callers}")) for id in range(60)]
    for _ in range(turn):
        loop.step()
    before = {id(group) for group in flood if group.first_scheduled_s is not None}
    single = loop.add(make_submit(1000, prompt(6), 3, caller="single"))
    while single.first_scheduled_s is None:
        loop.step()
    between = [group for group in flood if group.first_scheduled_s is not None and id(group) not in before]
    assert len(between) <= num_callers + 1, "one of each, and perhaps one admitted after it in the same step"
    loop.drain()


def test_one_caller_is_served_in_order() -> None:
    loop = Loop(num_blocks=30, max_sequences=2)
    groups = [loop.add(make_submit(id, prompt(6, id * 10), 3)) for id in range(20)]
    loop.drain()
    started = [group.first_scheduled_s or 0.0 for group in groups]
    assert started == sorted(started)


# Pre-emption


def test_the_youngest_makes_way_and_loses_nothing() -> None:
    loop = Loop(num_blocks=13, block_size=4)
    old, young = loop.add(talkative(8, max_tokens=30)), loop.add(talkative(9, max_tokens=30))
    while not loop.scheduler.num_preemptions:
        loop.step()
    assert old.sequences[0].is_running
    [victim] = young.sequences
    assert (victim.state, victim.blocks, victim.num_computed) == ("waiting", [], 0)
    assert victim.num_output > 0
    loop.drain()
    assert len(loop.answers) == 2


def test_who_made_way_comes_before_the_others_of_its_caller() -> None:
    loop = Loop(num_blocks=13, block_size=4, max_sequences=2)
    loop.add(talkative(8, max_tokens=30))
    [victim] = loop.add(talkative(9, max_tokens=30)).sequences
    loop.step()
    later = loop.add(talkative(7, max_tokens=3))
    while not loop.scheduler.num_preemptions:
        loop.step()
    while not victim.is_running:
        assert later.first_scheduled_s is None
        loop.step()
    loop.drain()


@pytest.mark.parametrize("seed", [None, 7])
def test_output_is_prefilled_again_unless_it_is_seeded(seed: int | None) -> None:
    loop = Loop(num_blocks=13, block_size=4, max_batch_tokens=32)
    loop.drafts_up_to = 0
    loop.add(talkative(8, max_tokens=30))
    [victim] = loop.add(talkative(9, max_tokens=30, seed=seed)).sequences
    while not loop.scheduler.num_preemptions:
        loop.step()
    while not victim.is_running:
        batch = loop.step()
    chunk = next(chunk for chunk in batch.chunks if chunk.sequence is victim) if batch else None
    assert chunk is not None
    assert chunk.end == (len(victim.tokens) - 1 if seed is None else 9), "the loop has appended a token since"
    assert chunk.num_logits == (1 if seed is None else 0)
    loop.drain()


def test_prompt_logprobs_are_handed_out_once_even_if_the_prompt_is_computed_twice() -> None:
    loop = Loop(num_blocks=81, block_size=1, max_batch_tokens=16)
    for length in (3, 4, 5):
        loop.add(talkative(length, max_tokens=60))
    loop.step()
    [victim] = loop.add(make_submit(1000, prompt(50, 1000), 10, prompt_logprobs=1)).sequences
    while not loop.scheduler.num_preemptions:
        loop.step()
    assert (victim.state, victim.is_unscored) == ("waiting", True)
    assert 0 < victim.num_scored < 50
    # The loop compares the positions scored with the prompt's at the end.
    loop.drain()


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_answers_without_a_decode_step(max_tokens: int) -> None:
    loop = Loop(num_blocks=20)
    loop.add(make_submit(1, prompt(20), max_tokens, n=3, prompt_logprobs=1))
    loop.add(make_submit(2, prompt(1), max_tokens, prompt_logprobs=1))
    loop.drain()
    assert len(loop.answers) == 4


# Everything at once


def random_submit(rng: random.Random, id: int, *, max_prompt: int = 20, max_tokens: int = 40) -> Submit:
    """Few distinct tokens and callers, so that prefixes, queues and salts collide all the time."""
    length = rng.choice([1, 2, 3, max_prompt, rng.randint(1, max_prompt)])
    own = rng.randint(0, length)
    return make_submit(
        id,
        [*prompt(length - own), *(rng.choice([1, 1, 1, 2]) for _ in range(own))],
        rng.choice([0, 1, 2, max_tokens, max_tokens]),
        seed=rng.choice([None, None, 1, 2]),
        ignore_eos=rng.random() < 0.7,
        n=rng.choice([1, 1, 1, 2, 3]),
        salt=rng.choice(["", "", "salt"]),
        caller=rng.choice(["a", "a", "a", "b", "c"]),
        prompt_logprobs=rng.choice([None, None, None, 2]),
    )


def simulate(seed: int, num_requests: int) -> Loop:
    rng = random.Random(seed)
    block_size = rng.choice([1, 2, 4, 8])
    max_sequences = rng.randint(3, 8)
    # From a pool in which only one sequence fits at a time to one in which all do.
    least = -(-60 // block_size) + 1
    loop = Loop(
        num_blocks=rng.choice([least, least + rng.randint(0, least), 8 * least]),
        block_size=block_size,
        max_sequences=max_sequences,
        max_batch_tokens=rng.choice([16, 24, 32, 64]),
        rng=rng,
    )
    for id in range(num_requests):
        loop.add(random_submit(rng, id), owner=rng.choice(["p", "q"]))
        for _ in range(rng.choice([0, 0, 1, 3])):
            loop.step(then_abort=rng.choice(loop.groups) if rng.random() < 0.02 else None)
        chance = rng.random()
        if chance < 0.1:
            group = rng.choice(loop.groups)
            loop.scheduler.abort(group.owner, group.submit.id, rng.choice([None, 0, 1, 2]))
        elif chance < 0.11:
            loop.scheduler.abort_owner("q")
    loop.drain()
    return loop


@pytest.mark.parametrize("seed", range(40))
def test_random_traffic_is_answered_as_if_alone(seed: int) -> None:
    simulate(seed, num_requests=60)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1000, 1500))
def test_random_traffic_at_length(seed: int) -> None:
    simulate(seed, num_requests=150)


def test_random_traffic_meets_every_case() -> None:
    loops = [simulate(seed, num_requests=60) for seed in range(100, 110)]
    assert sum(loop.scheduler.num_preemptions for loop in loops) > 100
    assert sum(loop.num_accepted for loop in loops) > 1000
    assert sum(group.cached_tokens for loop in loops for group in loop.groups) > 300


class Traffic(RuleBasedStateMachine):
    """The same, with hypothesis looking for the shortest way to break it."""

    @initialize(
        num_blocks=st.integers(12, 40),
        block_size=st.sampled_from([2, 4]),
        max_sequences=st.integers(3, 6),
        seed=st.integers(0, 9),
    )
    def start(self, num_blocks: int, block_size: int, max_sequences: int, seed: int) -> None:
        self.loop = Loop(
            num_blocks=num_blocks, block_size=block_size, max_sequences=max_sequences, rng=random.Random(seed)
        )
        self.next_id = 0

    @rule(
        tokens=st.lists(st.integers(1, 2), min_size=1, max_size=12),
        max_tokens=st.integers(0, 10),
        sampling_seed=st.sampled_from([None, None, 1]),
        n=st.integers(1, 3),
        salt=st.sampled_from(["", "salt"]),
        caller=st.sampled_from("ab"),
        prompt_logprobs=st.sampled_from([None, None, 1]),
    )
    def add(self, tokens: list[int], max_tokens: int, sampling_seed: int | None, n: int, **fields: Any) -> None:
        self.next_id += 1
        self.loop.add(make_submit(self.next_id, tokens, max_tokens, seed=sampling_seed, n=n, **fields))

    @rule(count=st.integers(1, 5))
    def step(self, count: int) -> None:
        for _ in range(count):
            self.loop.step()

    @precondition(lambda self: self.loop.scheduler.groups)
    @rule(position=st.integers(0, 20), index=st.sampled_from([None, 0, 1, 2]), while_running=st.booleans())
    def abort(self, position: int, index: int | None, while_running: bool) -> None:
        groups: list[Group] = list(self.loop.scheduler.groups)
        group = groups[position % len(groups)]
        if while_running:
            self.loop.step(then_abort=group)
        else:
            self.loop.scheduler.abort(group.owner, group.submit.id, index)
            self.loop.pool.check()

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.drain()


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=30)
