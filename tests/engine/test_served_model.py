"""The engine over a real, tiny model: the same answers in any company; nothing is lost or grows over many steps."""

from __future__ import annotations

import gc
import os
from typing import Any, NamedTuple

import gguf_factory
import numpy as np
import pytest
from gguf_factory import TinyModel

from hodios.dialog.tokenizer import Tokenizer
from hodios.engine import packed
from hodios.engine.engine import Engine
from hodios.engine.gguf import open_model
from hodios.engine.grammar import GrammarCompiler
from hodios.engine.kv_cache import BlockPool
from hodios.engine.memory import BLOCK_SIZE
from hodios.engine.messages import Output, Submit
from hodios.engine.runner import Runner, native_precision
from hodios.engine.scheduler import Scheduler
from hodios.types import Grammar, Sampling

MODEL = TinyModel(num_heads=8, is_tied=False, weight_type="Q4_1")
VOCAB_SIZE = 320
MOST_BLOCKS = 200
EOS = 2


class Served(NamedTuple):
    runner: Runner
    tokenizer_json: str


@pytest.fixture(scope="module", params=["fast", "exact"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("served")
    path = gguf_factory.write(MODEL, folder / "model.gguf")
    weights = packed.open_weights(path, folder / "cache", is_exact=request.param == "exact", check=lambda *_: None)
    runner = Runner(weights, num_blocks=MOST_BLOCKS, threads=1, max_batch_tokens=160, precision=native_precision())
    runner.warm_up()
    return Served(runner, Tokenizer.from_gguf(open_model(path).metadata).to_json())


class Bench:
    """An engine over the model, with a KV cache of its own size, and all that it told."""

    def __init__(self, served: Served, num_blocks: int = MOST_BLOCKS, seed: int = 1) -> None:
        self.pool = BlockPool(num_blocks, BLOCK_SIZE)
        self.scheduler = Scheduler(
            self.pool, max_sequences=32, max_batch_tokens=160, max_queue=1000, context_length=480
        )
        grammars = GrammarCompiler(served.tokenizer_json, vocab_size=VOCAB_SIZE, eos_ids=[EOS])
        rng = np.random.default_rng(seed)
        self.engine = Engine(
            served.runner, self.scheduler, self.pool, vocab_size=VOCAB_SIZE, grammars=grammars, rng=rng
        )
        self.answers: dict[tuple[int, int], list[int]] = {}
        self.ended: set[tuple[int, int]] = set()

    def submit(self, submit: Submit) -> None:
        refused = self.engine.submit(submit, "owner")
        assert refused is None, refused

    def step(self) -> None:
        for _, output in self.engine.step(lambda: None):
            self._take(output)

    def _take(self, output: Output) -> None:
        key = (output.id, output.index)
        assert key not in self.ended, "told after its end"
        assert output.finish_reason != "error", output.error
        self.answers.setdefault(key, []).extend(output.tokens)
        if output.finish_reason is not None:
            self.ended.add(key)

    def drain(self) -> None:
        while not self.engine.is_idle:
            self.step()
        self.pool.check()
        assert self.pool.num_free == self.pool.num_usable, "blocks are lost"

    def run(self, *submits: Submit) -> dict[tuple[int, int], list[int]]:
        for submit in submits:
            self.submit(submit)
        self.drain()
        return self.answers


def seeded(id: int, length: int, max_tokens: int, *, first: int = 0, **fields: Any) -> Submit:
    """Prompts of one `first` share their beginnings."""
    prompt = np.random.default_rng(first).integers(3, VOCAB_SIZE, length).tolist()
    sampling = Sampling(seed=1000 + id, temperature=0.9, ignore_eos=True)
    return Submit(id=id, prompt=prompt, max_tokens=max_tokens, sampling=sampling, **fields)


REQUESTS = [seeded(id, 20 + 13 * id, 40 + 3 * (id % 5), first=id % 3, n=1 + id % 2) for id in range(17)]


@pytest.fixture(scope="module")
def alone(served: Served) -> dict[tuple[int, int], list[int]]:
    """What each is answered by an engine that has seen nothing else."""
    answers: dict[tuple[int, int], list[int]] = {}
    for request in REQUESTS:
        answers |= Bench(served).run(request)
    return answers


def test_a_seeded_answer_is_the_same_among_sixteen_others(
    served: Served, alone: dict[tuple[int, int], list[int]]
) -> None:
    assert Bench(served).run(*REQUESTS) == alone
    assert Bench(served).run(*reversed(REQUESTS)) == alone


def test_a_seeded_answer_is_the_same_from_the_prefix_cache(
    served: Served, alone: dict[tuple[int, int], list[int]]
) -> None:
    bench = Bench(served)
    for request in REQUESTS:
        bench.run(request)
    assert bench.answers == alone
    stats = bench.engine.stats()
    assert stats.cached_tokens > 500, "the cache was not hit"
    bench.answers, bench.ended = {}, set()
    assert bench.run(*REQUESTS) == alone
    assert bench.engine.stats().cached_tokens > stats.cached_tokens + 1000


def test_a_seeded_answer_is_the_same_after_preemption(served: Served, alone: dict[tuple[int, int], list[int]]) -> None:
    num_preemptions = 0
    for num_blocks in (12, 16, 20, 24):
        bench = Bench(served, num_blocks)
        assert bench.run(*REQUESTS) == alone
        num_preemptions += bench.engine.stats().num_preemptions
    assert num_preemptions > 5, "hardly anybody was pre-empted"


def test_a_seeded_answer_is_the_same_beside_those_who_are_not_seeded(
    served: Served, alone: dict[tuple[int, int], list[int]]
) -> None:
    bench = Bench(served, num_blocks=60)
    rng = np.random.default_rng(4)
    for number, request in enumerate(REQUESTS):
        bench.submit(request)
        bench.submit(random_request(1000 + number, rng))
        for _ in range(number % 4):
            bench.step()
    bench.drain()
    assert {key: tokens for key, tokens in bench.answers.items() if key[0] < 1000} == alone


GRAMMARS = [
    Grammar("regex", "(yes|no|perhaps)( indeed)*!"),
    Grammar("json_schema", '{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}'),
    Grammar("json_object"),
]


def random_request(id: int, rng: np.random.Generator) -> Submit:
    """Any of everything: lengths, continuations, log-probabilities, grammars, seeds, salts."""
    length = int(rng.integers(1, 200 if rng.random() < 0.3 else 40))
    prompt = rng.integers(3, VOCAB_SIZE, length).tolist()
    if rng.random() < 0.5:
        prompt = (([5, 6, 7, 8] * 50)[: int(rng.integers(1, 120))] + prompt)[:250]
    sampling = Sampling(
        temperature=float(rng.choice([0.0, 0.7, 1.3])),
        seed=int(rng.integers(0, 9)) if rng.random() < 0.3 else None,
        top_p=float(rng.choice([1.0, 0.9])),
        top_k=int(rng.choice([0, 20])),
        repetition_penalty=float(rng.choice([1.0, 1.2])),
        logprobs=int(rng.integers(0, 5)) if rng.random() < 0.2 else None,
    )
    return Submit(
        id=id,
        prompt=prompt,
        max_tokens=int(rng.integers(0, 40)),
        n=int(rng.choice([1, 1, 1, 2, 4])),
        sampling=sampling,
        eos_ids=[EOS],
        grammar=GRAMMARS[int(rng.integers(3))] if rng.random() < 0.15 else None,
        prompt_logprobs=int(rng.integers(0, 3)) if rng.random() < 0.15 else None,
        salt=str(rng.integers(2)),
        caller=str(rng.integers(3)),
    )


def resident_bytes() -> int:
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run_random_steps(bench: Bench, rng: np.random.Generator, num_steps: int, first_id: int) -> int:
    """Requests come and go by chance, now and then in floods. Returns the next free id."""
    id = first_id
    alive: list[tuple[int, int]] = []
    for number in range(num_steps):
        if bench.scheduler.num_waiting < 20 and rng.random() < (0.6 if number % 200 < 100 else 0.05):
            request = random_request(id, rng)
            bench.submit(request)
            alive += [(id, index) for index in range(request.n)]
            id += 1
        if alive and rng.random() < 0.05:
            gone, index = alive.pop(int(rng.integers(len(alive))))
            bench.engine.abort("owner", gone, None if rng.random() < 0.5 else index)
        bench.step()
        alive = [key for key in alive if key not in bench.ended][-200:]
        bench.answers.clear()
        if number % 100 == 0:
            bench.pool.check()
            # What was told long ago would take more memory than the engine loses.
            bench.ended = {key for key in bench.ended if key[0] > id - 1000}
    bench.drain()
    bench.ended.clear()
    bench.answers.clear()
    return id


def test_what_has_ended_is_gone_at_once(served: Served) -> None:
    bench, rng = Bench(served, num_blocks=14), np.random.default_rng(7)
    next_id = run_random_steps(bench, rng, 50, 0)
    gc.collect()
    gc.disable()
    try:
        assert run_random_steps(bench, rng, 300, next_id) > next_id + 20
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert [each for each in gc.garbage if type(each).__module__.startswith("hodios.")] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def check_memory(served: Served, num_steps: int, share: float) -> None:
    bench, rng = Bench(served, num_blocks=14), np.random.default_rng(7)
    next_id = run_random_steps(bench, rng, num_steps // 4, 0)
    before = resident_bytes()
    run_random_steps(bench, rng, num_steps - num_steps // 4, next_id)
    grown = resident_bytes() - before
    stats = bench.engine.stats()
    assert stats.num_preemptions
    assert stats.accepted_tokens
    assert stats.cached_tokens
    assert grown < share * before, f"{grown / 2**20:.1f} MB more than {before / 2**20:.1f} MB after {num_steps} steps"


def test_random_requests_leave_every_block_free_and_memory_flat(served: Served) -> None:
    check_memory(served, 1200, share=0.04)


@pytest.mark.full
def test_memory_is_flat_over_a_hundred_thousand_steps(served: Served) -> None:
    check_memory(served, 100_000, share=0.03)
