"""The frames between an engine worker and its clients: msgpack structs over a Unix socket.

Each comes after its length in four bytes, big-endian. Client → worker: `Submit`, `Abort`. Worker → client: `Hello`
once, then one `Step` per engine step for all of that client's sequences, and `Refused` for a submission that is not
taken.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from hodios.types import Grammar, Sampling


class Place(Struct, frozen=True, array_like=True):
    """A place in text that a continuation has to begin with, and the tokens that can stand there."""

    inner: dict[int, int]
    """Token → the place where it ends."""
    last: list[int]
    """Tokens that end where the text does, or go on beyond it."""


class Submit(Struct, frozen=True, tag=True, kw_only=True, omit_defaults=True):
    """Generate `n` continuations of one prompt. Ends by itself, by `Abort`, or with the connection."""

    id: int
    """Unique on this connection."""
    prompt: list[int]
    """At least one token id."""
    max_tokens: int
    """Per continuation; 0 only computes the prompt (for its log-probabilities)."""
    n: int = 1
    sampling: Sampling = Sampling()
    eos_ids: list[int] = []
    """Tokens that end the answer unless `sampling.ignore_eos`."""
    grammar: Grammar | None = None
    prompt_logprobs: int | None = None
    """None, or how many alternatives to give for each prompt token."""
    num_begun: int = 0
    """So many of the prompt's last tokens are the beginning of the answer: grammar and penalties take them for such."""
    opening: list[Place] = []
    """What the answer must begin with (or go on with after those), place by place; [] where it may begin as it will."""
    salt: str = ""
    """Prefixes are shared only between requests of the same salt."""
    caller: str = ""
    """Callers take turns."""


class Abort(Struct, frozen=True, tag=True):
    """Stop generating `id`, or only its continuation `index`. Nothing more is sent for it. Unknown ids are ignored."""

    id: int
    index: int | None = None


class Hello(Struct, frozen=True, tag=True, kw_only=True):
    """The model is loaded and warm."""

    engine_version: str
    weights_hash: str
    representation: str
    """How the weights are held, e.g. `int8 per channel (210 tensors), f32 (61)`."""
    is_exact: bool
    vocab_size: int
    context_length: int
    """Most tokens that one sequence can have: the model's own limit, or less if the KV cache is smaller."""
    num_blocks: int
    block_size: int
    max_sequences: int
    max_queue: int
    load_s: float
    pid: int


class TokenAlternatives(Struct, frozen=True, array_like=True):
    """Log-probabilities at one position, from the untouched distribution."""

    token_id: int
    logprob: float | None
    top_ids: list[int] = []
    top_logprobs: list[float] = []
    """Most likely first; the chosen token is always among them, if need be as one more than asked for."""


class Output(Struct, frozen=True, tag=True, kw_only=True, omit_defaults=True):
    """What one step brought to one continuation."""

    id: int
    index: int
    tokens: list[int]
    """New tokens, in order; a stop or end-of-sequence token that ends the answer is the last of them."""
    logprobs: list[TokenAlternatives] | None = None
    """One for each of `tokens`, where asked for."""
    prompt_logprobs: list[TokenAlternatives] | None = None
    """The next stretch of the prompt's tokens (index 0 only), where asked for."""
    finish_reason: Literal["stop", "length", "error"] | None = None
    stop_token: int | None = None
    """The token of `eos_ids` or `stop_token_ids` that ended it."""
    error: str | None = None
    """With finish_reason "error": what went wrong, for the client to read."""
    error_param: str | None = None
    """With `error`: the parameter that it comes from, where asking again would bring the same."""
    cached_tokens: int = 0
    """Prompt tokens found in the prefix cache; on the first output only."""
    queue_s: float = 0.0
    """Waiting time before prefill; on the first output only."""
    accepted_drafts: int = 0
    """How many of `tokens` came from accepted guesses."""
    cumulative_logprob: float | None = None
    """Of the whole answer, on the last output, where `logprobs` were asked for."""


class Stats(Struct, frozen=True, kw_only=True):
    """The engine at one moment; counters count from its start."""

    num_waiting: int
    num_running: int
    free_blocks: int
    cached_blocks: int
    """Blocks that no sequence holds and a prefix may still be found in; they count as free."""
    num_blocks: int
    num_steps: int = 0
    num_preemptions: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    step_s: float = 0.0
    infer_s: float = 0.0
    resident_bytes: int = 0


class Step(Struct, frozen=True, tag=True, kw_only=True):
    outputs: list[Output]
    stats: Stats


class Refused(Struct, frozen=True, tag=True, kw_only=True):
    """The submission was not taken. `full`: the queue is, try again; `invalid`: it can never be taken."""

    id: int
    reason: Literal["full", "invalid"]
    message: str
    param: str | None = None


FromClient = Submit | Abort
FromWorker = Hello | Step | Refused
