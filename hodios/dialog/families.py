"""Families of chat models: the template each was trained on, for files that carry none or a wrong one, and what else of
a prompt belongs to the family.

A file's own template always knows better; its family then says only how its answers end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Protocol

from msgspec import Struct

from hodios.errors import UnsupportedParameter


class Family(Struct, frozen=True, kw_only=True):
    """How one kind of model is talked to."""

    name: str
    template: str = ""
    """The name of a built-in template."""
    tool_template: str = ""
    """Another one, for requests with tools."""
    format: str = "generic"
    """Of its tool calls, by the name of a `Format`."""
    stop_strings: tuple[str, ...] = ()
    """What ends an answer besides the vocabulary's own ends; what is a control token there ends it anyway."""
    thoughts: tuple[str, ...] = ("think",)
    """Names of the tags around what such models think aloud."""
    markup: tuple[str, ...] = ()
    """What turns are made of; as far as the vocabulary has no tokens for it, it is plain text."""
    tool_role: str = "user"
    """Whose turn a tool's result is, where a template knows no tools."""
    is_spaced: bool = False
    """Whether a space follows markup: the one that SentencePiece puts at the start of a text."""
    merges_turns: bool = False
    """Whether user and assistant took turns in training, so that two turns of one are to be one."""
    reads_results: bool = False
    """Whether the built-in template wants results as JSON values."""


