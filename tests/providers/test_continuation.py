"""Tokens into text and log-probabilities: every way to cut the stream gives what the whole tokens give."""

from __future__ import annotations

import codecs
import itertools
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripted_engine import BOS, EOS, FIRST_WORD, IM_END, VOCAB_SIZE, ByteTokenizer, alternatives

from hodios.dialog.stop import StopStrings
from hodios.engine.messages import Output
from hodios.events import Stopped, Text
from hodios.providers.continuation import Continuation, TokenTexts
from hodios.types import Request, Sampling

STOPS = ["STOP", "OP", "ST", "€", "€b", "🙂", "lo w", "\ufffd", "a", "world!"]
CONTROL = {BOS, EOS, IM_END}


class Read(NamedTuple):
    text: str
    tokens: list[int]
    """With log-probabilities, in order."""
    stopped: Stopped
    num_tokens: int


def continuation(request: Request, index: int = 0) -> Continuation:
    tokenizer: Any = ByteTokenizer()
    strings = StopStrings(request.stop) if request.stop else None
    return Continuation(index, request, tokenizer, TokenTexts(tokenizer), strings)


def request(**fields: Any) -> Request:
    sampling = {name: fields.pop(name) for name in ("logprobs", "min_tokens", "stop_token_ids") if name in fields}
    return Request(id="cmpl-1", model="tiny", prompts=("",), sampling=Sampling(**sampling), **fields)


def stream(tokens: list[int], cuts: list[int], wanted: Request, **end: Any) -> list[Output]:
    """The tokens in portions that end at `cuts`, the last one with the reason."""
    edges = sorted({0, *(cut for cut in cuts if cut < len(tokens)), len(tokens)})
    portions = [tokens[start:stop] for start, stop in itertools.pairwise(edges)] or [[]]
    outputs = []
    for number, portion in enumerate(portions):
        logprobs = None
        if wanted.sampling.logprobs is not None:
            logprobs = [alternatives(token, wanted.sampling.logprobs) for token in portion] or None
        last = end if number == len(portions) - 1 else {}
        outputs.append(Output(id=1, index=0, tokens=portion, logprobs=logprobs, **last))
    return outputs


def read(reader: Continuation, outputs: list[Output]) -> Read:
    events = [event for output in outputs for event in reader.push(output)]
    *texts, stopped = events
    assert isinstance(stopped, Stopped)
    assert reader.is_over
    text, tokens = "", []
    for event in texts:
        assert isinstance(event, Text)
        assert event.text or event.logprobs
        text += event.text
        tokens += [entry.token_id for entry in event.logprobs]
    assert all(event.completion_tokens <= reader.num_tokens for event in texts if isinstance(event, Text))
    return Read(text, tokens, stopped, reader.num_tokens)


def spans(tokens: list[int]) -> tuple[str, list[int]]:
    """The whole text, and how many characters of it are there before each token and after the last."""
    tokenizer, decoder = ByteTokenizer(), codecs.getincrementaldecoder("utf-8")("replace")
    text, starts = "", [0]
    for token in tokens:
        text += "" if token in CONTROL else decoder.decode(tokenizer.token_bytes(token))
        starts.append(len(text))
    return text + decoder.decode(b"", True), starts


def expected(tokens: list[int], wanted: Request) -> Read:
    """From the whole text at once; stop strings by looking at every one of its beginnings."""
    text, starts = spans(tokens)
    checked_from = starts[min(max(wanted.sampling.min_tokens - 1, 0), len(tokens))]
    for end in range(checked_from + 1, len(text) + 1):
        found = [stop for stop in wanted.stop if stop and text[checked_from:end].endswith(stop)]
        if found:
            stop = max(found, key=len)
            cut = end if wanted.include_stop else end - len(stop)
            num_tokens = next((number for number, after in enumerate(starts) if after >= end), len(tokens))
            shown = [token for token, start in zip(tokens[:num_tokens], starts, strict=False) if start < cut]
            return Read(text[:cut], shown, Stopped(0, "stop", stop), num_tokens)
    return Read(text, tokens, Stopped(0, "length"), len(tokens))


TOKENS = st.lists(
    st.one_of(st.integers(FIRST_WORD, VOCAB_SIZE - 1), st.sampled_from([*b"abSTOP \xe2\x82\xac", IM_END, 0xFF])),
    max_size=14,
)


@settings(max_examples=400)
@given(
    tokens=TOKENS,
    cuts=st.lists(st.integers(0, 14), max_size=6),
    stops=st.lists(st.sampled_from(STOPS), max_size=4),
    include_stop=st.booleans(),
    logprobs=st.sampled_from([None, 0, 2]),
    min_tokens=st.integers(0, 5),
)
@example([FIRST_WORD + 3], [], ["\ufffd"], False, 0, 0)
def test_any_portions_give_what_the_whole_gives(
    tokens: list[int], cuts: list[int], stops: list[str], include_stop: bool, logprobs: int | None, min_tokens: int
) -> None:
    wanted = request(stop=tuple(stops), include_stop=include_stop, logprobs=logprobs, min_tokens=min_tokens)
    result = read(continuation(wanted), stream(tokens, cuts, wanted, finish_reason="length"))
    reference = expected(tokens, wanted)
    assert result.text == reference.text
    assert result.stopped == reference.stopped
    assert result.num_tokens == reference.num_tokens
    assert result.tokens == ([] if logprobs is None else reference.tokens)


