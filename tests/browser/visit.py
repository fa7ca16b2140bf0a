"""One person's window onto the web page, and the office that it looks into."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from fake_hub import FakeHub
from live_server import KEY, LiveServer
from playwright.sync_api import BrowserContext, Page

MODEL = "acme/talkative"
HERMES = "NousResearch/Hermes-2-Pro-Llama-3-8B"
HOSTILE = "<img src=x onerror='window.harmed=1'><script>window.harmed=1</script>"
"""A name that would take over a page that trusts it."""
PATIENCE_MS = 120_000
"""Far above what anything takes; on a machine that others use, too."""


class Office(NamedTuple):
    """What the person may open, and who stands behind it."""

    server: LiveServer
    hub: FakeHub
    hub_loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return self.server.url


class Visit:
    """One person's window. Whatever the page complains about fails the test, unless it was to be expected."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.expected: tuple[str, ...] = ()
        self.complaints: list[str] = []
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self._hear(said.type, said.text))
        self.page.on("request", lambda request: self._hear_of(request.url))

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(words in text for words in self.expected):
            self.complaints.append(text)

    def _hear_of(self, url: str) -> None:
        if not url.startswith((self.url, "data:", "blob:")):
            self.complaints.append(f"asked another host: {url}")

    def sign_in(self, key: str = KEY) -> None:
        answer = self.context.request.post(f"{self.url}/ui/session", data={"key": key})
        assert answer.ok, answer.text()

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.url}/ui{path}")
        return self.page