_CHATML = ("<|im_start|>", "<|im_end|>")
_HERMES = ("<tools>", "</tools>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
_INST = ("[INST]", "[/INST]", "<s>", "</s>")
_MISTRAL_TOOLS = (
    *("[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
    *("[TOOL_CONTENT]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
)
_LLAMA3 = (
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|python_tag|>"),
    "<|end_of_text|>",
)
COMMON_TOKENS = (*_CHATML, *_INST, *_LLAMA3, "<|endoftext|>")
"""Control tokens that many vocabularies have, for where one's own is not known."""
_LLAMA_GUARD = (
    *("<BEGIN UNSAFE CONTENT CATEGORIES>", "<END UNSAFE CONTENT CATEGORIES>"),
    *("<BEGIN CONVERSATION>", "<END CONVERSATION>", "\nUser:", "\nAgent:"),
)
_ALPACA = ("### Instruction:", "### Input:", "### Response:")

_ALL = (
    Family(name="chatml", template="chatml", stop_strings=("<|im_end|>",), markup=_CHATML),
    Family(
        name="hermes",
        template="chatml",
        tool_template="hermes",
        format="hermes",
        stop_strings=("<|im_end|>",),
        thoughts=("think", "scratch_pad"),
        markup=(*_CHATML, *_HERMES),
        tool_role="tool",
    ),
    Family(
        name="llama3", template="llama3", format="llama3", stop_strings=("<|eot_id|>", "<|eom_id|>"), markup=_LLAMA3
    ),
    Family(
        name="llama-guard3",
        template="llama-guard3",
        stop_strings=("<|eot_id|>", "<|eom_id|>"),
        markup=(*_LLAMA3, *_LLAMA_GUARD),
        merges_turns=True,
    ),
    Family(
        name="llama2",
        template="llama2",
        stop_strings=("[INST]",),
        markup=(*_INST, "<<SYS>>", "<</SYS>>"),
        merges_turns=True,
    ),
    Family(
        name="mistral-v1",
        template="mistral-v1",
        stop_strings=("[INST]",),
        markup=_INST,
        merges_turns=True,
        is_spaced=True,
    ),
    Family(
        name="mistral-v2",
        template="mistral-v2",
        format="mistral",
        markup=(*_INST, *_MISTRAL_TOOLS),
        merges_turns=True,
        is_spaced=True,
        reads_results=True,
    ),
    Family(
        name="mistral-v3",
        template="mistral-v3",
        format="mistral",
        markup=(*_INST, *_MISTRAL_TOOLS),
        merges_turns=True,
        is_spaced=True,
        reads_results=True,
    ),
    Family(
        name="mistral-v3-tekken",
        template="mistral-v3",
        format="mistral",
        markup=(*_INST, *_MISTRAL_TOOLS),
        merges_turns=True,
        reads_results=True,
    ),
    Family(
        name="mistral-v7",
        template="mistral-v7",
        format="mistral",
        markup=(*_INST, *_MISTRAL_TOOLS),
        merges_turns=True,
        is_spaced=True,
    ),
    Family(
        name="mistral-v7-tekken",
        template="mistral-v7",
        format="mistral",
        markup=(*_INST, *_MISTRAL_TOOLS),
        merges_turns=True,
    ),
    Family(name="alpaca", template="alpaca", stop_strings=("### Instruction:",), markup=_ALPACA, merges_turns=True),
    Family(
        name="vicuna",
        template="vicuna",
        stop_strings=("USER:",),
        markup=("USER:", "ASSISTANT:", "</s>"),
        merges_turns=True,
    ),
    Family(name="other"),
)
FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in _ALL})

_TEMPLATE_SIGNS = (
    ("<BEGIN UNSAFE CONTENT CATEGORIES>", "llama-guard3"),
    ("<|im_start|>", "chatml"),
    ("<|start_header_id|>", "llama3"),
    ("<<SYS>>", "llama2"),
    ("[SYSTEM_PROMPT]", "mistral-v7"),
    ("[AVAILABLE_TOOLS]", "mistral-v3"),
    ("[INST]", "mistral-v1"),
    ("### Instruction:", "alpaca"),
    ("ASSISTANT:", "vicuna"),
)
"""What a template of a family must write, the most telling first."""

_MODEL_NAMES = (
    (r"nous-hermes-llama2|chronos-hermes|chronos-13b|alpaca", "alpaca"),
    (r"hermes-2-pro|hermes-2-theta|hermes-3|hermes-4", "hermes"),
    (r"hermes-2\b|openhermes|nous-hermes-2", "chatml"),
    (r"vicuna", "vicuna"),
    (r"llama-?guard-?3", "llama-guard3"),
    (r"llama-?3.*instruct", "llama3"),
    (r"llama-?2.*chat", "llama2"),
    (r"mistral-7b-instruct-v0\.[12]|mixtral-8x7b-instruct", "mistral-v1"),
    (r"mistral-7b-instruct|mixtral-8x22b-instruct", "mistral-v3"),
    (r"nemo-instruct", "mistral-v3-tekken"),
)
"""Published models whose files may carry no template."""


class Tokens(Protocol):
    """What is asked of a tokenizer."""

    is_sentence_piece: bool

    def has_token(self, text: str) -> bool: ...


def find_family(name: str) -> Family:
    """Raises `UnsupportedParameter` for a name that is none."""
    family = FAMILIES.get(name)
    if family is None:
        raise UnsupportedParameter(f"there is no prompt family {name!r}; there are {', '.join(FAMILIES)}")
    return family


def family_of_template(source: str) -> Family:
    """The family whose markup a template writes, `other` where it is none's."""
    name = next((name for sign, name in _TEMPLATE_SIGNS if sign in source), "other")
    if name == "chatml" and "<tool_call>" in source:
        name = "hermes"
    return FAMILIES[name]


def guess_family(tokens: Tokens, model: str) -> Family:
    """For a file without a template: by the model's name, else by the vocabulary.

    Raises `UnsupportedParameter` when there is nothing to go by, as with base models.
    """
    for pattern, name in _MODEL_NAMES:
        if re.search(pattern, model, re.IGNORECASE):
            return FAMILIES[name]
    if tokens.has_token("<|im_start|>"):
        return FAMILIES["hermes" if tokens.has_token("<tool_call>") else "chatml"]
    if tokens.is_sentence_piece:
        return FAMILIES["mistral-v3" if tokens.has_token("[INST]") else "llama2"]
    raise UnsupportedParameter(
        "the model's file has no chat template, so it cannot chat; use /v1/completions", param="messages"
    )


def built_in_template(name: str) -> str:
    """The source of one of this package's own templates."""
    return resources.files("hodios.dialog").joinpath(f"templates/{name}.jinja").read_text(encoding="utf-8")
