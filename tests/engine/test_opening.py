"""Answers that have to begin with given text: whatever tokens spell it, what follows is what would have followed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from hodios.engine.engine import Engine
from hodios.engine.grammar import GrammarCompiler, GrammarFailure
from hodios.engine.kv_cache import BlockPool
from hodios.engine.messages import Output, Place, Refused, Submit
from hodios.engine.opening import Opening
from hodios.engine.scheduler import Batch, Scheduler
from hodios.types import Grammar, Sampling

MERGES = [("a", "b"), ("ab", "c"), ("b", "c"), ("{", '"'), ('"', ":"), ("Ġ", "Ġ"), ("t", "r"), ("tr", "u")]
SCHEMA = Grammar("json_schema", json.dumps({"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}}}))


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
_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [code for code in range(256) if code not in _PRINTED]
_BYTE_OF = {chr(code): code for code in _PRINTED} | {chr(0x100 + i): code for i, code in enumerate(_OTHERS)}
BYTES = {id: bytes(map(_BYTE_OF.__getitem__, text)) for text, id in TOKENIZER.get_vocab().items() if id != EOS}


def spelled(ids: Sequence[int]) -> bytes:
    return b"".join(BYTES[id] for id in ids if id != EOS)


def places(text: bytes) -> list[Place]:
    found = []
    for start in range(len(text)):
        rest = text[start:]
        inner = {id: start + len(data) for id, data in BYTES.items() if rest.startswith(data) and data != rest}
        found.append(Place(inner, [id for id, data in BYTES.items() if data.startswith(rest)]))
    return found


class Whim:
    """What it likes to say next depends on every token so far, and on nothing else."""

    def __init__(self) -> None:
        self._batch: Batch | None = None

    def start(self, batch: Batch) -> None:
        self._batch = batch

    def wait(self) -> np.ndarray:
        assert self._batch is not None
        rows = []
        for chunk in self._batch.chunks:
            known = [*chunk.sequence.tokens[: chunk.start], *chunk.tokens]
            for end in range(len(known) - chunk.num_logits + 1, len(known) + 1):
                seed = zlib.crc32(np.array(known[:end]).tobytes())
                rows.append(np.random.default_rng(seed).normal(size=SIZE))
        return np.array(rows, np.float32).reshape(-1, SIZE)


def ask(submit: Submit) -> tuple[list[int], Output] | Refused:
    pool = BlockPool(200, 4)
    scheduler = Scheduler(pool, max_sequences=8, max_batch_tokens=32, max_queue=9, context_length=400)
    grammars = GrammarCompiler(TOKENIZER.to_str(), vocab_size=SIZE, eos_ids=[EOS])
    engine = Engine(
        Whim(), scheduler, pool, vocab_size=SIZE, grammars=grammars, rng=np.random.default_rng(0), row_cost=0.1
    )
    if (refused := engine.submit(submit, "owner")) is not None:
        return refused
    outputs: list[Output] = []
    while not engine.is_idle:
        outputs += [told.output for told in engine.step(lambda: None)]
    assert pool.num_free == pool.num_usable
    return [token for output in outputs for token in output.tokens], outputs[-1]


def submit(prompt: list[int], **fields: object) -> Submit:
    sampling = Sampling(temperature=0.0)
    return Submit(**{"id": 1, "prompt": prompt, "max_tokens": 40, "eos_ids": [EOS], "sampling": sampling, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("grammar", [None, SCHEMA, Grammar("regex", "(abc|ab|tru|  ){1,12}")])
@pytest.mark.parametrize("sampling", [Sampling(temperature=0.0), Sampling(temperature=0.0, frequency_penalty=1.5)])
def test_what_follows_is_what_would_have_followed(grammar: Grammar | None, sampling: Sampling) -> None:
    prompt = [65, 66, 67]
    asked = submit(prompt, grammar=grammar, sampling=sampling, max_tokens=24)
    answered = ask(asked)
    assert not isinstance(answered, Refused)
    whole, last = answered
    assert len(whole) > 4
    for cut in range(1, len(whole) - 1):
        for num_again in range(1, min(cut, 4) + 1):
            kept = whole[: cut - num_again]
            opening = places(spelled(whole[cut - num_again : cut]))
            begun = submit(
                [*prompt, *kept],
                grammar=grammar,
                sampling=sampling,
                max_tokens=24 - len(kept),
                num_begun=len(kept),
                opening=opening,
            )
            again = ask(begun)
            assert not isinstance(again, Refused)
            assert again[0] == whole[len(kept) :]
            assert again[1].finish_reason == last.finish_reason


@given(st.text("abc{\": tru'é🙂", min_size=1, max_size=12), st.booleans())
def test_an_answer_begins_with_any_text(text: str, is_greedy: bool) -> None:
    sampling = Sampling(temperature=0.0 if is_greedy else 1.0)
    answered = ask(submit([70], opening=places(text.encode()), sampling=sampling, max_tokens=60))
    assert not isinstance(answered, Refused)
    assert spelled(answered[0]).startswith(text.encode())


def test_an_answer_does_not_end_before_its_beginning() -> None:
    answered = ask(
        submit([70], opening=places(b"abcabc"), sampling=Sampling(temperature=0.0, logit_bias=((EOS, 100.0),)))
    )
    assert not isinstance(answered, Refused)
    assert spelled(answered[0]).startswith(b"abcabc")
    assert answered[0][-1] == EOS


def test_a_beginning_that_does_not_fit_the_grammar_is_refused() -> None:
    refused = ask(submit([70, 97, 97], num_begun=2, grammar=SCHEMA))
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.param) == ("invalid", "response_format")
    answered = ask(submit([70], opening=places(b"abc"), grammar=SCHEMA))
    assert not isinstance(answered, Refused)
    assert (answered[1].finish_reason, answered[1].error_param) == ("error", "response_format")


def test_a_token_that_leads_nowhere_is_a_failure() -> None:
    opening = Opening(places(b"ab"), None)
    opening.accept(TOKENIZER.token_to_id("a"))
    assert not opening.is_over
    with pytest.raises(GrammarFailure):
        opening.accept(TOKENIZER.token_to_id("c"))
    opening.accept(TOKENIZER.token_to_id("bc"))
    assert opening.is_over


def test_penalties_know_what_was_said() -> None:
    prompt = [70, 71]
    whole = ask(submit(prompt, sampling=Sampling(temperature=0.0, presence_penalty=2.0), max_tokens=8))
    assert not isinstance(whole, Refused)
    begun = submit(
        [*prompt, *whole[0][:6]], num_begun=6, sampling=Sampling(temperature=0.0, presence_penalty=2.0), max_tokens=2
    )
    rest = ask(begun)
    assert not isinstance(rest, Refused)
    assert rest[0] == whole[0][6:]