@settings(max_examples=200)
@given(tokens=TOKENS, stops=st.lists(st.sampled_from(STOPS), max_size=4))
def test_with_logprobs_each_text_is_that_of_its_tokens(tokens: list[int], stops: list[str]) -> None:
    wanted = request(stop=tuple(stops), logprobs=0)
    text, starts = spans(tokens)
    reader, position, num_shown = continuation(wanted), 0, 0
    for output in stream(tokens, list(range(len(tokens))), wanted, finish_reason="length")[:-1]:
        for event in reader.push(output):
            if isinstance(event, Text) and not reader.is_over:
                position += len(event.logprobs)
                num_shown += len(event.text)
                assert num_shown == starts[position]
                assert text.startswith(event.text, num_shown - len(event.text))


@pytest.mark.parametrize("position", range(6))
@pytest.mark.parametrize("parts", [[b"STOP"], [b"ST", b"OP"], [b"S", b"T", b"O", b"P"], [b"S", b"TOPx"], [b"xSTOPx"]])
def test_a_stop_string_over_tokens(position: int, parts: list[bytes]) -> None:
    class Words(ByteTokenizer):
        def token_bytes(self, id: int) -> bytes:
            return spelled[id]

    spelled = [
        *(bytes((letter,)) for letter in b"hello"[:position]),
        *parts,
        *(bytes((letter,)) for letter in b"later"),
    ]
    tokenizer: Any = Words()
    wanted = request(stop=("STOP",))
    reader = Continuation(3, wanted, tokenizer, TokenTexts(tokenizer), StopStrings(wanted.stop))
    events = [event for id in range(len(spelled)) for event in reader.push(Output(id=1, index=0, tokens=[id]))]
    text = "".join(event.text for event in events if isinstance(event, Text))
    assert text == "hello"[:position] + ("x" if parts[0].startswith(b"x") else "")
    assert events[-1] == Stopped(3, "stop", "STOP")
    assert reader.num_tokens == position + len(parts)
    assert reader.push(Output(id=1, index=0, tokens=[0], finish_reason="length")) == []
    assert reader.num_tokens == position + len(parts)


def test_end_of_sequence_is_counted_and_not_shown() -> None:
    for wanted in (request(logprobs=1), request(logprobs=1, include_stop=True)):
        result = read(
            continuation(wanted), stream([104, 105, EOS], [1, 2], wanted, finish_reason="stop", stop_token=EOS)
        )
        assert result == Read("hi", [104, 105], Stopped(0, "stop"), 3)


@pytest.mark.parametrize("token", [ord("!"), FIRST_WORD, EOS, IM_END])
@pytest.mark.parametrize("logprobs", [None, 0])
def test_stop_tokens_are_shown_only_where_asked(token: int, logprobs: int | None) -> None:
    end: dict[str, Any] = {"finish_reason": "stop", "stop_token": token}
    spelled = ByteTokenizer().token_text(token)
    for include_stop in (False, True):
        wanted = request(logprobs=logprobs, stop_token_ids=(token,), include_stop=include_stop)
        for cuts in ([], [1], [1, 2]):
            result = read(continuation(wanted), stream([104, 105, token], cuts, wanted, **end))
            assert result.text == ("hi" + spelled if include_stop else "hi")
            assert result.tokens == ([] if logprobs is None else [104, 105, token][: 3 if include_stop else 2])
            assert result.stopped == Stopped(0, "stop", token)
            assert result.num_tokens == 3


def test_a_broken_character_before_a_shown_control_token() -> None:
    wanted = request(stop_token_ids=(IM_END,), include_stop=True, logprobs=0)
    tokens = [FIRST_WORD + 3, IM_END]
    result = read(continuation(wanted), stream(tokens, [1], wanted, finish_reason="stop", stop_token=IM_END))
    assert result == Read("\ufffd<|im_end|>", tokens, Stopped(0, "stop", IM_END), 2)


def test_a_finished_grammar_ends_with_stop() -> None:
    wanted = request()
    assert read(continuation(wanted), stream([123, 125], [], wanted, finish_reason="stop")).stopped == Stopped(
        0, "stop"
    )


def test_no_tokens_at_all() -> None:
    wanted = request(logprobs=0, stop=("x",))
    assert read(continuation(wanted), stream([], [], wanted, finish_reason="length")) == Read(
        "", [], Stopped(0, "length"), 0
    )


def test_a_partial_stop_string_at_the_end_is_shown() -> None:
    wanted = request(stop=("STOP",))
    result = read(
        continuation(wanted), stream([*b"xSTO", EOS], [1, 2, 3, 4], wanted, finish_reason="stop", stop_token=EOS)
    )
    assert result == Read("xSTO", [], Stopped(0, "stop"), 5)


def test_alternatives_are_described() -> None:
    wanted = request(logprobs=2)
    events = continuation(wanted).push(Output(id=1, index=0, tokens=[FIRST_WORD + 3], logprobs=[alternatives(262, 2)]))
    assert events == []
    reader = continuation(wanted)
    reader.push(Output(id=1, index=0, tokens=[262], logprobs=[alternatives(262, 2)]))
    (event,) = reader.push(Output(id=1, index=0, tokens=[263], logprobs=[alternatives(263, 2)]))
    assert isinstance(event, Text)
    assert event.text == "€"
    first, second = event.logprobs
    assert (first.token_id, first.text, first.raw, first.logprob) == (262, "\ufffd", b"\xe2\x82", -1.0)
    assert first.top == ((262, "\ufffd", b"\xe2\x82", -1.0), (0, "\0", b"\0", -2.0))
    assert (second.text, second.raw) == ("\ufffd", b"\xac")
