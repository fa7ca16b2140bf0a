"""A GGUF file's tokenizer metadata, read into what the tokenizer needs: special ids, token kinds, and the
`tokenizers` JSON. Refuses vocabularies that are neither byte-level BPE nor SentencePiece BPE.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from hodios.dialog.pretokenizers import PreTokenizer, find_pre_tokenizer
from hodios.errors import UnsupportedModel

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
SPACE = "▁"
"""What SentencePiece writes for a space (U+2581)."""

_END_NAMES = frozenset(
    (
        *("</s>", "<eos>", "[EOS]", "<|end_of_text|>", "<|endoftext|>", "<｜end▁of▁sentence｜>", "[e~["),
        *("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<EOT>", "_<EOT>", "[EOT]", "<end_of_turn>", "<turn|>"),
        *("<end_of_utterance>", "<|return|>", "<|call|>", "<|calls|>", "<|flush|>", "<|tool_response>"),
        *("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
        *("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>"),
    )
)
"""Control tokens that end a generation whatever the model, by their text: ends of turns and texts, and what code models
write when they pass from one file to the next."""

_END_KEYS = ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
_NAMED_KEYS = ("bos", "eos", "unknown", "padding", "seperator", "cls", "mask")
_TEMPLATE_NAMES = {"unknown": "unk_token", "padding": "pad_token", "seperator": "sep_token"}


class Vocabulary(Struct, frozen=True, kw_only=True):
    """What a tokenizer knows beside the `tokenizers` JSON; token ids throughout."""

    kind: Literal["bpe", "spm"]
    size: int
    bos_id: int | None
    eos_id: int | None
    end_ids: frozenset[int]
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    control_ids: frozenset[int]
    """Tokens that are no text: control and unknown ones."""
    literal_ids: frozenset[int]
    """Tokens whose text stands for itself, outside the vocabulary's own spelling of bytes and spaces."""
    byte_ids: frozenset[int]
    special_tokens: dict[str, str]
    """`bos_token`, `eos_token`, `unk_token`, … as chat templates name them."""
    chat_templates: dict[str, str]


def read_vocabulary(metadata: Mapping[str, object]) -> tuple[Vocabulary, dict[str, Any]]:
    """The vocabulary of a GGUF file and its `tokenizers` JSON (as objects).

    Raises `UnsupportedModel` for a kind of tokenizer, or a pre-tokenizer, that is not supported, and for metadata
    that contradicts itself.
    """
    model = metadata.get("tokenizer.ggml.model")
    if model not in ("gpt2", "llama"):
        raise UnsupportedModel(
            f"the file's tokenizer {model!r} (tokenizer.ggml.model) is not supported;"
            " supported are 'gpt2' (byte-level BPE) and 'llama' (SentencePiece BPE)"
        )
    texts = _unique_texts(_list(metadata, "tokens"))
    types = _token_types(metadata, texts)
    if model == "gpt2":
        family = find_pre_tokenizer(str(metadata.get("tokenizer.ggml.pre") or "default"))
        vocabulary = _vocabulary(metadata, texts, types, "bpe", add_bos=family.add_bos)
        backend = _byte_level(family, texts, _list(metadata, "merges"))
    else:
        vocabulary = _vocabulary(metadata, texts, types, "spm", add_bos=True)
        backend = _sentence_piece(texts, types, _list(metadata, "scores"), prefix=vocabulary.add_space_prefix)
    backend["added_tokens"] = _added_tokens(texts, types)
    return vocabulary, backend


def _list(metadata: Mapping[str, object], name: str) -> list[Any]:
    values = metadata.get(f"tokenizer.ggml.{name}")
    if not isinstance(values, Iterable) or isinstance(values, str | bytes):
        raise UnsupportedModel(f"the file has no list tokenizer.ggml.{name}, so its text cannot be tokenized")
    return list(values)


