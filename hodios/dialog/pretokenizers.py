"""How byte-level BPE vocabularies cut text into words before they merge, by the names that GGUF files use.

Knows regular expressions only; which of them a vocabulary needs is the file's `tokenizer.ggml.pre`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hodios.errors import UnsupportedModel

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED_WORD = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+{suffix}"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*{suffix}"
)

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_TEKKEN = rf"{_CASED_WORD.replace('{suffix}', '')}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
_GPT4O = (
    rf"{_CASED_WORD.replace('{suffix}', _CONTRACTIONS + '?')}|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_SEED_CODER = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}"
_DIGIT = r"\p{N}"
_IDEOGRAPHS = r"[一-龥ࠀ-一가-퟿]+"
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
_CASED_LETTERS = (
    "41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A 38C 38E-3A1 "
    "3A3-3F5 3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A "
    "1E00-1F15 1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 "
    "1FC6-1FCC 1FD0-1FD3 1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 "
    "212A-212D 212F-2134 2139 213C-213F 2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D "
    "A680-A69B A722-A76F A771-A787 A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F "
    "104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2 118A0-118DF 1E900-1E943"
)
"""Code points, in hexadecimal, that DeepSeek LLM takes for letters: the cased ones of an older Unicode."""


def _character_class(ranges: str) -> str:
    spans = (span.split("-") for span in ranges.split())
    return "[" + "".join("-".join(rf"\x{{{code}}}" for code in span) for span in spans) + "]"


_DEEPSEEK_LLM = (
    r"[\r\n]",
    rf"\s?{_character_class(_CASED_LETTERS)}+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    _IDEOGRAPHS,
    r"\p{N}+",
)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _IDEOGRAPHS, _DIGIT)
_DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|"""
    + _SPACES,
)
_FALCON = (r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]")
_DEFAULT = (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")


@dataclass(frozen=True)
class PreTokenizer:
    """`patterns` are applied one after the other, each inside the pieces that the ones before it left."""

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    """A word that is a token as a whole is that token, whatever its merges say."""
    add_bos: bool = False
    """What the family does where the file does not say `add_bos_token`."""


def _table() -> Mapping[str, PreTokenizer]:
    llama3 = PreTokenizer((_LLAMA3,), ignore_merges=True, add_bos=True)
    families: dict[PreTokenizer, str] = {
        llama3: "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
        PreTokenizer((_LLAMA3,)): "dbrx smaug-bpe chatglm-bpe",
        PreTokenizer((_LLAMA3,), ignore_merges=True): "glm4 glm5",
        PreTokenizer((_QWEN2,)): "qwen2 deepseek-r1-qwen stablelm2 hunyuan megrez solar-open grok-2 kormo",
        PreTokenizer((_QWEN35,)): "qwen35",
        PreTokenizer((_GPT2,)): "gpt-2 phi-2 mpt olmo jais exaone4 gigachat mellum a.x-4.0 trillion granite-docling",
        PreTokenizer((_DIGIT, _GPT2)): "smollm starcoder refact command-r codeshell exaone mellum2",
        PreTokenizer((_DIGIT, _GPT2), add_bos=True): "minerva-7b",
        PreTokenizer((_TEKKEN,), ignore_merges=True, add_bos=True): "tekken",
        PreTokenizer((_GPT4O,)): "gpt-4o llama4 kanana2 talkie minimax-m2",
        PreTokenizer((_SEED_CODER,)): "seed-coder",
        PreTokenizer(_DEEPSEEK_LLM): "deepseek-llm",
        PreTokenizer(_DEEPSEEK_CODER): "deepseek-coder",
        PreTokenizer(_DEEPSEEK_V3): "deepseek-v3 hunyuan-dense joyai-llm",
        PreTokenizer(_FALCON): "falcon",
        PreTokenizer((_BLOOM,)): "bloom poro-chat gpt3-finnish",
        PreTokenizer((_BLOOM, _DIGIT)): "viking",
        PreTokenizer(_DEFAULT): "default",
    }
    return MappingProxyType({name: family for family, names in families.items() for name in names.split()})


PRE_TOKENIZERS: Mapping[str, PreTokenizer] = _table()


def find_pre_tokenizer(name: str) -> PreTokenizer:
    """The pre-tokenizer that a GGUF file calls `name`; raises `UnsupportedModel` for one that is not known."""
    try:
        return PRE_TOKENIZERS[name]
    except KeyError:
        raise UnsupportedModel(
            f"the file's pre-tokenizer {name!r} (tokenizer.ggml.pre) is not supported;"
            f" supported are {', '.join(sorted(PRE_TOKENIZERS))}"
        ) from None
