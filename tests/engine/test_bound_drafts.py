"""Guesses within grammars: they save steps, change nothing, and learn from what was said."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from hodios.engine.bound_drafts import MOST_CHOICES, GuessingMatcher
from hodios.engine.drafts import PromptLookup
from hodios.engine.engine import FEW_SEQUENCES, Engine
from hodios.engine.grammar import GrammarCompiler, GrammarFailure, Matcher
from hodios.engine.kv_cache import BlockPool
from hodios.engine.messages import Submit
from hodios.engine.scheduler import Batch, Scheduler
from hodios.types import Grammar, Sampling

MERGES = [("a", "b"), ("ab", "c"), ("{", '"'), ('"', ":"), ("Ġ", "Ġ"), ("t", "r"), ("u", "e"), ("tr", "ue")]
PEOPLE = {
    "type": "array",
    "minItems": 30,
    "items": {
        "type": "object",
        "properties": {"ab": {"type": "string", "maxLength": 6}, "c": {"type": "boolean"}, "d": {"enum": ["x", "y"]}},
        "required": ["ab", "c", "d"],
        "additionalProperties": False,
    },
}
GRAMMARS = [
    Grammar("json_schema", json.dumps(PEOPLE)),
    Grammar("json_object"),
    Grammar("regex", "(abc|ab|true|  |[xyz]{3}:){1,60}"),
    Grammar("lark", 'start: ("ab" | "true" | "," )+ "c"'),
]


def _tokenizer() -> Tokenizer:
    vocab = {character: i for i, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for left, right in MERGES:
        vocab[left + right] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=MERGES))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<eos>", special=True)])
    return tokenizer


TOKENIZER = _tokenizer()
EOS = TOKENIZER.token_to_id("<eos>")
SIZE = TOKENIZER.get_vocab_size()
COMPILER = GrammarCompiler(TOKENIZER.to_str(), vocab_size=SIZE, eos_ids=[EOS])


class Creature:
    """Says next what the last `memory` tokens make it say, so that it falls into habits."""

    def __init__(self, memory: int, seed: int) -> None:
        self._memory, self._seed = memory, seed
        self._batch: Batch | None = None
        self._rows: dict[int, np.ndarray] = {}

    def start(self, batch: Batch) -> None:
        self._batch = batch

    def wait(self) -> np.ndarray:
        assert self._batch is not None
        rows = []
        for chunk in self._batch.chunks:
            known = [*chunk.sequence.tokens[: chunk.start], *chunk.tokens]
            for end in range(len(known) - chunk.num_logits + 1, len(known) + 1):
                seed = zlib.crc32(np.array(known[max(0, end - self._memory) : end]).tobytes())
                if seed not in self._rows:
                    self._rows[seed] = np.random.default_rng([seed, self._seed]).normal(size=SIZE)
                rows.append(self._rows[seed])
        return np.array(rows, np.float32).reshape(-1, SIZE)


def answers(
    model: Creature,
    grammar: Grammar,
    num_requests: int,
    sampling: Sampling,
    *,
    speculates: bool = True,
    row_cost: float = 1.0,
) -> tuple[list[list[int]], Engine]:
    pool = BlockPool(600, 4)
    scheduler = Scheduler(pool, max_sequences=8, max_batch_tokens=128, max_queue=9, context_length=400)
    engine = Engine(
        model,
        scheduler,
        pool,
        vocab_size=SIZE,
        grammars=COMPILER,
        rng=np.random.default_rng(0),
        speculates=speculates,
        row_cost=row_cost,
    )
    for id in range(num_requests):
        submit = Submit(
            id=id, prompt=[65, 66, 67 + id], max_tokens=80, eos_ids=[EOS], sampling=sampling, grammar=grammar
        )
        assert engine.submit(submit, "owner") is None
    told: list[list[int]] = [[] for _ in range(num_requests)]
    while not engine.is_idle:
        for each in engine.step(lambda: None):
            assert each.output.error is None
            told[each.output.id] += each.output.tokens
    assert pool.num_free == pool.num_usable
    return told, engine


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize("num_requests", [1, FEW_SEQUENCES + 2])
@pytest.mark.parametrize("memory", [1, 60])
def test_guesses_change_nothing(grammar: Grammar, num_requests: int, memory: int) -> None:
    model = Creature(memory, seed=memory)
    for sampling in (Sampling(temperature=0.0), Sampling(temperature=0.0, frequency_penalty=0.3)):
        plain, _ = answers(model, grammar, num_requests, sampling, speculates=False)
        for row_cost in (0.1, 0.9):
            guessed, _ = answers(model, grammar, num_requests, sampling, row_cost=row_cost)
            assert guessed == plain


def test_they_save_steps_and_are_bolder_where_rows_are_cheap() -> None:
    model, greedy = Creature(2, seed=1), Sampling(temperature=0.0)
    num_requests = FEW_SEQUENCES + 2
    _, plain = answers(model, GRAMMARS[0], num_requests, greedy, speculates=False)
    _, dear = answers(model, GRAMMARS[0], num_requests, greedy, row_cost=0.9)
    _, cheap = answers(model, GRAMMARS[0], num_requests, greedy, row_cost=0.1)
    assert dear.stats().num_steps < plain.stats().num_steps
    assert cheap.stats().num_steps <= dear.stats().num_steps
    assert cheap.stats().drafted_tokens > dear.stats().drafted_tokens


class Told(PromptLookup):
    """Keeps what it was told."""

    reports: tuple[tuple[int, int], ...] = ()

    def report(self, num_proposed: int, num_accepted: int) -> None:
        self.reports += ((num_proposed, num_accepted),)


def guessing(source: str, prompt: str = "") -> tuple[GuessingMatcher, Told]:
    lookup = Told(TOKENIZER.encode(prompt).ids)
    return GuessingMatcher(COMPILER.compile(Grammar("regex", source)), lookup, SIZE), lookup


def mask(matcher: GuessingMatcher | Matcher) -> list[int]:
    bitmask = np.zeros((1, (SIZE + 31) // 32), np.int32)
    matcher.fill_mask(bitmask, 0)
    return np.flatnonzero(np.unpackbits(bitmask.view(np.uint8), bitorder="little")).tolist()


def say(matcher: GuessingMatcher, text: str) -> None:
    tokens = TOKENIZER.encode(text).ids
    for token in tokens:
        mask(matcher)
        matcher.accept(token)
    matcher.extend(tokens)


def proposed(matcher: GuessingMatcher, least_match: int = 3, most_choices: int = MOST_CHOICES) -> str:
    tokens = matcher.propose(least_match, most_choices)
    return "".join(TOKENIZER.id_to_token(token) for token in tokens)


def test_what_was_said_last_where_the_grammar_stood_the_same_is_said_again() -> None:
    matcher, _ = guessing("([x-z]{2}(:|;)){1,99}")
    say(matcher, "xy")
    assert proposed(matcher) == ""
    say(matcher, ":zx")
    assert proposed(matcher).startswith(":")
    assert proposed(matcher, most_choices=1) == ""


def test_a_habit_that_was_broken_counts_again_once_it_is_kept() -> None:
    matcher, _ = guessing("([x-z]{2}(:|;)){1,99}")
    say(matcher, "xy:zx;yy")
    assert proposed(matcher) == ""
    say(matcher, ";zz")
    assert proposed(matcher).startswith(";")


def test_what_is_forced_goes_on_where_guesses_end_and_guesses_where_it_ends() -> None:
    matcher, _ = guessing("([x-z]{2}(:|;)true(,|!)){1,99}")
    say(matcher, "xy:true,zx")
    assert proposed(matcher).startswith(":true,")


def test_what_followed_before_is_guessed_as_far_as_the_grammar_allows() -> None:
    matcher, _ = guessing("[a-z]{1,99}", prompt="qrstuv!w qr")
    say(matcher, "qrst")
    assert proposed(matcher) == "uv"
    assert proposed(matcher, least_match=5) == ""


def test_without_a_lookup_only_what_is_forced_is_told() -> None:
    matcher = GuessingMatcher(COMPILER.compile(Grammar("regex", "([x-z]{2}(:|;)){1,9}true")), None, SIZE)
    for text in ("xy:", "zz"):
        say(matcher, text)
        assert proposed(matcher) == ""
    assert proposed(GuessingMatcher(COMPILER.compile(Grammar("regex", "true")), None, SIZE)) == "true"


@pytest.mark.parametrize(
    ("num_accepted", "reports"), [(0, ()), (1, ((2, 0),)), (2, ((2, 1),)), (3, ((2, 2),)), (9, ((2, 2),))]
)
def test_the_lookup_hears_of_its_own_guesses_alone(num_accepted: int, reports: tuple[tuple[int, int], ...]) -> None:
    matcher, lookup = guessing("(true)[p-w]{2}!", prompt="truetutruetu")
    tokens = matcher.propose(1, MOST_CHOICES)
    assert "".join(map(TOKENIZER.id_to_token, tokens)) == "truetu!"
    matcher.report(len(tokens), num_accepted)
    assert lookup.reports == reports


def test_a_guess_that_was_not_tried_is_no_failure() -> None:
    matcher, lookup = guessing("(true)[p-w]{2}!", prompt="truetutruetu")
    matcher.propose(1, MOST_CHOICES)
    matcher.report(1, 1)
    assert lookup.reports == ()
    matcher.report(2, 2)
    assert lookup.reports == ((1, 1),)


def test_a_grammar_that_fails_ahead_of_the_answer_is_no_failure_yet() -> None:
    class Failing(Matcher):
        def copy(self) -> Matcher:
            raise GrammarFailure("too complex")

    inner = Failing(COMPILER.compile(Grammar("regex", "true"))._state)
    matcher = GuessingMatcher(inner, PromptLookup([1, 2, 3]), SIZE)
    assert matcher.propose(0, MOST_CHOICES) == []
    assert not matcher.is_finished
    assert mask(matcher) == mask(COMPILER.compile(Grammar("regex", "true")))


@given(st.sampled_from(GRAMMARS), st.randoms(use_true_random=False), st.integers(0, 40))
def test_looking_ahead_moves_nothing_and_proposes_what_is_allowed(grammar, random, length) -> None:
    matcher = GuessingMatcher(COMPILER.compile(grammar), PromptLookup([]), SIZE)
    shadow = COMPILER.compile(grammar)
    for _ in range(length):
        allowed = mask(matcher)
        assert allowed == mask(shadow)
        tokens = matcher.propose(0, MOST_CHOICES)
        assert shadow.num_allowed(tokens) == len(tokens)
        if matcher.is_finished:
            return
        token = random.choice(allowed[:6])
        if token == EOS:
            return
        matcher.accept(token)
        matcher.extend([token])
        shadow.accept(token)
