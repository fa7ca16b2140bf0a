"""Every request parameter of the generation routes: its range, what it means, and where it cannot be honoured yet.

The validator, the OpenAPI document and the tests of the documentation all read this one table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from hodios.api.checks import (
    BOOLEAN,
    OBJECT,
    Kind,
    check_nesting,
    integer,
    list_of,
    number,
    one_of,
    refusal,
    string,
)
from hodios.api.formats import RESPONSE_FORMAT
from hodios.api.images import IMAGES
from hodios.api.prompts import MESSAGES, PROMPT, TOKEN_ID
from hodios.api.routing import MODELS, PROVIDER, ROUTING
from hodios.api.tools import FUNCTION_CALL, FUNCTIONS, TOOL_CHOICE, TOOLS
from hodios.types import Feature, Modality

Operation = Literal["chat/completions", "completions"]
CHAT: Operation = "chat/completions"
COMPLETIONS: Operation = "completions"

MAX_TOKENS = 1_000_000
MAX_STOPS = 16
MAX_BIASES = 10_000
_TEMPLATE_NAMES = frozenset(
    (
        *("messages", "tools", "documents", "add_generation_prompt", "continue_final_message"),
        *("chat_template", "tokenize"),
    )
)
_TOKEN_KEY = re.compile(r"0|[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    kind: Kind
    meaning: str
    operations: tuple[Operation, ...] = (CHAT, COMPLETIONS)
    is_required: bool = False
    default: object = None
    gap: str = ""
    """Why it is reported and not honoured; "" for a parameter that is."""
    neutral: tuple[object, ...] = ()
    """Values of a gap that ask for what happens anyway."""
    needs: Feature | Modality = "text"
    """What a model must have for this to mean something."""


def _parse_stop(name: str, value: Any) -> tuple[str, ...]:
    accepts = f"a string or a list of at most {MAX_STOPS} strings, none of them empty"
    stops = [value] if type(value) is str else value
    if type(stops) is not list:
        raise refusal(name, value, "is not a stop string", accepts)
    if len(stops) > MAX_STOPS:
        raise refusal(name, value, "is too long", accepts)
    for index, stop in enumerate(stops):
        if type(stop) is not str or not stop:
            raise refusal(name if stops is not value else f"{name}[{index}]", stop, "is not a stop string", accepts)
    return tuple(dict.fromkeys(stops))


def _parse_bias(name: str, value: Any) -> tuple[tuple[int, float], ...]:
    accepts = f"an object of at most {MAX_BIASES} entries, token id → a number from -100 to 100"
    if type(value) is not dict:
        raise refusal(name, value, "is not an object", accepts)
    if len(value) > MAX_BIASES:
        raise refusal(name, value, f"has {len(value)} entries", accepts)
    bias = number(-100, 100)
    for key in value:
        if not _TOKEN_KEY.fullmatch(key) or int(key) >= 2**31:
            raise refusal(name, key, "is not a token id", accepts)
    return tuple([(int(key), bias.parse(f"{name}.{key}", entry)) for key, entry in value.items()])


def _parse_template_kwargs(name: str, value: Any) -> dict[str, Any]:
    variables: dict[str, Any] = OBJECT.parse(name, value)
    for key in variables:
        if key in _TEMPLATE_NAMES or not key.isidentifier() or key.startswith("_"):
            raise refusal(f"{name}.{key}"[:200], key, "cannot be set", "names that the chat template defines")
    check_nesting(name, variables)
    return variables


def _parse_document(name: str, value: Any) -> dict[str, Any]:
    """A text alone is a document that has nothing else."""
    if type(value) is str:
        return {"text": value}
    check_nesting(name, value)
    document: dict[str, Any] = OBJECT.parse(name, value)
    return document


STOP = Kind(
    f"a string or a list of at most {MAX_STOPS} strings, none of them empty",
    {
        "anyOf": [
            {"type": "string", "minLength": 1},
            {"type": "array", "maxItems": MAX_STOPS, "items": {"type": "string", "minLength": 1}},
        ]
    },
    _parse_stop,
)
LOGIT_BIAS = Kind(
    f"an object of at most {MAX_BIASES} entries, token id → a number from -100 to 100",
    {
        "type": "object",
        "maxProperties": MAX_BIASES,
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
    },
    _parse_bias,
)
TEMPLATE_KWARGS = Kind("an object", {"type": "object"}, _parse_template_kwargs)

_DOCUMENT = Kind("a string or an object", {"type": ["string", "object"]}, _parse_document)
_DOCUMENTS = list_of(_DOCUMENT, plural="strings or objects", max_items=1024)
_STRINGS = list_of(string(256, min_length=1), plural="strings")
_TEXT = string(2**30)
_EFFORTS = one_of("none", "minimal", "low", "medium", "high", "xhigh")
_STOP_IDS = list_of(TOKEN_ID, plural="token ids", max_items=1024)
_SEED = integer(-(2**63), 2**64 - 1)
_C, _P = (CHAT,), (COMPLETIONS,)

_SHARED: tuple[Parameter, ...] = (
    Parameter("model", string(256, min_length=1), "Catalog id, alias, or provider/id.", is_required=True),
    Parameter("temperature", number(0, 2), "0 always takes the most likely token.", default=1),
    Parameter("top_p", number(0, 1, is_low_open=True), "Keep the likeliest tokens up to this probability.", default=1),
    Parameter("min_p", number(0, 1), "Drop tokens less likely than this share of the likeliest.", default=0),
    Parameter("top_k", integer(-1, 2**31 - 1), "Keep the k likeliest tokens; 0 and -1 keep all.", default=0),
    Parameter("presence_penalty", number(-2, 2), "Subtracted once from tokens already in the answer.", default=0),
    Parameter("frequency_penalty", number(-2, 2), "Subtracted for every occurrence in the answer.", default=0),
    Parameter("repetition_penalty", number(0.01, 5), "Divides the scores of tokens in prompt and answer.", default=1),
    Parameter("seed", _SEED, "The same seed and request give the same answer."),
    Parameter("stop", STOP, "Text that ends the answer and is left out of it."),
    Parameter("stop_token_ids", _STOP_IDS, "Tokens that end the answer."),
    Parameter("min_tokens", integer(0, MAX_TOKENS), "No end before so many tokens.", default=0),
    Parameter("ignore_eos", BOOLEAN, "Generate past the end-of-text token.", default=False),
    Parameter("include_stop_str_in_output", BOOLEAN, "Keep the stop text in the answer.", default=False),
    Parameter("logit_bias", LOGIT_BIAS, "Added to the scores of tokens; -100 bans, 100 selects for certain."),
    Parameter("return_tokens_as_token_ids", BOOLEAN, "Write tokens in logprobs as token_id:N.", default=False),
    Parameter("prompt_cache_key", string(512), "Requests with the same one are answered by the same replica."),
    Parameter("cache_salt", string(512), "Cached prefixes are shared only between requests of the same salt."),
    Parameter("stream", BOOLEAN, "Answer as server-sent events.", default=False),
    Parameter("stream_options", OBJECT, "include_usage, continuous_usage_stats; only with stream."),
    Parameter("response_format", RESPONSE_FORMAT, "What the answer must match.", needs="json_schema"),
    Parameter("data", IMAGES, "Images that belong to the prompt or the last user message.", needs="image"),
    Parameter("user", string(512), "Whom the request is for, in the client's own words."),
    Parameter("content_filter", one_of("details"), "Adds content_filter_details to every choice."),
    Parameter("strict", BOOLEAN, "Turn every warning into an error.", default=False),
    Parameter("metadata", OBJECT, "Labels.", gap="requests are not kept, so neither are their labels", neutral=({},)),
    Parameter("service_tier", string(64), "Priority.", gap="there is one tier", neutral=("auto", "default")),
    Parameter("provider", PROVIDER, "Who may answer, and who is asked first."),
    Parameter("models", MODELS, "Models to ask, in order, where model cannot answer."),
    Parameter("include_route", BOOLEAN, "Tell in the answer who was asked and why others were not.", default=False),
    Parameter("routing", ROUTING, "Who is asked first: the cheapest, or the fastest for such prompts or on average."),
    Parameter("store", BOOLEAN, "Keep the answer for later.", gap="answers are not kept", neutral=(False,)),
)
_LIMIT = "Most tokens per choice; absent: min(context − prompt, 16384)."
_OF_CHAT: tuple[Parameter, ...] = (
    Parameter("messages", MESSAGES, "The conversation so far.", _C, is_required=True),
    Parameter("max_tokens", integer(1, MAX_TOKENS), _LIMIT, _C),
    Parameter("max_completion_tokens", integer(1, MAX_TOKENS), "The newer name of max_tokens.", _C),
    Parameter("logprobs", BOOLEAN, "Return the answer's log-probabilities.", _C, default=False, needs="logprobs"),
    Parameter("top_logprobs", integer(0, 20), "Also of so many likeliest tokens.", _C, default=0, needs="logprobs"),
    Parameter("chat_template_kwargs", TEMPLATE_KWARGS, "More variables for the chat template.", _C),
    Parameter("continue_final_message", BOOLEAN, "Go on where the last message ends.", _C, default=False),
    Parameter("add_generation_prompt", BOOLEAN, "Open the assistant's turn.", _C, default=True),
    Parameter("tools", TOOLS, "Functions the model may call.", _C, needs="tools"),
    Parameter("tool_choice", TOOL_CHOICE, "Whether and which to call.", _C, default="auto", needs="tools"),
    Parameter("parallel_tool_calls", BOOLEAN, "Several calls at once.", _C, default=True, needs="tools"),
    Parameter("functions", FUNCTIONS, "The older form of tools, one call at a time.", _C, needs="tools"),
    Parameter("function_call", FUNCTION_CALL, "Which of functions to call.", _C, default="auto", needs="tools"),
    Parameter("documents", _DOCUMENTS, "Texts for chat templates that take them.", _C, needs="documents"),
    Parameter("include_reasoning", BOOLEAN, "Show what the model thinks.", _C, default=True, needs="reasoning"),
    Parameter("reasoning_effort", _EFFORTS, "How long to think; for the chat template.", _C, needs="reasoning"),
    Parameter("modalities", _STRINGS, "Kinds of output.", _C, gap="answers are text only", neutral=(("text",),)),
)
_OF_COMPLETIONS: tuple[Parameter, ...] = (
    Parameter("prompt", PROMPT, "The text to continue; several prompts give n choices each.", _P, is_required=True),
    Parameter("max_tokens", integer(0, MAX_TOKENS), f"{_LIMIT} 0 only with echo.", _P),
    Parameter("max_completion_tokens", integer(0, MAX_TOKENS), "The newer name of max_tokens.", _P),
    Parameter("logprobs", integer(0, 5), "Those of the tokens, and of so many likeliest ones.", _P, needs="logprobs"),
    Parameter("echo", BOOLEAN, "Begin with the prompt; with logprobs also the prompt's.", _P, default=False),
    Parameter("suffix", _TEXT, "What follows.", _P, gap="no model here fills in the middle", neutral=("",)),
)


def parameters(operation: Operation, max_choices: int) -> dict[str, Parameter]:
    """The parameters of one operation by name."""
    most = integer(1, max_choices)
    choices = (
        Parameter("n", most, "Choices per prompt.", default=1),
        Parameter("best_of", most, "Generate so many, return the n likeliest; streamed only where equal to n."),
    )
    own = _OF_CHAT if operation == CHAT else _OF_COMPLETIONS
    return {parameter.name: parameter for parameter in (*own, *choices, *_SHARED)}
