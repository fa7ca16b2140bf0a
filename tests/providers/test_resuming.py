"""Going on in the middle of an answer: nothing is said twice, nothing is missed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from hodios.dialog.stop import StopMatcher, StopStrings
from hodios.errors import ProviderError
from hodios.events import Event, Noticed, Reasoning, Stopped, Text, ToolCall
from hodios.providers.resuming import Overlap, ResumedMatcher, Unseen
from hodios.types import Beginning, SentCall, Warning

Chunks = list[str]


@st.composite
def chunked(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> tuple[str, Chunks]:
    """A text, and the same in pieces."""
    text = draw(texts)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)))) | {0, len(text)})
    return text, [text[start:end] for start, end in itertools.pairwise(cuts)]


def pushed(overlap: Overlap, chunks: Chunks) -> str:
    return "".join([*(overlap.push(chunk) for chunk in chunks), overlap.flush()])


PROSE = st.lists(
    st.sampled_from(["the", "cat", "and", "a", "dog", "🙂", "ha", "-", "12", "Zürich", "saw", ",", ".", "be"]),
    max_size=30,
).map(" ".join)


@given(PROSE, chunked(PROSE))
@example("the end", ("the beginning", list("the beginning")))
@example("ha ha ha ha ha ha ha ha ", ("ha ha ha ha ha ha ha ha ha", ["ha ha ha ha ha ha ha ha ha"]))
@example("-" * 40, ("-" * 20, ["-" * 7, "-" * 13]))
@example("", ("new", ["new"]))
@example("1", ("1", ["1"]))
def test_a_repeated_beginning_is_cut_off_and_nothing_else(before: str, new: tuple[str, Chunks]) -> None:
    text, chunks = new
    repeats = [size for size in range(1, len(before) + 1) if text.startswith(before[-size:])]
    assume(not any(size >= 16 or size == len(before) >= 4 for size in repeats) or _is_dull(before[-max(repeats) :]))
    assert pushed(Overlap(before), chunks) == text


def _is_dull(text: str) -> bool:
    return any(text.startswith(text[period:]) for period in range(1, len(text) // 2 + 1))


@given(PROSE.filter(lambda text: len(text) >= 16), PROSE, st.data())
def test_an_overlap_of_any_length_is_recognised(before: str, new: str, data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([*range(16, len(before) + 1), len(before)]))
    again = before[-size:]
    assume(not _is_dull(again))
    # Unless what follows makes it look like the end of a longer repetition.
    assume(not any((again + new).startswith(before[-longer:]) for longer in range(size + 1, len(before) + 1)))
    _, chunks = data.draw(chunked(st.just(again + new)))
    assert pushed(Overlap(before), chunks) == new


def test_an_overlap_is_not_waited_for_longer_than_it_can_come() -> None:
    overlap = Overlap("The quick brown fox jumps over the lazy dog")
    assert overlap.push("The quick") == ""
    assert overlap.push(" red") == "The quick red"
    assert overlap.push("The quick brown fox jumps over the lazy dog") == "The quick brown fox jumps over the lazy dog"
    overlap = Overlap("The quick brown fox jumps over the lazy dog")
    assert overlap.push("quick brown fox") == ""
    assert overlap.push(" jumps over the lazy dog") == ""
    assert overlap.push(".") == "."


STOPS = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3)


@given(STOPS, st.text("abc", max_size=20), chunked(st.text("abc", max_size=20)), st.booleans())
def test_stop_strings_are_found_across_the_seam(
    stops: list[str], shown: str, new: tuple[str, Chunks], include_stop: bool
) -> None:
    text, chunks = new
    assume(not any(stop in shown for stop in stops))
    strings = StopStrings(stops)
    whole = StopMatcher(strings, include_stop=include_stop)
    expected = whole.push(shown + text)
    expected += "" if whole.matched else whole.flush()
    resumed = ResumedMatcher(strings, shown, include_stop=include_stop)
    said = ""
    for chunk in chunks:
        if resumed.matched is None:
            said += resumed.push(chunk)
    said += "" if resumed.matched else resumed.flush()
    assert resumed.matched == whole.matched
    # What was shown cannot be taken back.
    assert said == expected[len(shown) :]


def test_a_stop_string_that_was_shown_ends_nothing() -> None:
    resumed = ResumedMatcher(StopStrings(["end", "\n"]), "the end\nof", include_stop=False)
    assert resumed.push(" it. en") + resumed.push("d more") == " it. "
    assert resumed.matched == "end"


CALLS = (SentCall("id0", "f", '{"a": 1}'), SentCall("id1", "g", '{"b'))


def events_of(reasoning: str, text: str, *calls: tuple[str, str]) -> list[Event]:
    """A character an event."""
    events: list[Event] = [*(Reasoning(0, each) for each in reasoning), *(Text(0, each) for each in text)]
    for number, (name, arguments) in enumerate(calls):
        events.append(ToolCall(0, number, f"new{number}", name))
        events += [ToolCall(0, number, arguments=each) for each in arguments]
    return [*events, Noticed(Warning("a", "b", "c")), Stopped(0, "stop")]


def test_what_the_client_has_is_taken_off() -> None:
    unseen = Unseen(Beginning(reasoning=" Hm", text="So", calls=CALLS))
    events = unseen.of(events_of("Hmm", "So", ("f", '{"a": 1}'), ("g", '{"b": 2}'), ("h", "{}")))
    assert "".join(event.text for event in events if isinstance(event, Reasoning)) == "m"
    assert not [event for event in events if isinstance(event, Text)]
    calls = [event for event in events if isinstance(event, ToolCall)]
    assert "".join(call.arguments for call in calls if call.number == 1) == '": 2}'
    assert [(call.number, call.id, call.name) for call in calls if call.id or call.name] == [(2, "new2", "h")]
    assert isinstance(events[-1], Stopped)
    assert isinstance(events[-2], Noticed)


@pytest.mark.parametrize(
    "events",
    [
        events_of("Ha", ""),
        events_of("", "Se"),
        events_of("", "", ("g", "{}")),
        events_of("", "", ("f", '{"b": 1}')),
    ],
)
def test_another_answer_is_refused(events: list[Event]) -> None:
    with pytest.raises(ProviderError, match="in another way"):
        Unseen(Beginning(reasoning="Hm", text="So", calls=CALLS)).of(events)
