"""The messages of one conversation, who they are with, and the answers as they come: text, calls of tools, JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from hodios.cli.console import stderr, stdout, visible
from hodios.cli.schema import AnswerForm
from hodios.cli.tools import Toolbox
from hodios.errors import HodiosError, SetupError
from hodios.providers.call_deltas import Called
from hodios.providers.client import Client, Counts, Piece, ServedModel


class _Answer:
    """One answer of the model, as far as it has come, and its place on the screen."""

    def __init__(self, *, shows_text: bool) -> None:
        self.text = ""
        self.calls: tuple[Called, ...] = ()
        self.finish_reason: str | None = None
        self.speed = "stopped"
        self.is_stopped = False
        self._shows_text = shows_text
        self._stderr = stderr()
        self._open: TextIO | None = None

    def add(self, piece: Piece) -> None:
        self.text += piece.text
        self.calls += piece.calls
        self.finish_reason = piece.finish_reason or self.finish_reason
        if piece.reasoning and self._stderr.is_terminal:
            self._write(sys.stderr, piece.reasoning)
        if piece.text and self._shows_text:
            self._write(sys.stdout, piece.text)
        for warning in piece.warnings:
            self.close()
            self._stderr.print(visible(warning), style="yellow")

    def close(self) -> None:
        """End the line that was begun."""
        if self._open is not None:
            self._open.write("\n")
            self._open.flush()
            self._open = None

    def _write(self, stream: TextIO, text: str) -> None:
        if self._open is not stream:
            self.close()
        self._open = stream
        stream.write(visible(text) if stream.isatty() else text)
        stream.flush()


class Conversation:
    """The messages so far, and whom they are with. An exchange that brings no answer is forgotten."""

    def __init__(
        self,
        url: str,
        key: str | None,
        system: str | None,
        *,
        tools: Toolbox | None = None,
        form: AnswerForm | None = None,
        max_rounds: int = 5,
        **parameters: object,
    ) -> None:
        """`max_rounds`: how often tools are run for one question. `parameters` are sent with every request."""
        self._url = url
        self._key = key
        self._tools = tools
        self._form = form
        self._max_rounds = max_rounds
        self._parameters = {
            **parameters,
            "tools": tools.definitions if tools else None,
            "response_format": form.response_format if form else None,
        }
        self.model = ""
        self.begin(system)

    def begin(self, system: str | None) -> None:
        self._messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []

    def clear(self) -> None:
        """Forget all but the system prompt."""
        self._messages = [message for message in self._messages if message["role"] == "system"]

    def models(self) -> list[ServedModel]:
        async def get() -> list[ServedModel]:
            async with Client(self._url, self._key) as client:
                return await client.models()

        return asyncio.run(get())

    def choose(self, name: str | None) -> None:
        """Go on with the model `name`, or with the first one. Raises SetupError with what there is."""
        served = self.models()
        wanted = name.lower() if name else None
        for model in served:
            if wanted is None or wanted in (model.id.lower(), *(alias.lower() for alias in model.aliases)):
                self.model = model.id
                return
        there = ", ".join(model.id for model in served) or "none"
        raise SetupError(f"The server at {self._url} has no model {name or ''!r}; it has: {there}.")

    def ask(self, question: str, *, shows_speed: bool) -> bool:
        """Print the answer while it comes; Ctrl-C stops it and keeps what came. Returns whether there is an answer."""
        before = len(self._messages)
        self._messages.append({"role": "user", "content": question})
        answer = None
        try:
            answer = self._exchange()
        except KeyboardInterrupt:
            stderr().print("[stopped]", style="dim")
            return False
        except HodiosError as error:
            stderr().print(visible(error.message), style="red")
            return False
        finally:
            if answer is None or not answer.text:
                del self._messages[before:]
            else:
                self._messages.append({"role": "assistant", "content": answer.text})
        is_good = self._conclude(answer)
        if shows_speed:
            stderr().print(f"[{answer.speed}]", style="dim")
        return is_good

    def _exchange(self) -> _Answer:
        """The rounds of one question: while the model calls tools, they are run and it is asked again."""
        answer = self._request()
        for number in range(1, self._max_rounds + 1):
            if self._tools is None or not answer.calls:
                break
            self._run(self._tools, answer)
            answer = self._request(**({"tool_choice": "none"} if number == self._max_rounds else {}))
        return answer

    def _request(self, **parameters: object) -> _Answer:
        answer = _Answer(shows_text=self._form is None)
        is_silent = self._form is not None and stderr().is_terminal
        try:
            with stderr().status("answering …") if is_silent else contextlib.nullcontext():
                asyncio.run(self._receive(answer, parameters))
        except KeyboardInterrupt:
            answer.is_stopped = True
        finally:
            answer.close()
        return answer

    async def _receive(self, answer: _Answer, parameters: Mapping[str, object]) -> None:
        began = time.monotonic()
        first = None
        counts = Counts(0, 0)
        async with Client(self._url, self._key) as client:
            async for piece in client.chat(self.model, self._messages, **self._parameters, **parameters):
                counts = piece.usage or counts
                first = first or (time.monotonic() if piece.text or piece.reasoning else None)
                answer.add(piece)
        waited_s = (first or time.monotonic()) - began
        rate = (counts.completion_tokens - 1) / max(time.monotonic() - began - waited_s, 1e-9)
        shown = f", {rate:.1f} tokens/s" if counts.completion_tokens > 1 else ""
        answer.speed = f"{counts.completion_tokens} tokens{shown}, first after {waited_s:.2f} s"

    def _run(self, tools: Toolbox, answer: _Answer) -> None:
        """The model's calls and all their results, as the next messages."""
        ids = _ids(answer.calls, len(self._messages))
        calls = [
            {"id": id, "type": "function", "function": {"name": _name(call), "arguments": _arguments(call)}}
            for id, call in zip(ids, answer.calls, strict=True)
        ]
        self._messages.append({"role": "assistant", "content": answer.text or None, "tool_calls": calls})
        for id, call in zip(ids, answer.calls, strict=True):
            result = {"role": "tool", "tool_call_id": id, "name": _name(call), "content": tools.answer(call)}
            self._messages.append(result)

    def _conclude(self, answer: _Answer) -> bool:
        """Whether the answer is what was asked for; says what is wrong with it."""
        if answer.is_stopped:
            return bool(answer.text) and self._form is None
        if answer.calls and self._tools is not None:
            stderr().print(
                f"The model still calls tools after {self._max_rounds} rounds; see --max-rounds.", style="red"
            )
            return False
        if self._form is None:
            return True
        try:
            value = self._form.read(answer.text)
        except SetupError as error:
            stderr().print(visible(answer.text), style="dim")
            is_cut = answer.finish_reason == "length"
            stderr().print(f"{error}{' It was cut off; see --max-tokens.' if is_cut else ''}", style="red")
            return False
        stdout().print(visible(json.dumps(value, ensure_ascii=False, indent=2)))
        return True


def _ids(calls: Sequence[Called], seed: int) -> list[str]:
    """Each call's own id, or where it has none of its own, one in the form that all models' templates accept."""
    ids = [call.id for call in calls]
    return [
        id if id and ids.count(id) == 1 else f"call{seed % 1000:03d}{number % 100:02d}" for number, id in enumerate(ids)
    ]


def _name(call: Called) -> str:
    """Servers refuse messages with names that no function can have."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", call.name)[:64] or "unknown"


def _arguments(call: Called) -> str:
    """Templates make an object of them, so what is none cannot be sent back; the result says what was wrong."""
    try:
        is_object = isinstance(json.loads(call.arguments), dict)
    except (ValueError, RecursionError):
        is_object = False
    return call.arguments if is_object else "{}"
