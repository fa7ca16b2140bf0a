"""A submission and its continuations: their tokens, and how much of them the KV cache holds. Takes no decisions."""

from __future__ import annotations

from typing import Literal

from hodios.engine.kv_cache import block_key, root_key
from hodios.engine.messages import Submit

State = Literal["waiting", "running", "finished"]


class Group:
    """One submission: its prompt and its `n` continuations.

    Until the prompt is computed there is only the leader; then it is forked into the others. Should the continuation
    that the leader stands for be aborted before that, the leader takes the next one's index and goes on for the rest.
    """

    def __init__(self, submit: Submit, *, owner: object, arrival_s: float) -> None:
        self.submit = submit
        self.owner = owner
        self.arrival_s = arrival_s
        self.first_scheduled_s: float | None = None
        self.cached_tokens = 0
        """Prompt tokens found in the prefix cache when the leader was first scheduled."""
        self.number = 0
        """Submissions are numbered in the order of their arrival."""
        self.unforked = list(range(1, submit.n))
        """Indexes of the continuations that the leader still stands for besides its own."""
        self.sequences = [Sequence(self, 0, list(submit.prompt))]

    @property
    def is_finished(self) -> bool:
        return all(sequence.is_finished for sequence in self.sequences)


class Sequence:
    """One continuation: the prompt and what was generated after it.

    After a pre-emption `num_computed` is 0 again and nothing else is lost.
    """

    __slots__ = (
        "blocks",
        "drafts",
        "draw",
        "group",
        "index",
        "is_seeded",
        "keys",
        "num_computed",
        "num_exact",
        "num_prompt",
        "num_registered",
        "num_scored",
        "state",
        "tokens",
    )

    def __init__(self, group: Group, index: int, tokens: list[int]) -> None:
        self.group = group
        self.index = index
        self.state: State = "waiting"
        self.tokens = tokens
        """The prompt and the accepted output."""
        self.num_prompt = len(tokens)
        self.is_seeded = group.submit.sampling.seed is not None
        self.draw: object = None
        """The sampling state; only the engine knows what it is."""
        self.drafts: list[int] = []
        """Guesses at the next tokens, to be verified in the next step."""

        self.num_computed = 0
        """Tokens whose keys and values are in the cache."""
        self.num_exact = 0
        """So many of them came from prefill alone, so any other sequence's prefill would have given the same bits."""
        self.num_scored = 0
        """Prompt positions whose logits were handed out for prompt log-probabilities; survives pre-emption."""
        self.blocks: list[int] = []
        self.num_registered = 0
        """So many of `blocks` are full and known to the prefix cache."""
        self.keys = [root_key(group.submit.salt)]
        """The key chain: `keys[i + 1]` is that of block i. Never longer than the tokens' full blocks."""

    @property
    def num_output(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def num_to_come(self) -> int:
        """Tokens that may still be generated."""
        return self.group.submit.max_tokens - self.num_output

    @property
    def num_slots(self) -> int:
        """How many running sequences it counts for: a leader also stands for those it will be forked into."""
        return 1 + len(self.group.unforked)

    @property
    def age(self) -> tuple[int, int]:
        """Smaller is older."""
        return self.group.number, self.index

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    @property
    def is_finished(self) -> bool:
        return self.state == "finished"

    @property
    def prefill_end(self) -> int:
        """Up to here tokens are computed in chunks.

        A seeded sequence's output is only ever computed token by token, even when it is replayed after a pre-emption:
        prefill rounds differently, and the tokens that follow could differ too.
        """
        return self.num_prompt if self.is_seeded else len(self.tokens)

    @property
    def is_prefill(self) -> bool:
        """The next tokens are computed as a chunk, not as a decode step."""
        return self.num_computed < self.num_prompt or self.num_computed < self.prefill_end - 1

    @property
    def needs_prompt_logprobs(self) -> bool:
        return self.group.submit.prompt_logprobs is not None and self.index == 0

    @property
    def is_unscored(self) -> bool:
        """Prompt log-probabilities are asked for and not all handed out."""
        return self.needs_prompt_logprobs and self.num_scored < self.num_prompt

    def extend_keys(self, num_blocks: int, block_size: int) -> None:
        """Hash tokens until the first `num_blocks` blocks have their keys."""
        for index in range(len(self.keys) - 1, num_blocks):
            self.keys.append(block_key(self.keys[-1], self.tokens[index * block_size : (index + 1) * block_size]))

    def fork(self, index: int) -> Sequence:
        """A sibling with the same computed prompt. It lists the same blocks: the caller adds the references."""
        sibling = Sequence(self.group, index, self.tokens[: self.num_prompt])
        sibling.num_computed = self.num_computed
        sibling.num_exact = self.num_exact
        sibling.blocks = list(self.blocks)
        sibling.num_registered = self.num_registered
        sibling.keys = list(self.keys)
        return sibling
