"""Llama Guard 3 on any model behind Hodios: the conversation as Meta's prompt has it, the verdict as scores.

The prompt is the dialog family `llama-guard3`; who generates is handed in, so that this knows no provider.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Literal

from hodios.dialog.profile import Profile
from hodios.errors import GuardDown, HodiosError
from hodios.events import Event, Text, TokenLogprob
from hodios.guard.base import Assessment, Category, Passage, Side, Turn
from hodios.types import Request, Sampling

NAMES: Mapping[str, str] = {
    "S1": "Violent Crimes",
    "S2": "Non-Violent Crimes",
    "S3": "Sex Crimes",
    "S4": "Child Exploitation",
    "S5": "Defamation",
    "S6": "Specialized Advice",
    "S7": "Privacy",
    "S8": "Intellectual Property",
    "S9": "Indiscriminate Weapons",
    "S10": "Hate",
    "S11": "Self-Harm",
    "S12": "Sexual Content",
    "S13": "Elections",
    "S14": "Code Interpreter Abuse",
}
"""In the words of the prompt. The 1B model knows all but S14."""
SLOTS: Mapping[str, Category] = {
    "S1": "violence",
    "S3": "sexual",
    "S4": "sexual",
    "S9": "violence",
    "S10": "hate",
    "S11": "self_harm",
    "S12": "sexual",
}
"""The others have none, and are told as further ones."""
CALLER = "guard:llama_guard"
"""Who asks, for those who keep records of requests: nobody's key."""
Route = Literal["completions", "chat"]
_MAX_TOKENS = 64
"""`unsafe` with all fourteen codes, and room to spare."""
_NUM_LOGPROBS = 5
_LONGEST_BEFORE = 24_000
"""Characters of the conversation before the judged text; older turns are left out."""
_FAMILY = "llama-guard3"


class LlamaGuard:
    """`route`: `completions` sends the prompt as we render it; `chat` sends the turns, to servers whose chat template
    is Llama Guard's own."""

    name = "llama_guard"
    sides: frozenset[Side] = frozenset({"prompt", "answer"})
    reads_turns: Literal[True] = True

    def __init__(
        self,
        generate: Callable[[Request], AsyncGenerator[Event, None]],
        model: str,
        *,
        new_id: Callable[[], str],
        codes: Sequence[str] = tuple(NAMES),
        route: Route = "completions",
    ) -> None:
        """`generate` must not guard its own requests. `codes` are those of `NAMES` that the model is told of."""
        self._generate = generate
        self._model = model
        self._new_id = new_id
        self._codes = tuple(codes)
        self._route = route
        self._profile = Profile.for_family(_FAMILY, lambda: datetime.now(UTC))
        self.version = f"3/{model}/{','.join(self._codes)}"
        self.categories: frozenset[Category] = frozenset(SLOTS[code] for code in self._codes if code in SLOTS)

    async def assess(self, passages: Sequence[Passage], budget_s: float) -> Sequence[Assessment]:
        """As `Guard.assess`; all passages at the same time."""
        try:
            async with asyncio.timeout(budget_s):
                return await asyncio.gather(*map(self._assess, passages))
        except TimeoutError:
            raise GuardDown(f"llama_guard: {self._model} gave no verdict within {budget_s:g} s") from None
        except GuardDown:
            raise
        except HodiosError as error:
            raise GuardDown(f"llama_guard: {self._model} could not be asked: {error.message}") from error

    async def aclose(self) -> None:
        """Nothing is held."""

    async def _assess(self, passage: Passage) -> Assessment:
        text, first = "", None
        async with aclosing(self._generate(self._request(passage))) as events:
            async for event in events:
                if type(event) is Text:
                    text += event.text
                    first = first or next((each for each in event.logprobs if each.text.strip()), None)
        verdict, codes = read_verdict(text)
        score = _unsafe_probability(first)
        if score is None:
            score = 1.0 if verdict == "unsafe" else 0.0
        return self._scored(score, codes)

    def _request(self, passage: Passage) -> Request:
        turns = [*_newest(passage.before), Turn("assistant" if passage.side == "answer" else "user", passage.text)]
        messages = tuple({"role": turn.role, "content": turn.text} for turn in turns)
        prompts: tuple[str, ...] | None = None
        if self._route == "completions":
            categories = [[code, NAMES[code]] for code in self._codes]
            prompts = (self._profile.render(messages, kwargs={"categories": categories}).neutralised()[0],)
        return Request(
            id=f"guard-{self._new_id()}",
            model=self._model,
            messages=messages if prompts is None else None,
            prompts=prompts,
            max_tokens=_MAX_TOKENS,
            sampling=Sampling(temperature=0.0, logprobs=_NUM_LOGPROBS),
            given=frozenset({"temperature", "max_tokens"}),
            caller=CALLER,
        )

    def _scored(self, score: float, codes: Sequence[str]) -> Assessment:
        """A category that the verdict does not name has 0: the probability is one of all of them together."""
        named = [code for code in codes if code in self._codes]
        hit = {SLOTS[code] for code in named if code in SLOTS}
        scores: dict[str, float] = {slot: score if slot in hit else 0.0 for slot in sorted(self.categories)}
        further = {code: score for code in named if code not in SLOTS}
        return Assessment(scores=scores, further={"unsafe": score, **further})


def read_verdict(text: str) -> tuple[Literal["safe", "unsafe"], tuple[str, ...]]:
    """The verdict and its codes: `unsafe\\nS1, S10`. Raises GuardDown for all else."""
    first, _, rest = text.strip().partition("\n")
    verdict = first.strip().lower()
    if verdict == "safe":
        return "safe", ()
    codes = tuple(part.strip().upper() for part in rest.strip().split("\n")[0].split(","))
    if verdict != "unsafe" or not all(re.fullmatch(r"S\d{1,2}", code) for code in codes):
        raise GuardDown(
            f"llama_guard: the model answered {text[:80]!r}; accepted: 'safe', or 'unsafe' and a line of categories"
        )
    return "unsafe", codes


def _unsafe_probability(token: TokenLogprob | None) -> float | None:
    """Of `unsafe` against `safe`, by the first token; None where the model tells nothing of it. Vocabularies other than
    Llama's may cut the words, so that beginnings count."""
    if token is None:
        return None
    unsafe = safe = 0.0
    for _, text, _, logprob in token.top:
        word = text.strip()
        if word and "unsafe".startswith(word):
            unsafe += math.exp(logprob)
        elif word and "safe".startswith(word):
            safe += math.exp(logprob)
    return unsafe / (unsafe + safe) if unsafe + safe > 0 else None


def _newest(turns: Sequence[Turn]) -> Sequence[Turn]:
    """As many of the last ones as there is room for."""
    room = _LONGEST_BEFORE
    for start in range(len(turns), 0, -1):
        room -= len(turns[start - 1].text)
        if room < 0:
            return turns[start:]
    return turns
