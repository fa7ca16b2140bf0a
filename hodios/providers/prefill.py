"""How another server is asked to go on with an answer: with a prompt that ends with its beginning, or with a chat whose
last message is the beginning. Sans-IO.

A server that holds answers to a form, or reads calls out of them, would take what it adds for an answer of its own. So
it is not asked to, where the answer has got that far: that is done here.
"""

from __future__ import annotations

from typing import Any

from msgspec import structs

from hodios.dialog.beginning import write_beginning
from hodios.dialog.formats.base import Format
from hodios.dialog.profile import Profile
from hodios.errors import NotAvailable
from hodios.providers.served import Served
from hodios.types import Beginning, Request

_OF_ANSWERS = frozenset(("json_object", "json_schema", "regex", "grammar"))
_OF_CHATS = frozenset(("tools", "vision"))


def served_for_beginning(request: Request, served: Served, profile: Profile | None) -> Served:
    """The server with what of its abilities is of use here. Raises NotAvailable where it cannot go on."""
    beginning = request.beginning
    assert beginning is not None, "only an answer that was begun can be gone on with"
    features = served.features - _OF_ANSWERS
    if served.is_raw or not request.is_chat:
        if request.images or any(not isinstance(prompt, str) for prompt in request.prompts or ()):
            raise _cannot(served)
        return structs.replace(served, features=features)
    # Templates leave thoughts and half-written calls out of a message: these need a prompt.
    is_plain = not beginning.calls and bool(beginning.text)
    can_render = served.has_completions and profile is not None and "image" not in _parts(request)
    if can_render and not (is_plain and served.prefill):
        return structs.replace(served, features=features - _OF_CHATS, is_raw=True)
    if not served.prefill or request.images:
        raise _cannot(served)
    return structs.replace(served, features=features - {"tools"} if beginning.calls else features)


def text_of(beginning: Beginning, format: Format, thoughts: tuple[str, ...], opened: str) -> str:
    """As the model would have written it. `thoughts`: the tags it thinks in; `opened`: the one in the prompt."""
    named = {"thought": thoughts[0]} if thoughts else {}
    stretches = write_beginning(beginning, format, is_token=lambda text: False, opened=opened, **named)
    return "".join(stretch.text for stretch in stretches)


def prefill_of(beginning: Beginning, format: Format) -> str:
    """For a chat. What was thought before a text is not sent, as in every other message."""
    if beginning.text:
        beginning = structs.replace(beginning, reasoning="")
    return text_of(beginning, format, (), "")


def with_prefill(body: dict[str, Any], text: str, served: Served) -> dict[str, Any]:
    """The chat with its answer's beginning."""
    *before, last = body["messages"]
    if last["role"] != "assistant":
        before, last = [*before, last], {"role": "assistant", "content": ""}
    if not isinstance(last.get("content"), str):
        raise _cannot(served)
    prefilled = body | {"messages": [*before, last | {"content": last["content"] + text}]}
    if served.prefill == "continue_final_message":
        prefilled |= {"continue_final_message": True, "add_generation_prompt": False}
    return prefilled


def _parts(request: Request) -> set[str]:
    kinds = {"image"} if request.images else set()
    for message in request.messages or ():
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") == "image_url":
                kinds.add("image")
    return kinds


def _cannot(served: Served) -> NotAvailable:
    return NotAvailable(f"{served.card.provider} cannot go on with this answer of {served.card.id}")
