"""`POST moderations`: the guards as a service, in OpenAI's shape, with our own slots beside theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hodios.accounts.accounts import Accounts
from hodios.api.answers import warning_fields
from hodios.api.checks import Kind, refusal, string
from hodios.api.exchange import Exchange
from hodios.api.filters import filter_details, not_evaluated
from hodios.api.permits import may_pass
from hodios.api.wire import decode_object, unknown, warn
from hodios.errors import GuardDown, InvalidRequest, MissingParameter, NotAvailable
from hodios.guard.base import Passage
from hodios.guard.budgets import Budgets
from hodios.guard.guarding import Guarding
from hodios.guard.policy import Policy, verdict
from hodios.types import CATEGORIES, GuardRun, Judgement, Warning

SLOTS: Mapping[str, str] = {
    "self_harm": "self-harm",
}
"""Ours → OpenAI's, where they differ."""
THEIRS = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent"),
    *("self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence"),
    "violence/graphic",
)
NAMES = (*THEIRS, "jailbreak", "profanity")
MOST_INPUTS = 128
BUDGETS = Budgets(20.0)
"""Nothing else waits for the answer."""
_ACCEPTS = f"a string, a list of up to {MOST_INPUTS} strings, or a list of parts of the types text and image_url"


def _parse_input(name: str, value: Any) -> tuple[str | None, ...]:
    """A text for each result; None where there is only an image, at which nobody looks."""
    if type(value) is str:
        return (value,)
    if type(value) is not list or not value:
        raise refusal(name, value, "is no such input", _ACCEPTS)
    if len(value) > MOST_INPUTS:
        raise refusal(name, value, "has too many entries", _ACCEPTS)
    if all(type(entry) is str for entry in value):
        return tuple(value)
    texts = [text for at, part in enumerate(value) if (text := _part(f"{name}[{at}]", part)) is not None]
    return ("\n".join(texts) if texts else None,)


def _part(name: str, part: Any) -> str | None:
    kind = part.get("type") if type(part) is dict else None
    if kind == "text" and type(part.get("text")) is str:
        return str(part["text"])
    if kind == "image_url" and type(part.get("image_url")) is dict:
        return None
    raise InvalidRequest(f"{name}: is no such input; accepted: {_ACCEPTS}", param=name)


_TEXT_PART = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
}
_IMAGE_PART = {
    "type": "object",
    "required": ["type", "image_url"],
    "properties": {"type": {"const": "image_url"}, "image_url": {"type": "object"}},
}
INPUT = Kind(
    _ACCEPTS,
    {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "minItems": 1, "maxItems": MOST_INPUTS, "items": {"type": "string"}},
            {"type": "array", "minItems": 1, "maxItems": MOST_INPUTS, "items": {"anyOf": [_TEXT_PART, _IMAGE_PART]}},
        ]
    },
    _parse_input,
)
MODERATE: Mapping[str, Kind] = {"input": INPUT, "model": string(256)}


class Moderations:
    """The handler. `new_id` gives 32 hex digits, never the same."""

    def __init__(
        self, guarding: Guarding, accounts: Accounts | None, max_body_bytes: int, new_id: Callable[[], str]
    ) -> None:
        self._guarding = guarding
        self._accounts = accounts
        self._max_body_bytes = max_body_bytes
        self._new_id = new_id

    async def moderate(self, exchange: Exchange) -> None:
        """Raises GuardDown where nobody can judge now, and NotAvailable where nobody ever will."""
        texts, warnings = _read(await exchange.body(self._max_body_bytes))
        exchange.report_ignored([warning.param for warning in warnings])
        if not self._guarding.panel.has_guards("prompt"):
            raise NotAvailable("no content filter runs here: the section [guard] of the settings names none")
        answer_id = f"modr-{self._new_id()}"
        admitted = exchange.admitted
        if self._accounts is None or admitted is None:
            results, model = await self._judged(texts, self._guarding.policy())
        else:
            permit = await may_pass(self._accounts, admitted, exchange, answer_id, lambda: 0)
            try:
                policies = admitted.key.guard, *((admitted.project.guard,) if admitted.project else ())
                results, model = await self._judged(texts, self._guarding.policy(*policies))
            finally:
                self._accounts.leave(permit, 0)
        answer: dict[str, Any] = {"id": answer_id, "model": model, "results": results}
        await exchange.answer_json({**answer, "warnings": warning_fields(warnings)} if warnings else answer)

    async def _judged(self, texts: Sequence[str | None], policy: Policy) -> tuple[list[dict[str, Any]], str]:
        """The results, and who gave them."""
        with_text = [text for text in texts if text]
        panel = self._guarding.panel
        runs = await asyncio.gather(*(panel.judge([Passage(text=text, side="prompt")], BUDGETS) for text in with_text))
        for each in runs:
            if all(run.problem for run in each):
                raise GuardDown(f"no content filter can judge now ({each[0].problem}); try again", retry_after=1)
        told = iter(runs)
        results = [_result(policy, next(told) if text else (), has_text=bool(text)) for text in texts]
        guards = [guard for guard in panel.guards if "prompt" in guard.sides]
        return results, "+".join(f"{guard.name}-{guard.version}" for guard in guards)


def _read(body: bytes) -> tuple[tuple[str | None, ...], list[Warning]]:
    values, warnings = decode_object(body), list[Warning]()
    for name in values:
        if name not in MODERATE and values[name] is not None:
            warn(warnings, unknown(name))
    if values.get("model") is not None:
        MODERATE["model"].parse("model", values["model"])
    if values.get("input") is None:
        raise MissingParameter(f"input: is missing; accepted: {_ACCEPTS}", param="input")
    texts: tuple[str | None, ...] = INPUT.parse("input", values["input"])
    return texts, warnings


def _result(policy: Policy, runs: tuple[GuardRun, ...], *, has_text: bool) -> dict[str, Any]:
    judgement = verdict(policy, "prompt", runs, has_text=has_text)
    scores = dict.fromkeys(NAMES, 0.0) | {_name(name): score for name, score in _highest(judgement).items()}
    unseen = [_name(category) for category in not_evaluated([judgement])]
    seen = {_name(category) for category in CATEGORIES} - set(unseen)
    return {
        "flagged": bool(judgement.flagged),
        "categories": dict.fromkeys(NAMES, False) | {_name(name): True for name in judgement.flagged},
        "category_scores": scores,
        "category_applied_input_types": {name: ["text"] if name in seen else [] for name in NAMES},
        "not_evaluated": [name for name in NAMES if name not in seen],
        "guards": filter_details(judgement, None)["guards"],
    }


def _highest(judgement: Judgement) -> dict[str, float]:
    scores: dict[str, float] = {}
    for run in judgement.runs:
        for category, score in run.scores.items():
            scores[category] = max(score, scores.get(category, 0.0))
    return scores


def _name(category: str) -> str:
    return SLOTS.get(category, category)
