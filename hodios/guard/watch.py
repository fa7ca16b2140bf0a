"""One request under guard: its prompt is judged before or while it is answered, and the answer while it comes.

What is only annotated never waits, but for the end of an answer, and that no longer than the time budget. What may be
blocked is held back until it was judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from hodios.errors import ContentFiltered, GuardDown, HodiosError
from hodios.events import Event, Finish, Noticed, Reasoning, Started, Stopped, Text, ToolCall
from hodios.guard.base import Assessed, Passage, Turn
from hodios.guard.budgets import Budgets
from hodios.guard.member import Question
from hodios.guard.panel import Panel
from hodios.guard.passages import MOST_CHARACTERS, MOST_PASSAGES, passages_of, turns_of, usual_prompt
from hodios.guard.policy import Policy
from hodios.guard.subject import HELD, SHOWN, WHOLE, Choice, Subject
from hodios.types import CATEGORIES, GuardRun, Judgement, Request

RETRY_AFTER_S = 1
UNREAD = "not_all_read"
"""The problem of guards that were not shown the whole prompt."""


class Watch:
    """Of one request. `events` is to be called once."""

    def __init__(self, panel: Panel, policy: Policy, request: Request, budgets: Budgets, patient: Budgets) -> None:
        """`patient`: how long a prompt may take for which nobody waits."""
        self._panel = panel
        self._policy = policy
        self._request = request
        self._budgets = budgets
        self._patient = patient
        self._prompt = Subject(policy)
        self._choices: list[Choice] = []
        self._open: dict[Question, Subject] = {}
        """What guards were asked and have not answered."""
        self._settled: asyncio.Future[None] | None = None
        """Set once nothing is open, where somebody waits for that."""
        self._turns: tuple[Turn, ...] | None = None
        self._num_open = 0
        self._has_news = False
        self._is_cut = False
        """Whether some choice was blocked."""
        self._is_halted = False

    def is_over(self) -> bool:
        """Whether nothing of the answer is wanted any more."""
        return self._is_halted

    def events(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """`events` with what guards say of them. Raises ContentFiltered before anything else was asked, and GuardDown
        where nothing passes unjudged."""
        return self._held(events) if self._policy.answer == "block" else self._shown(events)

    async def _shown(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """Everything at once."""
        is_read = self._policy.answer != "off"
        is_told_early = not self._request.is_shown_whole
        try:
            if self._policy.prompt == "annotate":
                self._begin_shown()
            else:
                await self._begin()
            async for event in events:
                if self._has_news and is_told_early:
                    for told in self._news():
                        yield told
                if type(event) is Text:
                    yield event
                    if is_read and not event.is_echo:
                        choice = self._choices[event.index]
                        if choice.windows.add(event.text) if choice.is_plain else choice.read(event):
                            self._look(choice)
                elif type(event) is Reasoning or type(event) is ToolCall:
                    yield event
                    if is_read and self._choices[event.index].read(event):
                        self._look(self._choices[event.index])
                elif type(event) is Stopped and is_read:
                    for told in self._end(event):
                        yield told
                elif type(event) is Started:
                    self._start()
                    yield event
                else:
                    if type(event) is Finish:
                        if self._open:
                            await self._settle()
                        if self._has_news:
                            for told in self._news():
                                yield told
                    yield event
        except HodiosError:
            # Choices that have ended are whole, whatever became of the others.
            if self._open:
                await self._settle()
            for told in self._news():
                yield told
            raise
        finally:
            self._leave()
            await events.aclose()

    async def _held(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """What was judged, and nothing of what was not."""
        try:
            async with aclosing(events):
                await self._begin()
                async for event in events:
                    if self._has_news:
                        for told in self._news():
                            yield told
                    match event:
                        case Text(is_echo=True) | Noticed():
                            yield event
                        case Text() | Reasoning() | ToolCall():
                            choice = self._choices[event.index]
                            if not choice.is_over and choice.hold(event):
                                for told in await self._passing(choice):
                                    yield told
                        case Stopped():
                            choice = self._choices[event.index]
                            if not choice.is_over:
                                choice.stopped = event
                                for told in await self._passing(choice):
                                    yield told
                        case Started():
                            self._start()
                            yield event
                        case _:
                            if self._open:
                                await self._settle()
                            for told in self._news():
                                yield told
                            yield event
        finally:
            self._leave()

    async def _passing(self, choice: Choice) -> list[Event]:
        """What of a choice may be shown now that it was judged, and its end where there is one."""
        passed: list[Event] = []
        windows, is_ending = choice.windows, choice.stopped is not None
        while (window := windows.next() or (windows.last() if is_ending else None)) is not None:
            choice.note(await self._judged(self._passages(window.text)))
            if choice.judgement.blocked:
                choice.held.clear()
                choice.stopped = Stopped(choice.index or 0, "content_filter")
                self._is_cut = True
                break
            passed += choice.held.release(window.end)
        if choice.stopped is not None:
            if not windows.size:
                choice.note((), has_text=False)
            if not choice.judgement.blocked and (code := choice.code()):
                choice.note(await self._panel.judge(code, self._budgets))
            return [*passed, *choice.held.release(windows.size), choice.told(), self._close(choice)]
        return [*passed, choice.told()] if choice.has_news else passed

    async def _begin(self) -> None:
        """The prompt, before anybody is asked for an answer."""
        if self._policy.answer == "block" and self._policy.is_closed:
            self._require(not self._panel.refusals("answer", self._budgets) and self._panel.has_guards("answer"))
        if self._policy.prompt == "off":
            return
        if self._policy.prompt == "annotate":
            self._begin_shown()
            return
        passages, is_whole = self._prompt_passages()
        if not is_whole and self._policy.is_closed:
            raise _unread(self._request)
        self._prompt.note(await self._judged(passages) if passages else (), has_text=bool(passages))
        if self._prompt.judgement.blocked:
            raise _blocked(self._request, self._policy, self._prompt.judgement)

    def _begin_shown(self) -> None:
        """The prompt, for which nobody waits."""
        text, passages = usual_prompt(self._request)
        if not text:
            self._ask(self._prompt, self._prompt_passages()[0])
            return
        digest, known = self._panel.recall("prompt", text)
        if known is None:
            self._ask(self._prompt, [Passage(text=each, side="prompt") for each in reversed(passages)], digest)
        else:
            self._prompt.know(known)
            self._has_news = True

    def _prompt_passages(self) -> tuple[Sequence[Passage], bool]:
        passages, is_whole = passages_of(self._request)
        if not is_whole:
            self._prompt.shortfall = UNREAD
        return passages, is_whole

    async def _judged(self, passages: Sequence[Passage]) -> tuple[GuardRun, ...]:
        """Raises GuardDown where nothing passes unjudged and somebody cannot judge."""
        runs = await self._panel.judge(passages, self._budgets)
        self._require(bool(runs) and not any(run.problem for run in runs))
        return runs

    def _require(self, is_judged: bool) -> None:
        if self._policy.is_closed and not is_judged:
            raise GuardDown(
                "the content filter cannot judge this now, and nothing passes unjudged here; try again",
                retry_after=RETRY_AFTER_S,
            )

    def _start(self) -> None:
        """An answer begins; one that came before it counts no more."""
        if self._choices:
            self._give_up_answer()
        pace = SHOWN
        if self._policy.answer == "block":
            pace = WHOLE if self._request.is_shown_whole else HELD
        self._num_open = self._request.n * len(self._request.prompts or ("",))
        self._choices = [Choice(index, self._policy, pace) for index in range(self._num_open)]
        if self._panel.has_guards("code"):
            for choice in self._choices:
                choice.said = []
        if self._policy.answer != "off" and not self._request.is_shown_whole:
            for choice in self._choices:
                choice.note(())
                choice.has_news = True
        self._prompt.has_news = bool(self._prompt.judgement.asked)
        self._has_news = True

    def _give_up_answer(self) -> None:
        for question in [question for question, subject in self._open.items() if subject is not self._prompt]:
            del self._open[question]
            question.give_up()

    def _look(self, choice: Choice) -> None:
        while (window := choice.windows.next()) is not None:
            self._ask_answer(choice, window.text)

    def _end(self, event: Stopped) -> Sequence[Event]:
        """Its end is told once it was judged."""
        choice = self._choices[event.index]
        choice.stopped = event
        text = choice.windows.rest()
        if text:
            self._ask_answer(choice, text)
        elif not choice.windows.size:
            choice.note((), has_text=False)
        if choice.said is not None and (code := choice.code()):
            self._ask(choice, code)
        return self._news()

    def _ask_answer(self, choice: Choice, text: str) -> None:
        """About a part of it."""
        digest, known = self._panel.recall("answer", text)
        if known is None:
            self._ask(choice, self._passages(text), digest)
        else:
            choice.know(known)
            self._has_news = True

    def _ask(self, subject: Subject, passages: Sequence[Passage], digest: bytes = b"") -> None:
        """Without waiting for what comes of it. `digest` as `Panel.recall` said."""
        is_prompt = subject is self._prompt
        budgets = self._patient if is_prompt else self._budgets
        runs, questions = self._panel.ask(passages, budgets, self._answered, may_linger=is_prompt, digest=digest)
        if runs or not questions:
            subject.note(runs, has_text=bool(passages))
            self._has_news = True
        for question in questions:
            self._open[question] = subject
            subject.num_waiting += 1

    def _answered(self, question: Question, found: Assessed) -> None:
        subject = self._open.pop(question, None)
        if subject is not None:
            self._note(subject, self._panel.run_of(question, found))

    def _note(self, subject: Subject, run: GuardRun) -> None:
        subject.num_waiting -= 1
        subject.note((run,))
        self._has_news = True
        if not self._open and self._settled is not None and not self._settled.done():
            self._settled.set_result(None)

    async def _settle(self) -> None:
        """Wait for what is on its way, as long as the budgets allow."""
        loop = asyncio.get_running_loop()
        self._settled = loop.create_future()
        patience_s = max([self._budgets.of(question.member.guard.name) for question in self._open])
        timer = loop.call_later(patience_s, self._lose_patience)
        try:
            await self._settled
        finally:
            timer.cancel()

    def _lose_patience(self) -> None:
        while self._open:
            question, subject = self._open.popitem()
            question.give_up()
            self._note(subject, self._panel.late(question))

    def _news(self) -> Sequence[Event]:
        """What guards have found since they were asked last, and ends that waited for them."""
        if not self._choices:
            return ()
        self._has_news = False
        news: list[Event] = []
        if self._prompt.has_news:
            news.append(self._prompt.told())
        for choice in self._choices:
            is_ending = choice.stopped is not None and not choice.is_over and not choice.num_waiting
            if is_ending or (choice.has_news and choice.stopped is None):
                news.append(choice.told())
            if is_ending:
                news.append(self._close(choice))
        return news

    def _close(self, choice: Choice) -> Stopped:
        assert choice.stopped is not None
        choice.is_over = True
        self._num_open -= 1
        self._is_halted = self._is_cut and not self._num_open
        return choice.stopped

    def _passages(self, text: str) -> list[Passage]:
        if self._turns is None:
            self._turns = turns_of(self._request) if self._panel.reads_turns else ()
        return [Passage(text=text, side="answer", before=self._turns)]

    def _leave(self) -> None:
        """Whatever happened: nothing goes on, and what was found counts."""
        questions, self._open = self._open, {}
        for question in questions:
            question.give_up()
        for subject in (self._prompt, *self._choices):
            if subject.judgement.flagged:
                self._panel.note(subject.side, subject.judgement.flagged, subject.judgement.blocked)


def _blocked(request: Request, policy: Policy, judgement: Judgement) -> ContentFiltered:
    param = "messages" if request.is_chat else "prompt"
    scores = {
        category: max(run.scores.get(category, 0.0) for run in judgement.runs)
        for category in CATEGORIES
        if category in judgement.blocked
    }
    told = ", ".join(f"{name} {score:.2f} (blocked from {policy.block_at[name]:g})" for name, score in scores.items())
    return ContentFiltered(
        f"{param}: the content filter does not let this pass: {told}",
        param=param,
        metadata={"blocked": {name: round(score, 4) for name, score in scores.items()}},
    )


def _unread(request: Request) -> ContentFiltered:
    param = "messages" if request.is_chat else "prompt"
    return ContentFiltered(
        f"{param}: the content filter reads no more than {MOST_CHARACTERS} characters in {MOST_PASSAGES} texts, and no "
        "token ids, and nothing passes unjudged here",
        param=param,
    )
