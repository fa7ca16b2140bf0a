"""What is judged of one request, the prompt or one choice, and how far that has come."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from hodios.events import Judged, Stopped, Text, ToolCall
from hodios.guard.base import Passage
from hodios.guard.code_blocks import FENCES
from hodios.guard.held import Held, Piece, text_of
from hodios.guard.known import Known
from hodios.guard.panel import merged
from hodios.guard.policy import Policy, verdict
from hodios.guard.windows import Windows
from hodios.types import GuardRun, Judgement, Side

SHOWN = 1000, 200
"""Characters of an answer between two looks at it, where it is shown at once; and how far back each one reaches."""
HELD = 80, 400
"""The same where it is held back so long."""
WHOLE = 400, 400
"""The same where it may be blocked, and nobody sees anything of it before all is there."""


Part = tuple[type[Piece], int]
_TEXT: Part = (Text, 0)
_NONE = Judgement()


class Subject:
    """The prompt, or what it has in common with choices. `index` is the choice's, None for the prompt."""

    __slots__ = ("_policy", "_runs", "has_news", "index", "judgement", "num_waiting", "shortfall", "side")

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.index: int | None = None
        self.side: Side = "prompt"
        self.num_waiting = 0
        """Judgements that are on their way."""
        self.shortfall = ""
        """Why guards are not shown all of it."""
        self.judgement = _NONE
        self.has_news = False
        self._runs: tuple[GuardRun, ...] = ()

    def know(self, known: Known) -> None:
        """As `note`, of what was said before of the same text."""
        if self._runs or self.shortfall or known.highest >= self._policy.least:
            self.note((known.run,))
            return
        self.judgement = known.judgement
        self._runs = known.judgement.runs
        self.has_news = self.has_news or self.index is None

    def note(self, runs: Sequence[GuardRun], *, has_text: bool = True) -> None:
        """What guards said of the next part of it."""
        before = self.judgement.flagged
        if self.shortfall:
            runs = [replace(run, problem=run.problem or self.shortfall) for run in runs]
        self._runs = merged((*self._runs, *runs)) if self._runs else tuple(runs)
        self.judgement = verdict(self._policy, self.side, self._runs, has_text=has_text)
        self.has_news = self.has_news or self.index is None or self.judgement.flagged != before

    def told(self) -> Judged:
        self.has_news = False
        return Judged(self.index, self.judgement)


class Choice(Subject):
    """One answer, while it comes."""

    __slots__ = ("_held", "_part", "is_over", "is_plain", "said", "stopped", "windows")

    def __init__(self, index: int, policy: Policy, pace: tuple[int, int] = SHOWN) -> None:
        super().__init__(policy)
        self.index = index
        self.side = "answer"
        self.windows = Windows(*pace)
        self.said: list[str] | None = None
        """All of its text, where somebody reads it as a whole."""
        self.stopped: Stopped | None = None
        """Its end, as long as judgements are waited for."""
        self.is_over = False
        self.is_plain = False
        """Whether reading more text is adding it to `windows`, and nothing else."""
        self._held: Held | None = None
        self._part: Part | None = None
        """What it consists of at the moment: thoughts, text, or one of its calls."""

    @property
    def held(self) -> Held:
        """What of it is held back."""
        if self._held is None:
            self._held = Held()
        return self._held

    def read(self, event: Piece) -> bool:
        """Whether a window is due."""
        if type(event) is Text:
            if self._part is not _TEXT:
                self._begin(_TEXT)
            if self.said is not None:
                self.said.append(event.text)
            return self.windows.add(event.text)
        part = (type(event), event.number if isinstance(event, ToolCall) else 0)
        if part != self._part:
            self._begin(part)
        return self.windows.add(text_of(event))

    def _begin(self, part: Part) -> None:
        if self._part is not None:
            self.windows.add("\n")
        self._part = part
        self.is_plain = part is _TEXT and self.said is None

    def hold(self, event: Piece) -> bool:
        """As `read`, and it is kept until `held` releases it."""
        is_due = self.read(event)
        self.held.put(self.windows.size - len(text_of(event)), event)
        return is_due

    def code(self) -> list[Passage]:
        """Its text, where there may be code in it that somebody reads."""
        text = "".join(self.said or ())
        return [Passage(text=text, side="code")] if any(fence in text for fence in FENCES) else []
