"""One request under guard: its prompt is judged before or while it is answered, and the answer while it comes.

What is only annotated never waits, but for the end of an answer, and that no longer than the time budget. What may be
blocked is held back until it was judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

from hodios.errors import ContentFiltered, GuardDown, HodiosError
from hodios.events import Event, Finish, Noticed, Reasoning, Started, Stopped, Text, ToolCall
from hodios.guard.base import Passage, Turn
from hodios.guard.panel import Panel
from hodios.guard.passages import MOST_CHARACTERS, MOST_PASSAGES, passages_of, turns_of
from hodios.guard.policy import Policy
from hodios.guard.subject import HELD_STRIDE, SHOWN_STRIDE, Subject
from hodios.types import CATEGORIES, GuardRun, Judgement, Request

PATIENCE = 2
"""What nobody waits for may take so many times the budget."""
RETRY_AFTER_S = 1
UNREAD = "not_all_read"
"""The problem of guards that were not shown the whole prompt."""


class Watch:
    """Of one request. `events` is to be called once."""

    def __init__(self, panel: Panel, policy: Policy, request: Request, budget_s: float) -> None:
        self._panel = panel
        self._policy = policy
        self._request = request
        self._budget_s = budget_s
        self._prompt = Subject(None, policy)
        self._choices: list[Subject] = []
        self._tasks: dict[asyncio.Task[tuple[GuardRun, ...]], tuple[Subject, Sequence[Passage]]] = {}
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
        try:
            async with aclosing(events):
                await self._open()
                async for event in events:
                    if self._has_news:
                        for told in self._news():
                            yield told
                    if isinstance(event, Text):
                        yield event
                        if is_read and not event.is_echo and self._choices[event.index].read(event):
                            self._look(self._choices[event.index])
                    elif isinstance(event, (Reasoning, ToolCall)):
                        yield event
                        if is_read and self._choices[event.index].read(event):
                            self._look(self._choices[event.index])
                    elif is_read and isinstance(event, Stopped):
                        self._end(event)
                        for told in self._news():
                            yield told
                    elif isinstance(event, Started):
                        self._start()
                        yield event
                    else:
                        if isinstance(event, Finish):
                            await self._settle()
                            for told in self._news():
                                yield told
                        yield event
        except HodiosError:
            # Choices that have ended are whole, whatever became of the others.
            await self._settle()
            for told in self._news():
                yield told
            raise
        finally:
            self._leave()

    async def _held(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """What was judged, and nothing of what was not."""
        try:
            async with aclosing(events):
                await self._open()
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
                            await self._settle()
                            for told in self._news():
                                yield told
                            yield event
        finally:
            self._leave()

    async def _passing(self, choice: Subject) -> list[Event]:
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
                choice.note(await self._panel.judge(code, self._budget_s))
            return [*passed, *choice.held.release(windows.size), choice.told(), self._close(choice)]
        return [*passed, choice.told()] if choice.has_news else passed

    async def _open(self) -> None:
        """The prompt, before anybody is asked for an answer."""
        if self._policy.answer == "block" and self._policy.is_closed:
            self._require(not self._panel.refusals("answer", self._budget_s) and self._panel.has_guards("answer"))
        if self._policy.prompt == "off" or (self._policy.prompt == "annotate" and self._is_refused(self._prompt)):
            return
        passages, is_whole = passages_of(self._request)
        if not is_whole:
            self._prompt.shortfall = UNREAD
        if self._policy.prompt == "annotate":
            self._ask(self._prompt, passages)
            return
        if not is_whole and self._policy.is_closed:
            raise _unread(self._request)
        self._prompt.note(await self._judged(passages) if passages else (), has_text=bool(passages))
        if self._prompt.judgement.blocked:
            raise _blocked(self._request, self._policy, self._prompt.judgement)

    async def _judged(self, passages: Sequence[Passage]) -> tuple[GuardRun, ...]:
        """Raises GuardDown where nothing passes unjudged and somebody cannot judge."""
        runs = await self._panel.judge(passages, self._budget_s)
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
        for task in [task for task, (subject, _) in self._tasks.items() if subject is not self._prompt]:
            del self._tasks[task]
            task.cancel()
        is_held = self._policy.answer == "block" and not self._request.is_shown_whole
        stride = HELD_STRIDE if is_held else SHOWN_STRIDE
        self._num_open = self._request.n * len(self._request.prompts or ("",))
        self._choices = [Subject(index, self._policy, stride) for index in range(self._num_open)]
        if self._panel.has_guards("code"):
            for choice in self._choices:
                choice.said = []
        if self._policy.answer != "off" and not self._request.is_shown_whole:
            for choice in self._choices:
                choice.note(())
                choice.has_news = True
        self._prompt.has_news = bool(self._prompt.judgement.asked)
        self._has_news = True

    def _look(self, choice: Subject) -> None:
        while (window := choice.windows.next()) is not None:
            if not self._is_refused(choice):
                self._ask(choice, self._passages(window.text))

    def _end(self, event: Stopped) -> None:
        """Its end is told once it was judged."""
        choice = self._choices[event.index]
        choice.stopped = event
        window = choice.windows.last()
        if window is not None:
            if not self._is_refused(choice):
                self._ask(choice, self._passages(window.text))
        elif not choice.windows.size:
            choice.note((), has_text=False)
        if code := choice.code():
            self._ask(choice, code)
        self._has_news = True

    def _ask(self, subject: Subject, passages: Sequence[Passage]) -> None:
        """Without waiting for what comes of it."""
        if not any(self._panel.has_guards(passage.side) for passage in passages):
            subject.note((), has_text=bool(passages))
            return
        budget_s = self._patience_s(subject)
        task = asyncio.get_running_loop().create_task(self._panel.judge(passages, budget_s))
        self._tasks[task] = subject, passages
        subject.num_waiting += 1
        task.add_done_callback(self._answered)

    def _is_refused(self, subject: Subject) -> bool:
        """Whether nobody would judge it now, which is noted."""
        refused = self._panel.refusals(subject.side, self._patience_s(subject))
        if refused:
            subject.note(refused)
            self._has_news = True
        return bool(refused)

    def _patience_s(self, subject: Subject) -> float:
        """Of what is only annotated. The end of an answer waits for it; a prompt has as long as the answer takes."""
        return self._budget_s * (PATIENCE if subject is self._prompt else 1)

    def _answered(self, task: asyncio.Task[tuple[GuardRun, ...]]) -> None:
        subject, passages = self._tasks.pop(task, (None, ()))
        if subject is None:
            return
        subject.num_waiting -= 1
        subject.note(self._panel.late(passages) if task.cancelled() else task.result())
        self._has_news = True

    async def _settle(self) -> None:
        """Wait for what is on its way, as long as the budget allows."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=self._budget_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _news(self) -> Iterator[Event]:
        """What guards have found since they were asked last, and ends that waited for them."""
        if not self._choices:
            return
        self._has_news = False
        if self._prompt.has_news:
            yield self._prompt.told()
        for choice in self._choices:
            is_ending = choice.stopped is not None and not choice.is_over and not choice.num_waiting
            if is_ending or (choice.has_news and choice.stopped is None):
                yield choice.told()
            if is_ending:
                yield self._close(choice)

    def _close(self, choice: Subject) -> Stopped:
        assert choice.stopped is not None
        choice.is_over = True
        self._num_open -= 1
        self._is_halted = self._is_cut and not self._num_open
        return choice.stopped

    def _passages(self, text: str) -> list[Passage]:
        if self._turns is None:
            self._turns = turns_of(self._request)
        return [Passage(text=text, side="answer", before=self._turns)]

    def _leave(self) -> None:
        """Whatever happened: nothing goes on, and what was found counts."""
        tasks, self._tasks = self._tasks, {}
        for task in tasks:
            task.cancel()
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
