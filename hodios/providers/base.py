"""What every provider looks like from above: whoever can generate, the local engine like any other.

Knows no HTTP, no template and no tokenizer; those are the business of the modules that implement it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from msgspec import Struct

from hodios.events import Event
from hodios.types import ModelCard, Request

ModelState = Literal["ready", "loading", "restarting", "failed"]
Verdict = Literal["well", "ill", "unknown"]
"""What a free probe says: it answers; it does not, or says itself that it is broken; that cannot be told so."""


class ModelHealth(Struct, frozen=True, kw_only=True):
    """How one model of a provider is doing at this moment. Asking never costs a model call."""

    model: str
    """The catalog id."""
    state: ModelState
    message: str = ""
    """For the operator: why it is not ready, or "". Holds no secrets."""
    num_restarts: int = 0
    stats: Mapping[str, float] = {}
    """Gauges and counters under the names of `engine.messages.Stats`, as far as the provider knows any."""


class TokenizerDoor(Protocol):
    """One model's tokenizer, for `/tokenize` and its kin. Coroutines, so that long texts may be worked on in a thread.

    Every method raises `InvalidRequest` for what the tokenizer cannot take (an id outside the vocabulary, messages that
    the chat template refuses), and nothing else.
    """

    async def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of `text`; with `add_special_tokens` also what the model wants around a prompt, such as BOS."""
        ...

    async def encode_messages(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        add_generation_prompt: bool,
        continue_final_message: bool,
        template_kwargs: Mapping[str, Any] | None,
    ) -> list[int]:
        """Token ids of the chat prompt, exactly as generation would see it."""
        ...

    async def decode(self, token_ids: Sequence[int]) -> str:
        """The text of the tokens, control tokens included; U+FFFD where the bytes are no UTF-8."""
        ...

    async def token_strings(self, token_ids: Sequence[int]) -> list[str]:
        """Each token alone, as the vocabulary spells it."""
        ...

    def info(self) -> dict[str, Any]:
        """JSON-ready, in the manner of `tokenizer_config.json`: at least `tokenizer_class`, `bos_token`, `eos_token`,
        `pad_token` (strings or None), `model_max_length`, and `chat_template` (string or None)."""
        ...


class Provider(Protocol):
    """Someone who can generate. One object per provider, shared by all requests of an event loop."""

    @property
    def name(self) -> str:
        """Lower case, without slashes: `local`, `echo`, `openrouter`. `name/model id` asks for this provider."""
        ...

    async def start(self) -> None:
        """Connect to whatever generates. Returns soon; a model that is still loading says so in `health`.

        Raises: SetupError.
        """
        ...

    async def aclose(self) -> None:
        """Give up every connection. Streams still open end in `ProviderError`. May be called twice."""
        ...

    def models(self) -> Sequence[ModelCard]:
        """What can be asked for, ready or not. Cheap: called for every request."""
        ...

    def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """Answer `request`, whose `model` is the `id` of one of `models()`, in the grammar of `hodios.events`.

        Closing the generator (`aclose`) stops the work, also while it waits for its first event; nothing runs before
        the first `anext`. Raises HodiosError: `InvalidRequest` and its kin before the first event,
        `Overloaded` (with `retry_after`), `TimedOut` or `ProviderError` at any time.
        """
        ...

    def tokenizer(self, model: str) -> TokenizerDoor | None:
        """The tokenizer of one of `models()`; None where the provider has none to offer (or it is not loaded yet)."""
        ...

    def health(self) -> Sequence[ModelHealth]:
        """One entry for each of `models()`, in that order. Cheap, and never waits."""
        ...


class Reading(Protocol):
    """A request that was read, and not begun."""

    @property
    def num_prompt_tokens(self) -> int:
        """Of all prompts together; what the answer's usage will say."""
        ...

    def answer(self) -> AsyncGenerator[Event, None]:
        """As `Provider.generate`. Once."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A provider that has the tokenizer: how many tokens a prompt has is known before anybody pays for it."""

    async def read(self, request: Request) -> Reading:
        """Blocks nobody, however long the prompt is. Raises HodiosError as `Provider.generate` does."""
        ...


@runtime_checkable
class Probed(Protocol):
    """A provider whose health nobody knows unless it is asked, and that can be asked for nothing."""

    async def probe(self) -> Verdict:
        """Takes a few seconds at most. Never asks a model anything, and never costs."""
        ...


class ServerLoad(Struct, frozen=True, kw_only=True):
    """What a server says of itself, whoever its requests come from."""

    num_running: int
    num_waiting: int = 0
    """Requests that it has not begun."""
    cache_usage: float | None = None
    """The used share of its KV cache, 0 to 1; None: not told."""


@runtime_checkable
class Reporting(Protocol):
    """A provider that may know how busy its server is."""

    async def loads(self) -> Mapping[str, ServerLoad]:
        """By catalog id, as far as the server tells; models that share an engine have the same. Takes a few seconds at
        most, and never raises."""
        ...
