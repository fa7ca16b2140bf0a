"""Chat messages into the text that a model was trained on, by the jinja template that its file carries.

Renders as Hugging Face's `apply_chat_template` does. Knows no tokens but the names of the special ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2.exceptions import TemplateError

from hodios.dialog.growth import MAX_CHARACTERS
from hodios.dialog.sandbox import ChatEnvironment
from hodios.errors import InvalidRequest, UnsupportedModel

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

    def render(
        self,
        chat: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt for messages that the template gets as they are, BOS included where the template writes it.

        `kwargs` are the client's own variables. With `continue_final_message` the text ends where the last message's
        content ends. Raises `InvalidRequest`, with the template's own words where it refuses the messages.
        """
        shadowed = sorted(self._reserved & set(kwargs or ()))
        if shadowed:
            raise InvalidRequest(
                f"chat_template_kwargs must not set {', '.join(shadowed)}", param="chat_template_kwargs"
            )
        variables = {
            **self._special_tokens,
            "date_string": self._clock().strftime("%d %b %Y"),
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
        return self._run_open({**variables, "messages": chat})

    def _run_open(self, variables: dict[str, Any]) -> str:
        """The rendering up to the end of the last message's content."""
        *before, last = variables["messages"]
        if not last["content"]:
            raise InvalidRequest(
                "continue_final_message needs text as the last message's content", param="continue_final_message"
            )
        text = self._run({**variables, "messages": [*before, {**last, "content": _marked(last["content"])}]})
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


def _marked(content: Any) -> Any:
    """Text, or parts of type text, with the mark at its end."""
    if isinstance(content, str):
        return content + _CONTINUE_HERE
    *before, last = content
    return [*before, {**last, "text": last["text"] + _CONTINUE_HERE}]
