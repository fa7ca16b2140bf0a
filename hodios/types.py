"""The frozen objects that travel between layers. No behaviour beyond what their fields say."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, get_args

from msgspec import Struct, field

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "error"]
GrammarKind = Literal["json_object", "json_schema", "regex", "lark"]


class Grammar(Struct, frozen=True):
    """What the answer must match. `source`: a JSON schema, a regular expression, a Lark grammar; "" for json_object."""

    kind: GrammarKind
    source: str = ""
    parts: tuple[GrammarPart, ...] = ()
    """What a Lark grammar refers to as `@name`."""


class GrammarPart(Struct, frozen=True):
    """A grammar within another."""

    name: str
    grammar: Grammar
    param: str
    """Where the client gave it, for errors: `tools[0].function.parameters`."""


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


ToolChoice = Literal["auto", "none", "required"]
Modality = Literal["text", "image"]
Feature = Literal["tools", "json_schema", "reasoning", "logprobs", "documents"]


class Tool(Struct, frozen=True):
    """A function that the model may ask the client to call."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    """The JSON Schema of its arguments, always of an object; {} where the client gave none."""
    strict: bool = False
    returns: dict[str, Any] | None = None
    """The JSON Schema of its result (`return`), which the prompts of some models show."""


class Price(Struct, frozen=True, kw_only=True):
    """Nano-dollars per million tokens (1 $ per million is 1_000_000_000), and nano-dollars per request."""

    prompt: int = 0
    completion: int = 0
    cached: int | None = None
    """Of prompt tokens found in a cache; None: as any other."""
    request: int = 0
    is_known: bool = True
    """False where nobody has said what it costs; the numbers are 0 then and mean nothing."""


UNKNOWN_PRICE = Price(is_known=False)
Sort = Literal["price", "latency", "throughput", "perf", "perf_avg"]


class Routing(Struct, frozen=True, kw_only=True):
    """Which providers may answer, and who is asked first. Names are those of providers, in lower case."""

    order: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    allows_fallbacks: bool = True
    """Whether others than those in `order` may answer, and a second one after the first has failed."""
    requires_parameters: bool = False
    """Whether a provider must honour every parameter that the client gave."""
    quantizations: tuple[str, ...] = ()
    sort: Sort | None = None
    """None: the default policy, which shares the load by price."""
    max_price: Price | None = None
    preferred_max_latency_s: float | None = None
    preferred_min_throughput: float | None = None
    """Tokens per second. Who is slower is asked last, but may answer."""
    allows_collection: bool = True
    """Whether a provider may keep what it is sent."""
    is_free: bool = False
    """Only what costs nothing."""


class SentCall(Struct, frozen=True):
    """A call of a tool as far as the client has it."""

    id: str
    name: str
    arguments: str


class Beginning(Struct, frozen=True, kw_only=True):
    """What the client already has of an answer that another provider has to go on with, byte for byte."""

    reasoning: str = ""
    text: str = ""
    calls: tuple[SentCall, ...] = ()
    """The last one may be half-written; then it is what the answer goes on with, else the text, else the reasoning."""
    num_tokens: int = 0
    """Generated so far, as far as it is known."""


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
    """What the text of the answer must match; calls of tools need not."""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    tool_name: str = ""
    """With `tool_choice` required: the one tool that must be called; "" for any of them."""
    parallel_tool_calls: bool = True
    documents: tuple[dict[str, Any], ...] = ()
    """For chat templates that take them."""
    images: tuple[str, ...] = ()
    """The parameter `data`: data URIs and addresses of images that belong to the last user message."""
    has_reasoning: bool = True
    """Whether what the model thinks aloud is shown, as `Reasoning`; else it is left out of the answer."""
    is_shown_whole: bool = False
    """Whether the client sees nothing of the answer before it has all of it: then it may begin anew, and whoever asks
    forgets what came before another `Started`."""
    template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    routing: Routing = Routing()
    fallback_models: tuple[str, ...] = ()
    """Models to ask, in order, where `model` cannot answer."""
    given: frozenset[str] = frozenset()
    """The names of all parameters that the client gave."""
    beginning: Beginning | None = None
    """Set by the router alone, for providers whose card says that they continue."""
    cache_key: str = ""
    """`prompt_cache_key`: requests with the same one are best answered by the same replica."""
    cache_salt: str = ""
    caller: str = ""
    """Who asks: a key's id. Fair order and cache isolation go by it."""
    user: str | None = None

    @property
    def is_chat(self) -> bool:
        return self.messages is not None


