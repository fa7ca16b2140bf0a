"""Entries of the lists of servers that one runs oneself, as offers. Raises ValueError for what makes no sense. Sans-IO.

The length that a server was started with counts, rather than the one that its model was trained for.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from hodios.providers.catalog_rows import Offer
from hodios.providers.listing_entries import Around, Ask, Entry, offer_of, with_features
from hodios.providers.listing_values import label, name, table, tokens, words
from hodios.remotes import RemoteFeature

MOST_FURTHER = 200
"""Models that are asked about one by one."""
PROPS = Ask("/props", is_at_root=True)
_RUNNING = Ask("/api/ps", is_at_root=True)


def vllm(entry: Entry, around: Around) -> Offer | None:
    """An adapter has the length of the model that it belongs to."""
    length = tokens(entry.get("max_model_len"))
    parent = entry.get("parent")
    if length is None and isinstance(parent, str) and parent in around.by_id:
        length = tokens(around.by_id[parent].get("max_model_len"))
    return offer_of(name(entry.get("id")), (length,))


def llama_server(entry: Entry, around: Around) -> Offer | None:
    """What a request gets is less than what the model was trained for."""
    meta = table(entry.get("meta"))
    props = table(around.answers.get(PROPS)) if len(around.entries) == 1 else {}
    served = tokens(meta.get("n_ctx")) or tokens(table(props.get("default_generation_settings")).get("n_ctx"))
    offer = offer_of(name(entry.get("id")), (served or tokens(meta.get("n_ctx_train")),))
    inputs = words(table(entry.get("architecture")).get("input_modalities"))
    sees = "image" in inputs if inputs is not None else table(props.get("modalities")).get("vision")
    if sees is None:
        return offer
    lacking: set[RemoteFeature] = set() if sees else {"vision"}
    if table(props.get("chat_template_caps")).get("supports_tools") is False:
        # It would leave them out of the prompt without a word.
        lacking.add("tools")
    return with_features(offer, around, lacking)


def ollama(entry: Entry, around: Around) -> Offer | None:
    """`/api/tags`, with what `/api/show` and `/api/ps` say of the model. A longer prompt is cut without a word, so the
    length that is configured or loaded counts."""
    id = name(entry.get("model") or entry.get("name"))
    told = table(around.answers.get(Ask("/api/show", is_at_root=True, model=id)))
    abilities = words(told.get("capabilities"))
    if abilities is not None and "completion" not in abilities:
        return None
    info = table(told.get("model_info"))
    trained = tokens(info.get(f"{info.get('general.architecture')}.context_length"))
    loaded = next((row for row in _rows(around.answers.get(_RUNNING)) if row.get("name") == id), {})
    served = _num_ctx(told.get("parameters")) or tokens(loaded.get("context_length"))
    quantization = label(table(entry.get("details")).get("quantization_level"))
    offer = structs.replace(offer_of(id, (served, trained)), quantization=quantization)
    if abilities is None:
        return offer
    pairs: tuple[tuple[str, RemoteFeature], ...] = (("tools", "tools"), ("vision", "vision"))
    return with_features(offer, around, {feature for ability, feature in pairs if ability not in abilities})


def _num_ctx(parameters: object) -> int | None:
    """Out of lines like `num_ctx    8192`."""
    for line in parameters.splitlines() if isinstance(parameters, str) else ():
        parts = line.split()
        if len(parts) == 2 and parts[0] == "num_ctx":
            return tokens(parts[1])
    return None


def _rows(document: object) -> list[Entry]:
    found = document.get("models") if isinstance(document, dict) else None
    return [row for row in found[:MOST_FURTHER] if isinstance(row, dict)] if isinstance(found, list) else []


def ollama_shows(entries: Sequence[object]) -> tuple[Ask, ...]:
    found = [entry.get("model") or entry.get("name") for entry in entries if isinstance(entry, dict)]
    ids = dict.fromkeys(id for id in found if isinstance(id, str) and id)
    return (_RUNNING, *(Ask("/api/show", is_at_root=True, model=id) for id in [*ids][:MOST_FURTHER]))


def lm_studio(entry: Entry, around: Around) -> Offer | None:
    id = name(entry.get("id"))
    if entry.get("type") not in (None, "llm", "vlm"):
        return None
    loaded, most = tokens(entry.get("loaded_context_length")), tokens(entry.get("max_context_length"))
    offer = structs.replace(offer_of(id, (loaded, most)), quantization=label(entry.get("quantization")))
    abilities = words(entry.get("capabilities"))
    lacking: set[RemoteFeature] = set() if entry.get("type") == "vlm" else {"vision"}
    if abilities is not None and "tool_use" not in abilities:
        lacking.add("tools")
    return with_features(offer, around, lacking)


def hodios(entry: Entry, around: Around) -> Offer | None:
    """Tools and forms it has with every model, natively or in words of its own."""
    context, most = tokens(entry.get("max_model_len")), tokens(entry.get("max_output_tokens"))
    offer = structs.replace(
        offer_of(name(entry.get("id")), (context,), most), quantization=label(entry.get("quantization"))
    )
    lacking: set[RemoteFeature] = set()
    if "image" not in (words(entry.get("input_modalities")) or ()):
        lacking.add("vision")
    if "logprobs" not in (words(entry.get("supported_parameters")) or ()):
        lacking.add("logprobs")
    return with_features(offer, around, lacking)
