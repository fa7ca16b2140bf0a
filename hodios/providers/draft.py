"""One choice of a remote answer while it comes: shown as far as it is certain, held back where it may have to change.

Sans-IO. Text streams on, unless the rules hold it; calls are held until the choice is over and judged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from msgspec import Struct, structs

from hodios.dialog.pieces import Parser
from hodios.dialog.stop import StopMatcher, StopStrings
from hodios.events import Event, Noticed, Reasoning, Stopped, Text, TokenLogprob, ToolCall
from hodios.providers.call_deltas import Called
from hodios.providers.chunks import CHARACTERS_PER_TOKEN, Ended, Said
from hodios.providers.reading import ChoiceReader
from hodios.providers.resuming import Overlap, ResumedMatcher, Unseen
from hodios.providers.rules import Judged, Rules
from hodios.types import Beginning, FinishReason


class Reading(Struct, frozen=True, kw_only=True):
    """How the answers of one request are read."""

    new_id: Callable[[str, int], str]
    """Makes the id of call `number` in the answer `seed` names."""
    parser: Callable[[], Parser] | None = None
    """For text that holds thoughts and calls; None: text is text."""
    stops: StopStrings | None = None
    """What is looked for here: the client's stop strings, where the server does not, and the model family's."""
    client_stops: frozenset[str] = frozenset()
    include_stop: bool = False
    has_reasoning: bool = True
    echo: str = ""
    """The prompt, where it is to be shown before the answer."""
    is_echo_sent: bool = False
    """Whether the server repeats it."""
    beginning: Beginning | None = None
    """What the client has of an answer that the server goes on with."""
    begun: str = ""
    """The same, as it was sent to the server."""


class Draft:
    """One choice. `push` what came, then `end`, then `settle` unless it is to be tried again."""

    def __init__(self, index: int, seed: str, reading: Reading, rules: Rules | None) -> None:
        """`index` and `seed` are those of the choice as the client sees it."""
        self.index = index
        self.has_shown = False
        """Whether the client has seen anything that cannot be taken back."""
        self.num_tokens = 0
        """An estimate, for servers that count nothing."""
        self._said: list[str] = []
        self._is_straight = False
        """Whether whatever comes is text to be shown at once."""
        self._reading = reading
        self._rules = rules
        self._seed = seed
        self._matcher = _matcher(reading)
        self._reader = self._new_reader()
        self._num_echoed = 0
        """Characters of the prompt that were shown."""
        self._num_characters = 0
        self._num_pieces = 0
        """Chunks, or tokens where they are told apart."""
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._calls: list[Called] = []
        self._notices: list[Noticed] = []
        self._finish_reason: FinishReason = "stop"
        self._stop_reason: str | int | None = None
        self._judged = Judged(text="")
        self._overlap = Overlap(reading.begun)
        self._unseen: Unseen | None = None
        if reading.beginning is not None:
            self._resume(reading.beginning)

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string was found here: whatever else comes is not wanted."""
        return self._matcher is not None and self._matcher.matched is not None

    @property
    def problem(self) -> str:
        """What to tell the model where the choice is not what it must be."""
        return self._judged.problem

    @property
    def calls(self) -> tuple[Called, ...]:
        return self._judged.calls

    @property
    def raw_text(self) -> str:
        """All that the model said."""
        return "".join(self._said)

    def push(self, said: Said) -> Sequence[Event]:
        if self._is_straight and not said.thought and not said.logprobs:
            return (self._pass_on(said.text),)
        if self.is_stopped:
            return []
        echoed, said = self._echo(said)
        shown = self._new([*echoed, *self._push(said)])
        self._is_straight = self._leads_straight()
        return shown

    def _leads_straight(self) -> bool:
        """Whether text is shown as it comes from here on: nothing in it is looked for, or could be held."""
        is_read = self._reader is not None and not self._reader.is_transparent
        is_looked_at = self._matcher is not None or not self._overlap.is_over or self._unseen is not None
        has_echo = len(self._reading.echo) > self._num_echoed
        return not (is_read or is_looked_at or has_echo or self._holds_text)

    def _pass_on(self, text: str) -> Text:
        self._num_pieces += 1
        self._num_characters += len(text)
        self.num_tokens = self._estimate()
        self._said.append(text)
        self._texts.append(text)
        self.has_shown = True
        return Text(self.index, text, (), self.num_tokens)

    def _resume(self, beginning: Beginning) -> None:
        """Read what the client has, and show nothing of it."""
        self.has_shown = True
        self._said.append(self._reading.begun)
        if self._reader is None:
            self._texts.append(beginning.text)
        else:
            self._unseen = Unseen(beginning)
            self._new(self._sort(self._reader.push(Text(self.index, self._reading.begun))))

    def _new(self, events: list[Event]) -> list[Event]:
        return events if self._unseen is None else self._unseen.of(events)

    def _new_reader(self) -> ChoiceReader | None:
        reading = self._reading
        if reading.parser is None:
            return None
        new_id = functools.partial(reading.new_id, self._seed)
        return ChoiceReader(reading.parser(), new_id=new_id, has_reasoning=reading.has_reasoning)

    def _push(self, said: Said) -> list[Event]:
        self._num_pieces += max(1, len(said.logprobs))
        self._num_characters += len(said.text) + len(said.thought)
        self.num_tokens = self._estimate()
        shown: list[Event] = []
        if said.thought:
            shown += self._think(said.thought)
        text = self._overlap.push(said.text)
        if self._matcher is not None:
            text = self._matcher.push(text)
            if self._reading.include_stop and self._matched_by_client:
                text += self._matched_by_client[_num_shown(self._matcher) :]
        return shown + self._read(text, said.logprobs)

    def _think(self, thought: str) -> list[Event]:
        beginning = self._reading.beginning
        if beginning is not None and not any(self._texts):
            # The server tells thoughts apart by itself, so what it says is no thought.
            self._reader = self._new_reader()
        return [Reasoning(self.index, thought, self.num_tokens)] if self._reading.has_reasoning else []

    def _echo(self, said: Said) -> tuple[list[Text], Said]:
        """The part of `said` that is the prompt, or the prompt where the server leaves it out; and the rest."""
        num_missing = len(self._reading.echo) - self._num_echoed
        if num_missing <= 0:
            return [], said
        if not self._reading.is_echo_sent:
            self._num_echoed = len(self._reading.echo)
            return [Text(self.index, self._reading.echo, is_echo=True)], said
        text, rest = said.text[:num_missing], said.text[num_missing:]
        num_tokens = _num_within(said.logprobs, num_missing)
        self._num_echoed += len(text)
        echoed = [Text(self.index, text, said.logprobs[:num_tokens], is_echo=True)] if text else []
        return echoed, structs.replace(said, text=rest, logprobs=said.logprobs[num_tokens:])

    def end(self, ended: Ended) -> list[Event]:
        """What was held back only because more could have come."""
        self._calls += ended.calls
        self._num_characters += sum(len(call.name) + len(call.arguments) for call in ended.calls)
        self.num_tokens = self._estimate()
        self._finish_reason, self._stop_reason = ended.finish_reason, ended.stop_reason
        shown: list[Event] = [*self._echo(Said(self.index))[0]]
        if not self.is_stopped and (held := self._overlap.flush()):
            shown += self._push(Said(self.index, held))
        if self.is_stopped:
            self._finish_reason, self._stop_reason = "stop", self._matched_by_client
        elif self._matcher is not None:
            shown += self._read(self._matcher.flush(), ())
        if self._reader is not None:
            shown += self._sort(self._reader.stop(Stopped(self.index, self._finish_reason)))
        if self._rules is not None:
            self._judged = self._rules.judge("".join(self._texts), self._calls, self._finish_reason)
        return self._new(shown)

    def settle(self) -> list[Event]:
        """What was held until it was certain, and the end."""
        judged = self._judged
        events: list[Event] = [*self._notices]
        if self._holds_text and (judged.text or self._logprobs):
            events.append(Text(self.index, judged.text, tuple(self._logprobs), self.num_tokens))
        events += self._tool_calls(judged.calls)
        events += [Noticed(warning) for warning in judged.warnings]
        if judged.complaint is not None:
            events.append(Noticed(judged.complaint))
        finish_reason = "tool_calls" if judged.calls else self._finish_reason
        stop_reason = None if judged.calls else self._stop_reason
        return self._new([*events, Stopped(self.index, finish_reason, stop_reason)])

    @property
    def _holds_text(self) -> bool:
        return self._rules is not None and self._rules.holds_text

    def _estimate(self) -> int:
        return max(self._num_pieces, -(-self._num_characters // CHARACTERS_PER_TOKEN))

    @property
    def _matched_by_client(self) -> str | None:
        matched = None if self._matcher is None else self._matcher.matched
        return matched if matched in self._reading.client_stops else None

    def _read(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> list[Event]:
        if not text and not logprobs:
            return []
        self._said.append(text)
        event = Text(self.index, text, logprobs, self.num_tokens)
        return self._sort([event] if self._reader is None else self._reader.push(event))

    def _sort(self, events: Sequence[Event]) -> list[Event]:
        """What may be shown at once; the rest is kept."""
        shown: list[Event] = []
        for event in events:
            match event:
                case Text():
                    self._texts.append(event.text)
                    if not self._holds_text:
                        self.has_shown = True
                        shown.append(event)
                    else:
                        self._logprobs += event.logprobs
                case ToolCall():
                    self._take(event)
                case Noticed():
                    self._notices.append(event)
                case Reasoning():
                    shown.append(event)
        return shown

    def _take(self, event: ToolCall) -> None:
        """A slice of a call that was found in the text."""
        if event.name:
            self._calls.append(Called(event.name, "", event.id))
        last = self._calls[-1]
        self._calls[-1] = Called(last.name, last.arguments + event.arguments, last.id)

    def _tool_calls(self, calls: Sequence[Called]) -> list[ToolCall]:
        seen: set[str] = set()
        events = []
        for number, call in enumerate(calls):
            id = call.id if call.id and call.id not in seen else self._reading.new_id(self._seed, number)
            seen.add(id)
            events.append(ToolCall(self.index, number, id, call.name, call.arguments, self.num_tokens))
        return events


def _matcher(reading: Reading) -> StopMatcher | None:
    if reading.stops is None:
        return None
    return ResumedMatcher(reading.stops, reading.begun) if reading.begun else StopMatcher(reading.stops)


def _num_shown(matcher: StopMatcher) -> int:
    """Characters of the stop string that the client has."""
    return matcher.num_shown if isinstance(matcher, ResumedMatcher) else 0


def _num_within(logprobs: Sequence[TokenLogprob], num_characters: int) -> int:
    """How many of the tokens begin within so many characters."""
    position = 0
    for number, entry in enumerate(logprobs):
        if position >= num_characters:
            return number
        position += len(entry.text)
    return len(logprobs)
