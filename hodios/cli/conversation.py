"""The messages of one conversation, who they are with, and the answers as they come."""

from __future__ import annotations

import asyncio
import sys
import time

from hodios.cli.console import stderr
from hodios.errors import HodiosError, SetupError
from hodios.providers.client import Client, Counts, ServedModel


class Conversation:
    """The messages so far, and whom they are with."""

    def __init__(self, url: str, key: str | None, system: str | None, **parameters: object) -> None:
        """`parameters` are sent with every request."""
        self._url = url
        self._key = key
        self._parameters = parameters
        self.model = ""
        self.begin(system)

    def begin(self, system: str | None) -> None:
        self._messages = [{"role": "system", "content": system}] if system else []

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
        self._messages.append({"role": "user", "content": question})
        answer: list[str] = []
        try:
            speed = asyncio.run(self._answer(answer))
        except KeyboardInterrupt:
            speed = "stopped"
        except HodiosError as error:
            sys.stdout.write("\n" if answer else "")
            stderr().print(error.message, style="red")
            self._messages.pop()
            return False
        sys.stdout.write("\n")
        sys.stdout.flush()
        if shows_speed:
            stderr().print(f"[{speed}]", style="dim")
        if answer:
            self._messages.append({"role": "assistant", "content": "".join(answer)})
        else:
            self._messages.pop()
        return True

    async def _answer(self, answer: list[str]) -> str:
        """Fills `answer`; how fast it came."""
        began = time.monotonic()
        first = None
        counts = Counts(0, 0)
        async with Client(self._url, self._key) as client:
            async for piece in client.chat(self.model, self._messages, **self._parameters):
                counts = piece.usage or counts
                if piece.text:
                    first = first or time.monotonic()
                    answer.append(piece.text)
                    sys.stdout.write(piece.text)
                    sys.stdout.flush()
        waited_s = (first or time.monotonic()) - began
        rate = (counts.completion_tokens - 1) / max(time.monotonic() - began - waited_s, 1e-9)
        shown = f", {rate:.1f} tokens/s" if counts.completion_tokens > 1 else ""
        return f"{counts.completion_tokens} tokens{shown}, first after {waited_s:.2f} s"
