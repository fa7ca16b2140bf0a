"""A person at the web page: a real browser, a real server with the starter model, and two scripted providers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from live_server import LiveServer, start, until
from playwright.sync_api import Browser, expect, sync_playwright

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "conformance"))
sys.path.append(str(Path(__file__).parent.parent / "providers"))

from talkative_model import answer
from upstream_thread import upstream_in_thread
from visit import MODEL, PATIENCE_MS, Visit

VIEWPORT = {"width": 1360, "height": 900}


class Office(NamedTuple):
    """What the person may open."""

    server: LiveServer

    @property
    def url(self) -> str:
        return self.server.url


def _remotes(**urls: str) -> str:
    features = ["tools", "json_object", "json_schema", "vision"]
    prices = {"cheap": (0.1, 0.2), "dear": (3.0, 6.0)}
    sections = {}
    for name, url in urls.items():
        prompt, completion = prices[name]
        model = {"id": MODEL, "upstream_id": "talkative", "context_length": 32768, "features": features}
        model |= {"price": {"prompt": prompt, "completion": completion}}
        sections[name] = {"base_url": f"{url}/v1", "models": [model]}
    return json.dumps(sections)


@pytest.fixture(scope="session")
def office(cache_home: Path, starter_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("office")
    (folder / "models").symlink_to(cache_home / "models")
    with upstream_in_thread(answer) as cheap, upstream_in_thread(answer) as dear:
        remotes = _remotes(cheap=cheap.url, dear=dear.url)
        server = start(folder, folder / "log.txt", HODIOS_REMOTE=remotes, HODIOS_CONTEXT_LENGTH="1024")
        until(lambda: _is_ready(server), server.told)
        yield Office(server)
        server.stop()


def _is_ready(server: LiveServer) -> bool:
    _, report = server.get("/health")
    return all(model["state"] == "ready" for model in report["models"])


@pytest.fixture(scope="module")
def browser(need: Callable[[str, str], str]) -> Iterator[Browser]:
    """Ends with each file: while it is there, its event loop runs, and nobody else in this process can run one."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=need("chromium", "chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visitor(office: Office, browser: Browser) -> Iterator[Visit]:
    """Not signed in."""
    expect.set_options(timeout=PATIENCE_MS)
    context = browser.new_context(viewport=VIEWPORT, permissions=["clipboard-read", "clipboard-write"])
    visit = Visit(context, office.url)
    yield visit
    context.close()
    assert not visit.complaints, visit.complaints


@pytest.fixture
def operator(visitor: Visit) -> Visit:
    """Signed in with the admin key."""
    visitor.sign_in()
    return visitor
