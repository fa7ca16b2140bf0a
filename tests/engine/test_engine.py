"""The step over a scripted model: what is drawn, told, guessed and given back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.engine.engine import Engine
from hodios.engine.grammar import GrammarCompiler
from hodios.engine.kv_cache import BlockPool
from hodios.engine.messages import Output, Submit
from hodios.engine.scheduler import Batch, Scheduler
from hodios.types import Grammar, Sampling

VOCAB_SIZE = 50
EOS = 49
OWNER = "connection"


class Script:
    """After token t comes `follows(t)`, nearly for certain."""

    def __init__(self, follows: Callable[[int], int]) -> None:
        self._follows = follows
        self.broken: set[int] = set()
        self.batches: list[Batch] = []

    def start(self, batch: Batch) -> None:
        self.batches.append(batch)

    def wait(self) -> np.ndarray:
        chunks = [chunk for chunk in self.batches[-1].chunks if chunk.num_logits]
        tokens = [token for chunk in chunks for token in chunk.tokens[-chunk.num_logits :]]
        logits = np.zeros((len(tokens), VOCAB_SIZE), np.float32)
        for row, token in enumerate(tokens):
            logits[row, self._follows(token)] = 20.0
            if token in self.broken:
                logits[row] = np.nan
        return logits


class Bench:
    """An engine over a script, with all that it told."""

    def __init__(self, follows: Callable[[int], int] = lambda token: (token + 1) % 40, **options: int) -> None:
        self.script = Script(follows)
        self.pool = BlockPool(options.get("num_blocks", 200), 4)
        self.scheduler = Scheduler(
            self.pool, max_sequences=8, max_batch_tokens=32, max_queue=options.get("max_queue", 100), context_length=400
        )
        self.engine = Engine(
            self.script,
            self.scheduler,
            self.pool,
            vocab_size=VOCAB_SIZE,
            grammars=GrammarCompiler("{}", vocab_size=VOCAB_SIZE, eos_ids=[EOS]),
            rng=np.random.default_rng(1),
        )
        self.told: dict[tuple[int, int], list[Output]] = {}

    def step(self) -> None:
        for owner, output in self.engine.step(lambda: None):
            assert owner == OWNER
            self.told.setdefault((output.id, output.index), []).append(output)

    def run(self, *submits: Submit) -> dict[tuple[int, int], list[int]]:
        """Tokens of every continuation, once all are done and every block is free."""
        for submit in submits:
            refused = self.engine.submit(submit, OWNER)
            assert refused is None, refused
        while not self.engine.is_idle:
            self.step()
        self.pool.check()
        assert self.pool.num_free == self.pool.num_usable, "blocks are lost"
        return {key: [token for output in outputs for token in output.tokens] for key, outputs in self.told.items()}

    def last(self, id: int, index: int = 0) -> Output:
        return self.told[id, index][-1]


def greedy(id: int, prompt: list[int], max_tokens: int = 5, **fields: object) -> Submit:
    return Submit(
        id=id, prompt=prompt, max_tokens=max_tokens, eos_ids=[EOS], sampling=Sampling(temperature=0), **fields
    )


def test_an_answer_ends_at_its_length() -> None:
    bench = Bench()
    assert bench.run(greedy(1, [1, 2, 3])) == {(1, 0): [4, 5, 6, 7, 8]}
    assert bench.last(1).finish_reason == "length"
    assert bench.last(1).stop_token is None


def test_an_answer_ends_with_an_end_token_which_it_tells() -> None:
    bench = Bench(lambda token: EOS if token == 5 else token + 1)
    assert bench.run(greedy(1, [1, 2, 3])) == {(1, 0): [4, 5, EOS]}
    assert (bench.last(1).finish_reason, bench.last(1).stop_token) == ("stop", EOS)


def test_ignore_eos_goes_on_but_stop_tokens_still_end() -> None:
    bench = Bench(lambda token: {5: EOS, EOS: 6}.get(token, token + 1))
    sampling = Sampling(temperature=0, ignore_eos=True, stop_token_ids=(7,))
    submit = Submit(id=1, prompt=[3], max_tokens=9, eos_ids=[EOS], sampling=sampling)
    assert bench.run(submit) == {(1, 0): [4, 5, EOS, 6, 7]}
    assert bench.last(1).stop_token == 7


def test_all_continuations_come_from_one_prompt() -> None:
    bench = Bench()
    answers = bench.run(greedy(1, list(range(10)), n=4))
    assert answers == {(1, index): [10, 11, 12, 13, 14] for index in range(4)}
    assert bench.engine.stats().prompt_tokens == 10


def test_prompt_logprobs_cover_every_prompt_token_once() -> None:
    bench = Bench()
    prompt = list(range(100, 0, -1))
    prompt = [token % 40 for token in prompt]
    bench.run(greedy(1, prompt, 2, prompt_logprobs=1))
    told = [entry for output in bench.told[1, 0] for entry in output.prompt_logprobs or []]
    assert [entry.token_id for entry in told] == prompt
    assert told[0].logprob is None
    assert all(entry.logprob is not None and entry.logprob < 0 for entry in told[1:])


def test_waiting_time_and_cached_tokens_come_with_the_very_first_output() -> None:
    bench = Bench()
    prompt = [token % 40 for token in range(100)]
    bench.run(greedy(1, prompt, 3), greedy(2, prompt, 3, prompt_logprobs=0, n=3), greedy(3, prompt[:1], 2, n=2))
    bench.run(greedy(4, prompt, 3, n=2))
    for (id, _), outputs in bench.told.items():
        assert outputs[0].queue_s > 0
        assert outputs[0].cached_tokens == (96 if id == 4 else 0)
        assert all(output.queue_s == output.cached_tokens == 0 for output in outputs[1:])
    assert len(bench.told[2, 0]) > 3 + 1, "the prompt's log-probabilities came first, over several steps"


def test_without_end_tokens_a_grammar_is_refused_and_nothing_else() -> None:
    bench = Bench()
    bench.engine._grammars = None
    refused = bench.engine.submit(greedy(1, [1], grammar=Grammar("json_object")), OWNER)
    assert refused is not None
    assert (refused.reason, refused.param) == ("invalid", "response_format")
    assert "end-of-sequence" in refused.message
    assert bench.run(greedy(2, [1, 2, 3])) == {(2, 0): [4, 5, 6, 7, 8]}


def test_nothing_is_generated_where_only_the_prompt_is_asked_about() -> None:
    bench = Bench()
    assert bench.run(greedy(1, [1, 2, 3, 4, 5], 0, prompt_logprobs=0)) == {(1, 0): []}
    assert bench.last(1).finish_reason == "length"
    assert sum(len(output.prompt_logprobs or []) for output in bench.told[1, 0]) == 5


def test_logprobs_come_with_each_token_and_add_up() -> None:
    bench = Bench()
    sampling = Sampling(temperature=0, logprobs=2)
    bench.run(Submit(id=1, prompt=[1, 2], max_tokens=3, sampling=sampling, n=2))
    for index in (0, 1):
        entries = [entry for output in bench.told[1, index] for entry in output.logprobs or []]
        assert [entry.token_id for entry in entries] == [3, 4, 5]
        assert bench.last(1, index).cumulative_logprob == pytest.approx(sum(entry.logprob or 0 for entry in entries))


def test_guesses_save_steps_and_change_nothing() -> None:
    bench = Bench(lambda token: (token + 1) % 6)
    answer = bench.run(greedy(1, [0, 1, 2, 3, 4, 5] * 3, 60))[1, 0]
    assert answer == [(token % 6) for token in range(60)]
    stats = bench.engine.stats()
    assert stats.num_steps < 30
    assert stats.accepted_tokens > 30
    assert sum(output.accepted_drafts for output in bench.told[1, 0]) == stats.accepted_tokens


def test_a_seeded_answer_is_never_guessed_at() -> None:
    bench = Bench(lambda token: (token + 1) % 6)
    sampling = Sampling(seed=7)
    bench.run(Submit(id=1, prompt=[0, 1, 2, 3, 4, 5] * 3, max_tokens=30, sampling=sampling))
    assert bench.engine.stats().drafted_tokens == 0


def test_broken_numbers_end_one_request_and_no_other() -> None:
    bench = Bench()
    bench.script.broken = {12}
    answers = bench.run(greedy(1, [1, 2]), greedy(2, [9, 10]), greedy(3, [20]))
    assert answers[1, 0] == [3, 4, 5, 6, 7]
    assert answers[3, 0] == [21, 22, 23, 24, 25]
    assert bench.last(2).finish_reason == "error"
    assert "not finite" in (bench.last(2).error or "")


@pytest.mark.parametrize("token", [-1, VOCAB_SIZE, 2**40])
def test_a_token_outside_the_vocabulary_is_refused(token: int) -> None:
    refused = Bench().engine.submit(greedy(1, [1, token]), OWNER)
    assert refused is not None
    assert (refused.reason, refused.param) == ("invalid", "prompt")
    assert str(token) in refused.message


def test_a_full_queue_refuses_for_now() -> None:
    bench = Bench(max_queue=2)
    refusals = [bench.engine.submit(greedy(id, [1, 2]), OWNER) for id in range(4)]
    assert [refused and refused.reason for refused in refusals] == [None, None, "full", "full"]


def test_a_bad_grammar_is_refused_before_anything_is_queued() -> None:
    bench = Bench()
    refused = bench.engine.submit(greedy(1, [1], grammar=Grammar("json_schema", "no schema")), OWNER)
    assert refused is not None
    assert refused.param == "response_format"
    assert bench.engine.is_idle


def test_a_lost_connection_takes_its_requests_along() -> None:
    bench = Bench()
    for id in range(5):
        bench.engine.submit(greedy(id, [1, 2, 3], 100), OWNER)
    bench.engine.submit(greedy(1, [4], 100), "another")
    bench.engine.step(lambda: None)
    bench.engine.abort_owner(OWNER)
    told = bench.engine.step(lambda: None)
    assert {owner for owner, _ in told} == {"another"}


def test_other_work_is_done_while_the_model_runs() -> None:
    bench = Bench()
    bench.engine.submit(greedy(1, [1, 2]), OWNER)
    seen: list[int] = []
    bench.engine.step(lambda: seen.append(len(bench.script.batches)))
    assert seen == [1]


@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.integers(0, 20), st.integers(1, 4), st.booleans(), st.booleans()),
        min_size=1,
        max_size=8,
    ),
    st.integers(40, 120),
)
def test_every_request_is_answered_whole_whatever_else_runs(
    requests: list[tuple[int, int, int, bool, bool]], num_blocks: int
) -> None:
    bench = Bench(num_blocks=num_blocks)
    submits = [
        Submit(
            id=id,
            prompt=[(id + position) % 40 for position in range(length)],
            max_tokens=max_tokens,
            n=n,
            sampling=Sampling(temperature=0, seed=1 if is_seeded else None),
            prompt_logprobs=0 if is_scored else None,
            caller=str(id % 3),
        )
        for id, (length, max_tokens, n, is_seeded, is_scored) in enumerate(requests)
    ]
    answers = bench.run(*submits)
    for submit in submits:
        expected = [(submit.prompt[-1] + 1 + step) % 40 for step in range(submit.max_tokens)]
        for index in range(submit.n):
            assert answers[submit.id, index] == expected
        scored = [entry for output in bench.told[submit.id, 0] for entry in output.prompt_logprobs or []]
        assert len(scored) == (0 if submit.prompt_logprobs is None else len(submit.prompt))
