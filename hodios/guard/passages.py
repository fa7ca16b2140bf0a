"""What of a request guards are shown, and as what: everything that its user or anybody else wrote, the newest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hodios.guard.base import Passage, Turn
from hodios.types import Request

MOST_PASSAGES = 64
MOST_CHARACTERS = 16_384
"""Of all that is shown of one request."""
MOST_TURNS = 6
"""Of the conversation before a text."""
_OF_OTHERS = ("tool", "function")
_BETWEEN = "\0"


def usual_prompt(request: Request) -> tuple[str, list[str]]:
    """All that there is to judge of a usual chat, as one text that no other prompt has, and text by text; "" where one
    has to look closer."""
    texts: list[str] = []
    for message in request.messages or ():
        role = message["role"]
        if role == "assistant":
            continue
        content = message.get("content")
        if type(content) is not str or role in _OF_OTHERS:
            return "", texts
        if content:
            texts.append(content)
    text = _BETWEEN.join(texts)
    is_usual = not request.documents and len(text) <= MOST_CHARACTERS and len(texts) <= MOST_PASSAGES
    return text if is_usual and text.count(_BETWEEN) == len(texts) - 1 else "", texts


def passages_of(request: Request) -> tuple[list[Passage], bool]:
    """What there is to judge, and whether that is all of it: a long text is shown by its two ends, and token ids nobody
    reads. Answers of the model that come back were judged when they were given."""
    passages: list[Passage] = []
    left, is_whole = MOST_CHARACTERS, True
    for passage in _all(request):
        if not left or len(passages) == MOST_PASSAGES:
            return passages, False
        if len(passage.text) > left:
            passage, is_whole = Passage(text=_ends(passage.text, left), side=passage.side), False
        left -= len(passage.text)
        passages.append(passage)
    if request.prompts and any(not isinstance(prompt, str) for prompt in request.prompts):
        is_whole = False
    return passages, is_whole


def turns_of(request: Request) -> tuple[Turn, ...]:
    """The end of the conversation, for whoever judges the answer to it."""
    turns = []
    for message in (request.messages or ())[-MOST_TURNS:]:
        if message.get("role") in ("user", "assistant") and (text := _text(message)):
            turns.append(Turn(role=message["role"], text=text))
    return tuple(turns)


def _all(request: Request) -> Iterator[Passage]:
    for prompt in request.prompts or ():
        if isinstance(prompt, str) and prompt:
            yield Passage(text=prompt, side="prompt")
    for document in request.documents:
        yield from (Passage(text=text, side="document") for text in _strings(document))
    messages = request.messages or ()
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        role = message.get("role")
        content = message.get("content")
        if role == "assistant" or not (text := content if type(content) is str else _text(message)):
            continue
        if role in _OF_OTHERS:
            yield Passage(text=text, side="document")
        else:
            yield Passage(text=text, side="prompt")


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "\n".join(text for text in texts if isinstance(text, str))


def _strings(document: Mapping[str, Any]) -> Iterator[str]:
    """What a document says, wherever in it."""
    pending: list[Any] = [document]
    while pending:
        match pending.pop():
            case str() as text if text:
                yield text
            case list() as items:
                pending.extend(items)
            case dict() as entries:
                pending.extend(entries.values())


def _ends(text: str, most: int) -> str:
    return text[: most // 2] + "\n" + text[-(most // 2) :]