def _unique_texts(tokens: Sequence[str]) -> list[str]:
    """Every id needs a text of its own: an empty or repeated one (a hole in the vocabulary) gets a placeholder."""
    if not tokens:
        raise UnsupportedModel("the file's vocabulary (tokenizer.ggml.tokens) is empty")
    seen: set[str] = set()
    texts = []
    for token_id, text in enumerate(tokens):
        if not text or text in seen:
            text = f"[HOLE{token_id}]"
        seen.add(text)
        texts.append(text)
    return texts


def _token_types(metadata: Mapping[str, object], texts: Sequence[str]) -> list[int]:
    if metadata.get("tokenizer.ggml.token_type") is not None:
        types = [int(kind) for kind in _list(metadata, "token_type")]
        if len(types) != len(texts):
            raise UnsupportedModel(f"the file names {len(texts)} tokens but {len(types)} token types")
    else:
        # Files older than token types: what is named as special, or looks like an end, must not be typed in by users.
        types = [USER_DEFINED if text in _END_NAMES else NORMAL for text in texts]
        for name in _NAMED_KEYS:
            token_id = _special_id(metadata, name, len(texts))
            if token_id is not None:
                types[token_id] = CONTROL
    # Converters often take ends for text or for user-defined tokens; as such they would show in answers.
    types = [
        CONTROL if kind == USER_DEFINED and text in _END_NAMES else kind
        for kind, text in zip(types, texts, strict=True)
    ]
    for name in ("eos", "eot", "eom"):
        token_id = _special_id(metadata, name, len(texts))
        if token_id is not None:
            types[token_id] = CONTROL
    return types


def _special_id(metadata: Mapping[str, object], name: str, size: int) -> int | None:
    token_id = metadata.get(f"tokenizer.ggml.{name}_token_id")
    if token_id is None:
        return None
    # The file says that it is a number; other things raise here.
    number = int(token_id)  # type: ignore[call-overload]
    return number if 0 <= number < size else None


def _vocabulary(
    metadata: Mapping[str, object],
    texts: Sequence[str],
    types: Sequence[int],
    kind: Literal["bpe", "spm"],
    *,
    add_bos: bool,
) -> Vocabulary:
    named = {name: _special_id(metadata, name, len(texts)) for name in (*_NAMED_KEYS, *_END_KEYS)}
    if kind == "spm":
        for name, default in (("bos", 1), ("eos", 2), ("unknown", 0)):
            if f"tokenizer.ggml.{name}_token_id" not in metadata and default < len(texts):
                named[name] = default
    ends = {token_id for name in _END_KEYS if (token_id := named[name]) is not None}
    ends |= {token_id for token_id, text in enumerate(texts) if text in _END_NAMES and types[token_id] == CONTROL}
    add_space_prefix = kind == "spm" and bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
    return Vocabulary(
        kind=kind,
        size=len(texts),
        bos_id=named["bos"],
        eos_id=named["eos"],
        end_ids=frozenset(_without_open_ends(ends, texts)),
        add_bos=bool(metadata.get("tokenizer.ggml.add_bos_token", add_bos)) and named["bos"] is not None,
        add_eos=bool(metadata.get("tokenizer.ggml.add_eos_token", False)) and named["eos"] is not None,
        add_space_prefix=add_space_prefix,
        control_ids=_ids_of(types, CONTROL, UNKNOWN),
        literal_ids=_ids_of(types, CONTROL, UNKNOWN, USER_DEFINED, UNUSED),
        byte_ids=_ids_of(types, BYTE),
        special_tokens={
            _TEMPLATE_NAMES.get(name, f"{name}_token"): texts[token_id]
            for name in _NAMED_KEYS
            if (token_id := named[name]) is not None
        },
        chat_templates=_chat_templates(metadata),
    )


def _without_open_ends(ends: set[int], texts: Sequence[str]) -> set[int]:
    """Models that end with `<|return|>` or `<|flush|>`, and with `<|call|>`, close every inner block with `<|end|>`."""
    names = {texts[token_id] for token_id in ends}
    if ({"<|return|>", "<|flush|>"} & names) and ({"<|call|>", "<|calls|>"} & names):
        return {token_id for token_id in ends if texts[token_id] != "<|end|>"}
    return ends


