"""What one request costs: reserved before each attempt, written down while it is answered, settled at its end.

As `router.payer.Payer`.
"""

from __future__ import annotations

import msgspec

from hodios.accounts.accounts import Accounts, Offer
from hodios.accounts.entries import Spent
from hodios.accounts.keyring import Admitted
from hodios.accounts.reservations import Reservation
from hodios.guard_settings import NO_POLICY, GuardPolicy
from hodios.store.records import KeyRecord
from hodios.types import Attempt, ModelCard, Request

_PER_TURN = 16
"""Tokens around a message, at most."""
_AROUND = 256
"""Tokens around a chat, at most."""
_PER_IMAGE = 4096
_PER_TOOL = 64
_AROUND_TOOLS = 2048
"""Tokens of the words in which models are told of tools."""
_encode = msgspec.json.encode


class Tab:
    """Of one request."""

    def __init__(self, accounts: Accounts, admitted: Admitted) -> None:
        self._accounts = accounts
        self._admitted = admitted
        self._reservations: dict[int, Reservation] = {}
        self.num_tokens = 0
        """Of prompts and answers, as far as they were paid for."""

    @property
    def key(self) -> KeyRecord:
        return self._admitted.key

    @property
    def guard_policies(self) -> tuple[GuardPolicy, GuardPolicy]:
        """Of the key and of its project."""
        project = self._admitted.project
        return self._admitted.key.guard, project.guard if project else NO_POLICY

    async def reserve(
        self, number: int, card: ModelCard, request: Request, num_prompt_tokens: int | None = None
    ) -> None:
        num_choices = max(request.n, request.best_of) * len(request.prompts or ("",))
        most = card.max_output_tokens if request.max_tokens is None else request.max_tokens
        if num_prompt_tokens is None:
            num_prompt_tokens = most_prompt_tokens(request) if self._accounts.has_budget(self._admitted) else 0
        offer = Offer(
            model=card.id,
            provider=card.provider,
            price=card.price,
            prompt_tokens=num_prompt_tokens,
            most_completion_tokens=most * num_choices,
            num_choices=num_choices,
            user=request.user,
            has_progress=True,
        )
        self._reservations[number] = await self._accounts.reserve(self._admitted, request.id, number, offer)

    def progress(self, number: int, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> bool:
        spent = Spent(prompt_tokens=prompt_tokens, cached_tokens=cached_tokens, completion_tokens=completion_tokens)
        return self._accounts.progress(self._reservations[number], spent)

    def came(self, number: int, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> None:
        spent = Spent(prompt_tokens=prompt_tokens, cached_tokens=cached_tokens, completion_tokens=completion_tokens)
        self._accounts.came(self._reservations[number], spent)

    async def more(self, number: int) -> bool:
        return await self._accounts.more(self._reservations[number])

    def settle(self, number: int, attempt: Attempt) -> None:
        reservation = self._reservations.get(number)
        if reservation is None:
            return
        is_shown = attempt.first_token_s is not None
        spent = Spent(
            prompt_tokens=attempt.prompt_tokens,
            cached_tokens=attempt.cached_tokens,
            completion_tokens=attempt.completion_tokens if is_shown else 0,
        )
        self._accounts.settle(reservation, attempt.outcome, spent)
        if spent.completion_tokens:
            self.num_tokens += spent.prompt_tokens + spent.completion_tokens


def most_prompt_tokens(request: Request) -> int:
    """No fewer than the prompts have, whatever the tokenizer: none makes more tokens of a text than it has bytes."""
    if request.prompts is not None:
        sizes = (len(prompt.encode()) if isinstance(prompt, str) else len(prompt) for prompt in request.prompts)
        return sum(sizes) + _AROUND
    num_images = len(request.images)
    num_bytes = 0
    for message in request.messages or ():
        content = message.get("content")
        if isinstance(content, str):
            num_bytes += len(content) if content.isascii() else len(content.encode())
        elif content:
            texts = [part for part in content if part.get("type") != "image_url"]
            num_images += len(content) - len(texts)
            num_bytes += len(_encode(texts))
        if len(message) > 2:
            num_bytes += len(_encode({name: value for name, value in message.items() if name != "content"}))
        num_bytes += _PER_TURN
    tools = sum(_PER_TOOL + len(_encode((tool.name, tool.description, tool.parameters))) for tool in request.tools)
    tools += _AROUND_TOOLS if request.tools else 0
    documents = len(_encode(request.documents)) if request.documents else 0
    form = len(request.grammar.source) if request.grammar is not None else 0
    return _AROUND + num_bytes + tools + documents + form + num_images * _PER_IMAGE
