"""Chat messages into the text that a model was trained on, by the jinja template that its file carries.

Renders as Hugging Face's `apply_chat_template` does. Knows no tokens but the names of the special ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, Self

from jinja2.exceptions import TemplateError

from hodios.dialog.growth import MAX_CHARACTERS
from hodios.dialog.messages import normalize
from hodios.dialog.sandbox import ChatEnvironment
from hodios.errors import InvalidRequest, UnsupportedModel, UnsupportedParameter

_CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_LLAMA2 = (
    "{% set state = namespace(system='') %}{% for message in messages %}"
    "{% if message['role'] == 'system' %}"
    "{% set state.system = state.system + '<<SYS>>\\n' + message['content'] + '\\n<</SYS>>\\n\\n' %}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + ' ' + eos_token }}"
    "{% else %}{{ bos_token + '[INST] ' + state.system + message['content'] + ' [/INST]' }}"
    "{% set state.system = '' %}{% endif %}{% endfor %}"
)
_CONTINUE_HERE = "\ue000continue here\ue000 "
"""Marks the end of the message to go on with. Ends with a space to learn whether the template strips messages."""

_FAILURES = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a template can raise: its own errors, and those of the Python that it is compiled to."""


class SpecialTokens(Protocol):
    """What a template asks of a tokenizer."""

    add_bos: bool
    chat_templates: dict[str, str]
    special_tokens: dict[str, str]
    is_sentence_piece: bool

    def has_token(self, text: str) -> bool: ...


class ChatTemplate:
    """A compiled template; immutable, and safe to share between threads."""

    def __init__(
        self,
        source: str,
        *,
        bos_token: str,
        eos_token: str,
        clock: Callable[[], datetime],
        special_tokens: Mapping[str, str] | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `UnsupportedModel` for a template that does not compile. `special_tokens` are further ones, by the
        names that templates use (`unk_token`, …). `clock` tells templates the date, `timer` ends endless ones."""
        self.source = source
        self._clock = clock
        self._timer = timer
        self._special_tokens = {**(special_tokens or {}), "bos_token": bos_token, "eos_token": eos_token}
        environment = ChatEnvironment(clock, timer)
        self._reserved = frozenset(
            {"messages", "tools", "documents", "add_generation_prompt", "continue_final_message"}
            | set(self._special_tokens)
            | set(environment.globals)
        )
        try:
            self._code = environment.compile(source)
        except (*_FAILURES, SyntaxError) as error:
            raise UnsupportedModel(f"the model's chat template does not compile: {error}") from error

    @classmethod
    def for_tokenizer(cls, tokenizer: SpecialTokens, clock: Callable[[], datetime], *, name: str = "default") -> Self:
        """The template `name` of a model's file, or one guessed from the vocabulary where the file has no template.

        Raises `UnsupportedParameter` when there is nothing to go by, as with base models.
        """
        special = tokenizer.special_tokens
        bos_token = special.get("bos_token", "")
        source = tokenizer.chat_templates.get(name, tokenizer.chat_templates.get("default"))
        if source is None:
            source = _guess(tokenizer)
            bos_token = bos_token if tokenizer.add_bos else ""
        eos_token = special.get("eos_token", "")
        return cls(source, bos_token=bos_token, eos_token=eos_token, clock=clock, special_tokens=special)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt, BOS included where the template writes it, so encode it without adding special tokens.

        `kwargs` are the client's own variables. With `continue_final_message` the text ends where the last message's
        content ends. Raises `InvalidRequest`, with the template's own words where it refuses the messages.
        """
        chat = normalize(messages)
        shadowed = sorted(self._reserved & set(kwargs or ()))
        if shadowed:
            raise InvalidRequest(
                f"chat_template_kwargs must not set {', '.join(shadowed)}", param="chat_template_kwargs"
            )
        variables = {
            **self._special_tokens,
            **(kwargs or {}),
            "tools": tools,
            "documents": documents,
            "add_generation_prompt": add_generation_prompt,
        }
        if not continue_final_message:
            return self._run({**variables, "messages": chat})
        if add_generation_prompt:
            raise InvalidRequest(
                "continue_final_message goes on with the last message, so add_generation_prompt must be false",
                param="continue_final_message",
            )
        return self._run_open({**variables, "messages": chat}, messages[-1].get("content"))

    def _run_open(self, variables: dict[str, Any], content: object) -> str:
        """The rendering up to the end of the last message's content."""
        if not content:
            raise InvalidRequest(
                "continue_final_message needs text as the last message's content", param="continue_final_message"
            )
        *before, last = variables["messages"]
        marked = {**last, "content": last["content"] + _CONTINUE_HERE}
        text = self._run({**variables, "messages": [*before, marked]})
        head, mark, tail = text.rpartition(_CONTINUE_HERE.rstrip())
        if not mark:
            raise InvalidRequest(
                "the model's chat template does not show the last message, so it cannot be continued",
                param="continue_final_message",
            )
        return head if tail.startswith(" ") else head.rstrip()

    def _run(self, variables: dict[str, Any]) -> str:
        pieces = []
        length = 0
        try:
            for piece in ChatEnvironment(self._clock, self._timer).bind(self._code).generate(variables):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_CHARACTERS:
                    raise TemplateError(f"the chat template writes more than {MAX_CHARACTERS} characters")
        except _FAILURES as error:
            message = str(error) or type(error).__name__
            if type(error) is not TemplateError:
                message = f"the model's chat template cannot render these messages: {message}"
            raise InvalidRequest(message, param="messages") from error
        return "".join(pieces)


def _guess(tokenizer: SpecialTokens) -> str:
    if tokenizer.has_token("<|im_start|>"):
        return _CHATML
    if tokenizer.is_sentence_piece:
        return _LLAMA2
    raise UnsupportedParameter(
        "the model's file has no chat template, so it cannot chat; use /v1/completions", param="messages"
    )
