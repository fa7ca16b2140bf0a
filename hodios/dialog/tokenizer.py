"""Text into token ids and back, for one model. Built from GGUF metadata or from the file that `save` wrote.

Knows no messages and no templates beyond carrying them; refuses vocabularies that `vocabulary` refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from hodios.dialog.detokenizer import Detokenizer
from hodios.dialog.guard import Rendered, pattern_of
from hodios.dialog.vocabulary import SPACE, Vocabulary, read_vocabulary
from hodios.errors import InvalidRequest, UnsupportedModel

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

_FORMAT = 1


class _Saved(msgspec.Struct, frozen=True):
    format: int
    vocabulary: Vocabulary
    backend: msgspec.Raw
    """The `tokenizers` JSON, kept as bytes so that only its own library parses it."""


class Tokenizer:
    """Immutable after construction, and safe to share between threads."""

    def __init__(self, vocabulary: Vocabulary, backend_json: bytes) -> None:
        # Imported here because who serves no model of this machine needs no tokenizer, and the library is large.
        from tokenizers import Tokenizer as Backend

        self._vocabulary = vocabulary
        self._backend = Backend.from_buffer(backend_json)
        added = {id: token.content for id, token in self._backend.get_added_tokens_decoder().items()}
        self.markup = frozenset(text for id, text in added.items() if id in vocabulary.control_ids or _is_tag(text))
        """Tokens that prompts are built from, as text: control tokens, and user-defined ones with the form of tags."""
        self._markup_pattern = re.compile(pattern_of(self.markup))
        self._plain = _without(self._backend, lambda id: id in vocabulary.control_ids)
        self._bare = _without(self._backend, lambda id: added[id] in self.markup)
        self._bytes: list[bytes | None] = [None] * vocabulary.size
        self.vocab_size = vocabulary.size
        self.bos_id = vocabulary.bos_id
        self.eos_id = vocabulary.eos_id
        self.eos_ids = vocabulary.end_ids
        self.add_bos = vocabulary.add_bos
        self.chat_templates = vocabulary.chat_templates
        self.special_tokens = vocabulary.special_tokens
        self.is_sentence_piece = vocabulary.kind == "spm"
        self.adds_space = vocabulary.add_space_prefix
        """Whether a space is put before each text that is encoded."""

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, object]) -> Self:
        """Raises `UnsupportedModel` with what is unsupported, and what is supported."""
        vocabulary, backend = read_vocabulary(metadata)
        return cls(vocabulary, msgspec.json.encode(backend))

    def save(self, path: Path) -> None:
        """Writes everything into one JSON file, whole or not at all."""
        backend = msgspec.Raw(self.to_json().encode())
        partial = path.with_name(f"{path.name}.partial")
        partial.write_bytes(msgspec.json.encode(_Saved(_FORMAT, self._vocabulary, backend)))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` wrote; raises `UnsupportedModel` for anything else, and where nothing is."""
        try:
            saved = msgspec.json.decode(path.read_bytes(), type=_Saved)
        except OSError as error:
            raise UnsupportedModel(f"{path} cannot be read ({error.strerror}); start again to have it made") from error
        except msgspec.MsgspecError as error:
            raise UnsupportedModel(f"{path} is no saved tokenizer ({error}); delete it to have it made anew") from error
        if saved.format != _FORMAT:
            raise UnsupportedModel(f"{path} has format {saved.format}, not {_FORMAT}; delete it to have it made anew")
        return cls(saved.vocabulary, bytes(saved.backend))

    def to_json(self) -> str:
        """The JSON of the `tokenizers` library."""
        return self._backend.to_str()

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """The token ids of `text`.

        `add_special` adds BOS and EOS where the file says so. Without `parse_special` the text of a control token is
        plain text; user-defined tokens are found either way. Raises `InvalidRequest` for lone surrogates.
        """
        _check_text(text)
        backend = self._backend if parse_special else self._plain
        ids: list[int] = backend.encode(text, add_special_tokens=False).ids
        if add_special and self.add_bos and self.bos_id is not None:
            ids.insert(0, self.bos_id)
        if add_special and self._vocabulary.add_eos and self.eos_id is not None:
            ids.append(self.eos_id)
        return ids

    def encode_rendered(self, rendered: Rendered) -> list[int]:
        """The token ids of a prompt, with exactly one BOS at its start where the file wants one.

        Markup that the template wrote becomes its token; what clients wrote is plain text, whatever it looks like.
        Raises `InvalidRequest` for lone surrogates.
        """
        _check_text(rendered.text)
        ids: list[int] = []
        for text, is_token in rendered.pieces(self._markup_pattern):
            backend = self._backend if is_token else self._bare
            ids += backend.encode(text, add_special_tokens=False).ids
        if self.add_bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
        return ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of a whole sequence from its start; bytes that are no UTF-8 become U+FFFD.

        `decode(encode(text))` is `text` again where it holds no special tokens, no bytes that a byte-level vocabulary
        left out, and no U+2581, which SentencePiece takes for a space.
        """
        detokenizer = self.detokenizer(skip_special=skip_special, at_start=True)
        return detokenizer.push(ids) + detokenizer.flush()

    def detokenizer(
        self, *, skip_special: bool = True, at_start: bool = False, shown: frozenset[int] = frozenset()
    ) -> Detokenizer:
        """Streams text out of tokens; those in `shown` appear even where `skip_special` leaves out others like them.

        `at_start` means that the tokens are a text from its start, so the space that `add_space_prefix` put before the
        first word (SentencePiece only) is dropped; tokens that continue a prompt keep theirs, since it separates them
        from it. Only the first token that is not special counts.
        """
        strip_space = at_start and self._vocabulary.add_space_prefix
        return Detokenizer(self, skip_special=skip_special, strip_space=strip_space, shown=shown)

    def token_bytes(self, id: int) -> bytes:
        """The exact bytes of a token, of a special one its text. Raises `InvalidRequest` for an id out of range."""
        if not 0 <= id < self.vocab_size:
            raise InvalidRequest(f"token id {id!r} is outside the vocabulary, 0 to {self.vocab_size - 1}")
        data = self._bytes[id]
        if data is None:
            data = self._bytes[id] = self._spell(id)
        return data

    def token_text(self, id: int) -> str:
        """A token alone as text, U+FFFD where it is only part of a character."""
        return self.token_bytes(id).decode("utf-8", errors="replace")

    def is_special(self, id: int) -> bool:
        """Whether a token is no text: control and unknown tokens."""
        return id in self._vocabulary.control_ids

    def has_token(self, text: str) -> bool:
        """Whether `text` is one token of the vocabulary, spelled as the file spells it."""
        return self.token_id(text) is not None

    def token_id(self, text: str) -> int | None:
        """The id of the token that the file spells `text`."""
        id: int | None = self._backend.token_to_id(text)
        return id

    def control_id(self, text: str) -> int | None:
        """The id of the control token that is spelled so, if there is one."""
        id: int | None = self._backend.token_to_id(text)
        return id if id is not None and self.is_special(id) else None

    def _spell(self, id: int) -> bytes:
        text = self._backend.id_to_token(id)
        assert text is not None
        if id in self._vocabulary.literal_ids:
            return text.encode()
        if id in self._vocabulary.byte_ids:
            return bytes.fromhex(text[3:5])
        if self._vocabulary.kind == "spm":
            return text.replace(SPACE, " ").encode()
        return b"".join(_byte_of(character) for character in text)


def _without(backend: Backend, is_left_out: Callable[[int], bool]) -> Backend:
    """The same model, for which the text of some of the tokens outside of it is text like any other."""
    plain = type(backend)(backend.model)
    if backend.normalizer is not None:
        plain.normalizer = backend.normalizer
    if backend.pre_tokenizer is not None:
        plain.pre_tokenizer = backend.pre_tokenizer
    added = backend.get_added_tokens_decoder()
    plain.add_tokens([token for id, token in sorted(added.items()) if not is_left_out(id)])
    return plain


def _is_tag(text: str) -> bool:
    """Whether a token has the form of markup, such as `<tool_call>` or `[INST]`, and is no letter or white space."""
    return len(text) > 2 and not (text[0].isalnum() or text[-1].isalnum() or text.isspace())


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        message = f"the text holds a lone surrogate, {text[error.start]!r} at character {error.start}"
        raise InvalidRequest(message) from None


def _byte_of(character: str) -> bytes:
    """Byte-level vocabularies spell printable Latin-1 bytes as themselves and the other 68, in order, as U+0100 and up
    (the encoding of GPT-2). A character outside of it stands for itself."""
    code = ord(character)
    if 0x21 <= code <= 0x7E or 0xA1 <= code <= 0xAC or 0xAE <= code <= 0xFF:
        return bytes([code])
    if 0x100 <= code < 0x121:
        return bytes([code - 0x100])
    if 0x121 <= code < 0x143:
        return bytes([code - 0x121 + 0x7F])
    return b"\xad" if code == 0x143 else character.encode()
