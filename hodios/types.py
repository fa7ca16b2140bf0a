"""The frozen objects that travel between layers. No behaviour beyond what their fields say."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "error"]
GrammarKind = Literal["json_object", "json_schema", "regex", "lark"]


class Grammar(Struct, frozen=True):
    """What the answer must match. `source`: a JSON schema, a regular expression, a Lark grammar; "" for json_object."""

    kind: GrammarKind
    source: str = ""


class Sampling(Struct, frozen=True):
    """How the next token is drawn; the defaults leave the model's distribution untouched."""

    temperature: float = 1.0
    top_p: float = 1.0
    min_p: float = 0.0
    top_k: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token id, bias); −100 bans the token, 100 leaves only the tokens so marked."""
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    logprobs: int | None = None
    """None: no log-probabilities; n: of the chosen token and of the n most likely ones."""


class Warning(Struct, frozen=True):
    """Something the client asked for and did not get."""

    param: str
    code: str
    message: str


class Request(Struct, frozen=True, kw_only=True):
    """One validated generation request, chat or raw completion; exactly one of `messages` and `prompts` is set."""

    id: str
    """`chat-…` or `cmpl-…`, as the client sees it."""
    model: str
    """The catalog id, alias already resolved."""
    messages: tuple[dict[str, Any], ...] | None = None
    """Chat messages as the client sent them, each checked to be an object with a known role."""
    prompts: tuple[str | tuple[int, ...], ...] | None = None
    max_tokens: int | None = None
    sampling: Sampling = Sampling()
    n: int = 1
    best_of: int = 1
    stop: tuple[str, ...] = ()
    include_stop: bool = False
    """Keep the stop string (or stop token's text) at the end of the answer."""
    echo: bool = False
    grammar: Grammar | None = None
    template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    cache_salt: str = ""
    caller: str = ""
    """Who asks: a key's id. Fair order and cache isolation go by it."""
    user: str | None = None

    @property
    def is_chat(self) -> bool:
        return self.messages is not None


class ModelCard(Struct, frozen=True, kw_only=True):
    """A model that can be asked for: what `GET models` shows of it."""

    id: str
    aliases: tuple[str, ...] = ()
    author: str = ""
    name: str = ""
    context_length: int
    max_output_tokens: int
    created: int = 0
    provider: str = "local"
    quantization: str = ""
    architecture: str = ""
    num_parameters: int = 0
    size_bytes: int = 0
    license: str = ""
    fingerprint: str = ""
    """`fp_` and 12 hex digits over weights, quantization and engine version."""
