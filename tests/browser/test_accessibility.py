"""Every page for those who do not see it, or do not use a mouse, and on small screens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from live_server import run_apart
from playwright.sync_api import expect
from visit import MODEL, Visit

AXE = "axe-core@4.14.1"
PAGES = {
    "models": "/models",
    "playground": f"/models/{MODEL}",
    "api": f"/models/{MODEL}?tab=api",
    "providers": f"/models/{MODEL}?tab=providers",
    "benchmarks": "/models/NousResearch/Hermes-2-Pro-Llama-3-8B?tab=benchmarks",
    "card": "/models/NousResearch/Hermes-2-Pro-Llama-3-8B?tab=readme",
    "compare": "/compare",
    "status": "/status",
    "usage": "/usage",
    "requests": "/usage?tab=requests",
    "keys": "/keys",
    "local": "/local",
}


@pytest.fixture(scope="session")
def axe(repository: Path, need: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe, which judges a page by its document."""
    folder = repository / ".cache" / AXE
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.is_file():
        command = [need("npm", "npm"), "install", "--no-audit", "--no-fund", AXE, "--prefix", str(folder)]
        installed = run_apart(command)
        assert installed.returncode == 0, installed.stderr
    return script.read_text()


def _open(operator: Visit, name: str, scheme: Literal["light", "dark"]) -> None:
    operator.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    operator.open(PAGES[name])
    expect(operator.page.locator("main h1")).to_be_visible()
    expect(operator.page.locator(".loading")).to_have_count(0)


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(operator: Visit, axe: str, name: str) -> None:
    for scheme in ("light", "dark"):
        _open(operator, name, scheme)  # type: ignore[arg-type]
        operator.page.evaluate(axe)
        found = operator.page.evaluate("axe.run()")["violations"]
        serious = [each for each in found if each["impact"] in ("serious", "critical")]
        shown = [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in serious]
        assert not serious, json.dumps(shown, indent=1)


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_needs_no_scrolling_sideways(operator: Visit, name: str) -> None:
    operator.page.set_viewport_size({"width": 390, "height": 844})
    _open(operator, name, "light")
    width = operator.page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390


def test_a_conversation_without_a_mouse(operator: Visit) -> None:
    page = operator.open(f"/models/{MODEL}")
    page.get_by_label("Message", exact=True).focus()
    page.keyboard.type("hello")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("there")
    page.keyboard.press("Enter")
    expect(page.locator(".turn.assistant .prose")).to_contain_text("You said: hello")
    page.get_by_role("tab", name="Demo").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="API")).to_be_focused()
    expect(page.get_by_text("Base URL")).to_be_visible()
