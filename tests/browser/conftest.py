"""A person at the web page: a real browser, a real server with the starter model, and two scripted providers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from live_server import LiveServer, start, until
from playwright.sync_api import Browser, expect, sync_playwright

sys.path.extend(str(Path(__file__).parents[1] / name) for name in ("browser", "conformance", "engine", "providers"))

import talkative_model
from fake_hub import FakeHub, serving_hub
from gguf_factory import TinyModel, write
from memories import remember
from upstream_thread import in_thread, upstream_in_thread
from visit import HOSTILE, MODEL, PATIENCE_MS, Office, Visit

VIEWPORT = {"width": 1360, "height": 900}


def _remotes(*hostile: str, **urls: str) -> str:
    features = ["tools", "json_object", "json_schema", "vision"]
    prices = {"cheap": (0.1, 0.2), "dear": (3.0, 6.0)}
    sections = {}
    for name, url in urls.items():
        prompt, completion = prices[name]
        model = {"upstream_id": "talkative", "context_length": 32768, "features": features}
        model |= {"price": {"prompt": prompt, "completion": completion}}
        sections[name] = {"base_url": f"{url}/v1", "models": [{"id": id, **model} for id in (MODEL, *hostile)]}
    return json.dumps(sections)


@pytest.fixture(scope="session")
def office(
    request: pytest.FixtureRequest,
    cache_home: Path,
    starter_model_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Office]:
    is_for_pictures = bool(request.config.getoption("--pictures"))
    folder = tmp_path_factory.mktemp("office")
    _furnish(folder, cache_home, starter_model_path)
    remember(folder, datetime.now(UTC), has_hostile=not is_for_pictures)
    hub = FakeHub({"tiny-F32.gguf": write(TinyModel(context=2048), folder / "tiny.gguf").read_bytes()})
    with (
        in_thread(serving_hub(hub)) as loop,
        upstream_in_thread(talkative_model.at("cheap")) as cheap,
        upstream_in_thread(talkative_model.at("dear")) as dear,
    ):
        remotes = _remotes(*(() if is_for_pictures else (HOSTILE,)), cheap=cheap.url, dear=dear.url)
        settings = {"HODIOS_REMOTE": remotes, "HODIOS_CONTEXT_LENGTH": "2048", "HODIOS_STATUS_PUBLIC": "true"}
        server = start(folder, folder / "log.txt", HF_ENDPOINT=hub.endpoint, **settings)
        until(lambda: _is_ready(server), server.told)
        yield Office(server, hub, loop)
        server.stop()


def _furnish(folder: Path, cache_home: Path, starter_model_path: Path) -> None:
    """The starter model is the one of all tests, and so is what was built of it; what is pulled stays here."""
    author = starter_model_path.parent.parent
    (folder / "models").mkdir()
    (folder / "models" / author.name).symlink_to(author)
    (cache_home / "cache").mkdir(exist_ok=True)
    (folder / "cache").symlink_to(cache_home / "cache")


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
