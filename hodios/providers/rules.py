"""What an answer of another server has to be, and whether it is: the calls and the text of one choice, judged.

Sans-IO. The server may know nothing of tools and formats, or say that it does and not always keep to them.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from hodios.dialog.mending import CallCheck, Verdict
from hodios.dialog.structured import AnswerCheck
from hodios.providers.call_deltas import Called
from hodios.types import FinishReason, Request, Warning


class Judged(Struct, frozen=True, kw_only=True):
    """One choice after it was looked at."""

    text: str
    calls: tuple[Called, ...] = ()
    warnings: tuple[Warning, ...] = ()
    problem: str = ""
    """What to tell the model, if it shall try again."""
    complaint: Warning | None = None
    """What to tell the client, if it does not get any better."""


class Rules:
    """Those of one request."""

    def __init__(self, request: Request, *, has_native_answer: bool) -> None:
        """`has_native_answer`: the server itself sees to it that text fits `request.grammar`. Raises InvalidRequest."""
        self._request = request
        self._has_native_answer = has_native_answer
        self._may_call = bool(request.tools) and request.tool_choice != "none"
        self._calls = CallCheck(request.tools)
        self._answer = None if request.grammar is None else AnswerCheck(request.grammar)

    @property
    def holds_text(self) -> bool:
        """Whether text is shown only once it is whole, since it may have to be said again."""
        must_call = self._may_call and self._request.tool_choice == "required"
        return must_call or (self._answer is not None and not self._has_native_answer)

    def judge(self, text: str, calls: Sequence[Called], finish_reason: FinishReason) -> Judged:
        """`text` without the calls."""
        if finish_reason in ("content_filter", "error"):
            calls = ()
        elif calls and not self._may_call:
            return Judged(text=text, warnings=(_warning("tool_choice", "left_out_calls", _NOT_ALLOWED),))
        if calls:
            return self._judge_calls(text, calls, is_cut=finish_reason == "length")
        if self._may_call and self._request.tool_choice == "required":
            name = self._request.tool_name
            problem = f"you must call {name or 'one of the tools'} now, and you called none"
            complaint = _warning("tool_choice", "no_tool_call", _NO_CALL)
            return Judged(text=text, problem=problem if finish_reason == "stop" else "", complaint=complaint)
        if finish_reason == "stop" and self._answer is not None:
            return self._judge_text(text, self._answer)
        return Judged(text=text)

    def _judge_calls(self, text: str, calls: Sequence[Called], *, is_cut: bool) -> Judged:
        kept: list[Called] = []
        warnings: list[Warning] = []
        problems: list[str] = []
        for number, call in enumerate(calls):
            is_last = number == len(calls) - 1
            verdict = self._calls.judge(call.name, call.arguments, is_whole=not (is_cut and is_last))
            if verdict.problem and not verdict.is_object:
                warnings.append(_warning("tools", "left_out_call", f"a call is left out: {verdict.problem}"))
            else:
                kept.append(Called(verdict.name, verdict.arguments, call.id))
            if verdict.mended:
                warnings.append(_warning("tools", "mended_call", f"a call was mended: {verdict.mended}"))
            if problem := self._problem(verdict):
                problems.append(problem)
        if not problems:
            return Judged(text=text, calls=tuple(kept), warnings=tuple(warnings))
        problem = "; ".join(problems)
        complaint = _warning("tools", "invalid_call", f"the model's calls do not fit: {problem}")
        return Judged(
            text=text,
            calls=tuple(kept),
            warnings=tuple(warnings),
            # An answer that was cut off would be cut off again.
            problem="" if is_cut else problem,
            complaint=complaint,
        )

    def _problem(self, verdict: Verdict) -> str:
        wanted = self._request.tool_name
        if not verdict.problem and wanted and verdict.name != wanted:
            return f"{verdict.name} was called, and only {wanted} may be called now"
        return verdict.problem

    def _judge_text(self, text: str, check: AnswerCheck) -> Judged:
        fitting, problem = check.read(text)
        if self._has_native_answer:
            # It has been shown already.
            problem = problem or ("something stands around it" if fitting != text else "")
            complaint = _answer_warning("invalid_answer", problem) if problem else None
            return Judged(text=text, complaint=complaint)
        if problem:
            told = f"{problem}; write nothing but what was asked for"
            return Judged(text=text, problem=told, complaint=_answer_warning("invalid_answer", problem))
        if fitting == text:
            return Judged(text=text)
        return Judged(
            text=fitting, warnings=(_answer_warning("mended_answer", "what was asked for was cut out of it"),)
        )


_NOT_ALLOWED = "the model called tools though it was not to; the calls are left out"
_NO_CALL = "the model called no tool though it had to"


def _warning(param: str, code: str, message: str) -> Warning:
    return Warning(param, code, message)


def _answer_warning(code: str, problem: str) -> Warning:
    what = "the model's answer was mended" if code == "mended_answer" else "the model's answer does not fit"
    return Warning("response_format", code, f"{what}: {problem}")