def _ids_of(types: Sequence[int], *kinds: int) -> frozenset[int]:
    return frozenset(token_id for token_id, kind in enumerate(types) if kind in kinds)


def _chat_templates(metadata: Mapping[str, object]) -> dict[str, str]:
    prefix = "tokenizer.chat_template"
    found = {}
    for key, value in metadata.items():
        if isinstance(value, str) and (key == prefix or key.startswith(f"{prefix}.")):
            found[key[len(prefix) + 1 :] or "default"] = value
    return found


def _added_tokens(texts: Sequence[str], types: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {
            "id": token_id,
            "content": texts[token_id],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind != USER_DEFINED,
        }
        for token_id, kind in enumerate(types)
        if kind in (CONTROL, UNKNOWN, USER_DEFINED)
    ]


def _backend(model: dict[str, Any], normalizer: object, pre_tokenizer: object, decoder: object) -> dict[str, Any]:
    defaults = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": defaults | model,
    }


def _byte_level(family: PreTokenizer, texts: Sequence[str], merges: Sequence[str]) -> dict[str, Any]:
    vocab = {text: token_id for token_id, text in enumerate(texts)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in family.patterns
    ]
    model = {
        "vocab": vocab,
        "merges": [_merge_pair(merge, vocab) for merge in merges],
        "ignore_merges": family.ignore_merges,
    }
    return _backend(model, None, {"type": "Sequence", "pretokenizers": [*splits, byte_level]}, byte_level)


def _merge_pair(merge: str, vocab: Mapping[str, int]) -> tuple[str, str]:
    """`"left right"` → both; the first character never separates, since the left side is not empty."""
    left, separator, right = merge[1:].partition(" ")
    left = merge[:1] + left
    if not separator or not (left in vocab and right in vocab and left + right in vocab):
        raise UnsupportedModel(f"the merge {merge!r} (tokenizer.ggml.merges) does not fit the file's own vocabulary")
    return left, right


def _sentence_piece(
    texts: Sequence[str], types: Sequence[int], scores: Sequence[float], *, prefix: bool
) -> dict[str, Any]:
    if len(scores) != len(texts):
        raise UnsupportedModel(f"the file names {len(texts)} tokens but {len(scores)} scores")
    vocab = {text: token_id for token_id, text in enumerate(texts)}
    missing = [byte for byte in range(256) if vocab.get(f"<0x{byte:02X}>") is None]
    if missing:
        raise UnsupportedModel(f"the file's SentencePiece vocabulary has no token for {len(missing)} of the 256 bytes")
    mergeable = {
        text: token_id for text, token_id in vocab.items() if types[token_id] in (NORMAL, USER_DEFINED, UNUSED)
    }
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    steps = [{"type": "Prepend", "prepend": SPACE}, replace] if prefix else [replace]
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    model = {"vocab": vocab, "merges": _merges_by_score(mergeable, scores), "byte_fallback": True, "fuse_unk": True}
    return _backend(
        model,
        {"type": "Sequence", "normalizers": steps},
        _word_split(mergeable),
        {"type": "Sequence", "decoders": decoders},
    )


def _merges_by_score(mergeable: Mapping[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """SentencePiece joins the pair whose whole has the best score; as a list of merges that is every way to cut every
    token into two, in the order of the tokens' scores."""
    merges = []
    for text in sorted(mergeable, key=lambda text: -scores[mergeable[text]]):
        cuts = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        whole = [cut for cut in cuts if cut[0] in mergeable and cut[1] in mergeable]
        merges.extend(sorted(whole, key=lambda cut: (mergeable[cut[0]], mergeable[cut[1]])))
    return merges


def _word_split(mergeable: Mapping[str, int]) -> dict[str, Any] | None:
    """Cutting before a space changes nothing where no token reaches over one, and makes words short enough to cache."""
    if any(SPACE in text.lstrip(SPACE) for text in mergeable):
        return None
    pattern = {"Regex": f"{SPACE}*[^{SPACE}]+|{SPACE}+"}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