Category = Literal["hate", "self_harm", "sexual", "violence", "jailbreak", "profanity"]
"""What answers have a slot for in their `content_filter_results`."""
CATEGORIES: tuple[Category, ...] = get_args(Category)
Side = Literal["prompt", "answer", "document", "code"]
"""Who wrote a text: the client's user, the model, or somebody whom neither knows (results of tools, documents). `code`
is an answer too, for those who read the code in it: once, when all of it is there."""


class GuardRun(Struct, frozen=True, kw_only=True):
    """What one guard said of the texts of one side."""

    guard: str
    version: str
    side: Side
    scores: Mapping[str, float] = {}
    """Category → 0…1, the highest of all texts; one that is missing was not looked at."""
    further: Mapping[str, float] = {}
    """Categories without a slot, under the guard's own names."""
    duration_s: float = 0.0
    problem: str = ""
    """Why it has not judged, or not all of it; "" where it has."""


class Judgement(Struct, frozen=True, kw_only=True):
    """What guards say of the prompt or of one choice so far, and what the policy makes of it."""

    runs: tuple[GuardRun, ...] = ()
    asked: frozenset[Category] = frozenset()
    """Those that somebody should look at, once there is text."""
    flagged: frozenset[str] = frozenset()
    """Categories whose score reached their threshold."""
    blocked: frozenset[str] = frozenset()
    """Those of them for which it was stopped."""


class Range(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a provider accepts of one parameter. None: not told."""

    min: Decimal | None = None
    max: Decimal | None = None
    is_above_min: bool = field(name="above_min", default=False)
    """Whether `min` itself is refused."""
    default: Decimal | bool | None = None
    max_items: int | None = None


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
    modalities: tuple[Modality, ...] = ("text",)
    """What it reads. Images reach only a provider whose card has `image`."""
    features: tuple[Feature, ...] = ()
    """What can be asked of it beside text; `json_schema` stands for every `response_format`."""
    parameters: tuple[str, ...] | None = None
    """Names of the request parameters that are honoured; None: all."""
    ranges: Mapping[str, Range] = {}
    """What is accepted of single ones, where that is less than here."""
    price: Price = Price()
    collects_data: bool = False
    """Whether the provider may keep, or train on, what it is sent."""
    continues: bool = False
    """Whether it can go on with the `Beginning` of an answer."""
    is_replica: bool = False
    """Whether it is one of several servers of our own with the same model and price, told apart by load only."""


class Candidate(Struct, frozen=True, kw_only=True):
    """One who might have answered."""

    provider: str
    model: str
    price: Price
    excluded: str = ""
    """Why it was not asked, for people to read; "" where it might be."""


class Attempt(Struct, frozen=True, kw_only=True):
    """One provider was asked. Times in seconds since the request came in."""

    provider: str
    model: str
    began_s: float
    first_token_s: float | None = None
    ended_s: float
    outcome: Literal["answered", "refused", "failed", "overloaded", "broke_off", "cancelled"]
    """`refused`: by the client's fault; `failed`: before the first token; `broke_off`: after it."""
    error: str = ""
    status: int | None = None
    """Of the provider's own HTTP answer, where it is known."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt's."""
    completion_tokens: int = 0
    price: Price = Price()
    """At the time."""
    version: str = ""
    """Of the model: the fingerprint of its card at the time."""


class Route(Struct, frozen=True, kw_only=True):
    """How one request found its answer."""

    policy: str
    """The rule that put the candidates in their order, for people to read."""
    candidates: tuple[Candidate, ...]
    """In the order in which they would have been asked; then those that are excluded."""
    attempts: tuple[Attempt, ...]
