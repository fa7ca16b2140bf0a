"""A model of another server as it is served here: its row of data, read once. Refuses rows that make no sense."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence

from msgspec import Struct

from hodios.dialog.families import FAMILIES, Family, guess_family
from hodios.dialog.formats.base import Format
from hodios.dialog.formats.registry import FORMATS
from hodios.errors import ConfigError, UnsupportedParameter
from hodios.remotes import Prefill, Quirk, Remote, RemoteFeature, RemoteModel
from hodios.types import Feature, ModelCard, Sampling

_BY_FEATURE = frozenset(("logprobs", "documents"))
"""Features that are parameters too."""
ALWAYS_SENT = ("temperature", "top_p")
"""Servers differ in their defaults of these."""
_ALWAYS = frozenset(
    (
        *("model", "messages", "prompt", "stream", "stream_options", "strict", "content_filter", "user"),
        *("provider", "models", "routing", "prompt_cache_key", "n", "stop", "include_stop_str_in_output"),
        *("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "response_format"),
        "include_reasoning",
    )
)
"""Parameters that are honoured whatever the server can: what it does not know is done here, or asked for in words."""
_OF_TEMPLATES = ("chat_template_kwargs", "continue_final_message", "add_generation_prompt")
"""Parameters that whoever writes the prompt honours."""


class Served(Struct, frozen=True, kw_only=True):
    """One model."""

    card: ModelCard
    upstream_id: str
    features: frozenset[RemoteFeature]
    parameters: frozenset[str]
    """The names of the parameters that the server honours."""
    family: Family
    format: Format
    """How calls are asked for and read where the server knows no tools."""
    is_raw: bool = False
    """Whether prompts are rendered here and sent as text."""
    has_completions: bool = False
    """Whether prompts can be sent as text though chats are."""
    prefill: Prefill = ""
    is_streaming: bool = True
    quirks: frozenset[Quirk] = frozenset()
    always: tuple[str, ...] = ALWAYS_SENT
    """Parameters of sampling that are sent even where the client left them alone: there the server has another
    default."""

    def honours(self, parameter: str) -> bool:
        return parameter in self.parameters


def serve(remote: Remote, row: RemoteModel) -> Served:
    """Raises ConfigError."""
    parameters = remote.parameters if row.parameters is None else row.parameters
    features = frozenset(row.features)
    family = _family(remote, row)
    is_raw = (row.dialect or remote.dialect) == "completions"
    return Served(
        card=_card(remote, row, frozenset(parameters), is_raw=is_raw),
        upstream_id=row.upstream_id or row.id,
        # A server that is sent raw text sees no tools and no images.
        features=features - {"tools", "vision"} if is_raw else features,
        parameters=frozenset(parameters) | (features & _BY_FEATURE),
        family=family,
        format=FORMATS[family.format],
        is_raw=is_raw,
        has_completions=remote.has_completions,
        prefill=remote.prefill,
        is_streaming=remote.is_streaming,
        quirks=frozenset(remote.quirks),
        always=(*ALWAYS_SENT, *_with_own_default(remote, parameters)),
    )


def _with_own_default(remote: Remote, parameters: Sequence[str]) -> list[str]:
    """What the server would do by itself though nobody asked for it."""
    neutral = Sampling()
    return [
        name
        for name, accepted in remote.ranges.items()
        if name in parameters and name not in ALWAYS_SENT
        if accepted.default not in (None, getattr(neutral, name, accepted.default))
    ]


class _NoVocabulary:
    is_sentence_piece = False

    def has_token(self, text: str) -> bool:
        return False


def _family(remote: Remote, row: RemoteModel) -> Family:
    if row.family:
        family = FAMILIES.get(row.family)
        if family is None:
            nearest = difflib.get_close_matches(row.family, FAMILIES, n=1, cutoff=0.0)[0]
            raise ConfigError(
                f"remote.{remote.name}: {row.id} has the family {row.family!r}, which there is not. "
                f"Did you mean {nearest}? There are {', '.join(FAMILIES)}."
            )
        return family
    try:
        return guess_family(_NoVocabulary(), row.id)
    except UnsupportedParameter:
        return FAMILIES["other"]


def _card(remote: Remote, row: RemoteModel, parameters: frozenset[str], *, is_raw: bool) -> ModelCard:
    author, _, name = row.id.rpartition("/")
    features: list[Feature] = ["tools", "json_schema", "reasoning"]
    features += [feature for feature in ("logprobs", "documents") if feature in row.features]
    return ModelCard(
        id=row.id,
        aliases=row.aliases,
        author=author,
        name=name,
        context_length=row.context_length,
        max_output_tokens=min(row.max_output_tokens or row.context_length, row.context_length),
        provider=remote.name,
        fingerprint=_fingerprint(remote, row),
        modalities=("text", "image") if "vision" in row.features and not is_raw else ("text",),
        features=tuple(features),
        parameters=tuple(sorted(_honoured(remote, row, parameters, is_raw=is_raw))),
        ranges=remote.ranges,
        quantization=row.quantization,
        license=row.license,
        price=row.price,
        collects_data=remote.collects_data,
        continues=row.continues,
        is_replica=row.is_replica,
    )


def _honoured(remote: Remote, row: RemoteModel, parameters: frozenset[str], *, is_raw: bool) -> frozenset[str]:
    """The names of everything that a client may give and have."""
    names = {*_ALWAYS, *parameters, *(_BY_FEATURE & set(row.features)), *(_OF_TEMPLATES if is_raw else ())}
    if parameters & {"max_tokens", "max_completion_tokens"}:
        names |= {"max_tokens", "max_completion_tokens"}
    if "logprobs" in names and "has_no_top_logprobs" not in remote.quirks:
        names |= {"top_logprobs"}
    if "chat_template_kwargs" in names:
        names |= {"reasoning_effort"}
    if "vision" in row.features:
        names |= {"data"}
    return frozenset(names)


def _fingerprint(remote: Remote, row: RemoteModel) -> str:
    """Of what is asked, not of what answers: only the server knows its weights."""
    parts = (remote.name, remote.base_url, row.upstream_id or row.id)
    return f"fp_{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"
