"""Every page for those who do not see it, or do not use a mouse, and on small screens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from live_server import run_apart
from playwright.sync_api import Page, expect
from visit import HERMES, MODEL, Visit

AXE = "axe-core@4.14.1"
PAGES = {
    "models": "/models",
    "playground": f"/models/{MODEL}",
    "api": f"/models/{MODEL}?tab=api",
    "providers": f"/models/{MODEL}?tab=providers",
    "benchmarks": f"/models/{HERMES}?tab=benchmarks",
    "card": f"/models/{HERMES}?tab=readme",
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


def _serious(page: Page, part: str = "html", **options: object) -> str:
    """What axe has against a part of the page as it is; "" where that is nothing serious."""
    asked = [part, {"resultTypes": ["violations"], **options}]
    found = page.evaluate("([part, options]) => axe.run(part, options)", asked)
    serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
    shown = [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in serious]
    return json.dumps(shown, indent=1) if shown else ""


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious_and_a_phone_needs_no_scrolling_sideways(
    operator: Visit, axe: str, name: str
) -> None:
    operator.page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page = operator.open(PAGES[name])
    expect(page.locator("main h1")).to_be_visible()
    expect(page.locator(".loading")).to_have_count(0)
    expect(page.locator(".notice.is-error")).to_have_count(0)
    page.evaluate(axe)
    assert not _serious(page)
    page.emulate_media(color_scheme="dark")
    # What else axe looks at does not depend on colours.
    assert not _serious(page, runOnly=["color-contrast"])
    page.set_viewport_size({"width": 390, "height": 844})
    # Charts follow when they are told of their new size.
    page.wait_for_function("document.documentElement.scrollWidth <= 390")


def test_where_one_is_stands_in_the_row_on_a_phone(operator: Visit) -> None:
    operator.page.set_viewport_size({"width": 390, "height": 844})
    page = operator.open(PAGES["local"])
    expect(page.get_by_role("link", name="Local models")).to_be_in_viewport(ratio=0.95)
    page = operator.open(PAGES["card"])
    expect(page.get_by_role("tab", name="README")).to_be_in_viewport(ratio=0.95)


def _windows(operator: Visit) -> Iterator[Page]:
    """Every window and drawer in turn, opened with the mouse."""
    page = operator.open(f"/models/{MODEL}")
    page.get_by_label("Message", exact=True).fill("hello")
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_role("button", name="Details").click()
    yield page
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Raw").click()
    yield page
    page = operator.open("/usage?tab=requests")
    page.get_by_role("button", name="Details of the request").first.click()
    expect(page.get_by_role("dialog").get_by_role("heading", name="Attempts")).to_be_visible()
    yield page
    page = operator.open("/compare")
    page.get_by_role("button", name="Settings").click()
    yield page
    page = operator.open("/keys")
    page.get_by_role("button", name="New key").click()
    yield page
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".key-text")).to_be_visible()
    yield page
    page.get_by_role("button", name="I have it").click()
    page.get_by_role("button", name="Rotate").first.click()
    yield page


def test_axe_finds_nothing_serious_in_windows(operator: Visit, axe: str) -> None:
    for page in _windows(operator):
        expect(page.get_by_role("dialog")).to_be_visible()
        page.evaluate("typeof axe !== 'undefined'") or page.evaluate(axe)
        assert not _serious(page, "dialog[open]")
        page.emulate_media(color_scheme="dark")
        assert not _serious(page, "dialog[open]", runOnly=["color-contrast"])
        page.emulate_media(color_scheme="light")


def _tab_to(page: Page, role: Literal["button", "link", "tab", "textbox"], name: str) -> None:
    """As far as it takes, and no further than a person would go."""
    goal = page.get_by_role(role, name=name, exact=True).first
    for _ in range(60):
        if goal.evaluate("each => each === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{role} {name} cannot be reached with Tab")


def test_a_conversation_without_a_mouse(operator: Visit) -> None:
    page = operator.open("/models?q=talkative")
    expect(page.locator(".model-card")).to_have_count(1)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    _tab_to(page, "link", "acme talkative")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="talkative")).to_be_visible()
    _tab_to(page, "tab", "Demo")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="API")).to_be_focused()
    expect(page.get_by_text("Base URL")).to_be_visible()
    page.keyboard.press("Home")
    _tab_to(page, "textbox", "Message")
    page.keyboard.type("hello")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("there")
    page.keyboard.press("Enter")
    expect(page.locator(".turn.assistant .prose")).to_contain_text("You said: hello")
    # Until the answer has ended, Enter sends nothing.
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    page.keyboard.type("endless")
    page.keyboard.press("Enter")
    expect(page.locator(".turn.assistant .prose").last).to_have_text("It begins")
    _tab_to(page, "button", "Stop")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()


def test_a_key_is_made_without_a_mouse(operator: Visit) -> None:
    page = operator.open("/keys")
    expect(page.locator(".loading")).to_have_count(0)
    _tab_to(page, "button", "New key")
    page.keyboard.press("Enter")
    window = page.get_by_role("dialog")
    expect(window).to_be_visible()
    _tab_to(page, "textbox", "Name")
    page.keyboard.type("typed")
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(window).to_have_count(0)
    expect(page.get_by_role("button", name="New key")).to_be_focused()
    page.keyboard.press("Enter")
    _tab_to(page, "textbox", "Name")
    page.keyboard.type("typed")
    page.keyboard.press("Enter")
    expect(page.locator(".key-text")).to_be_visible()
    _tab_to(page, "button", "Copy")
    page.keyboard.press("Enter")
    expect(window.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator(".key-text").inner_text()
    _tab_to(page, "button", "I have it")
    page.keyboard.press("Enter")
    expect(page.locator(".account-card").filter(has_text="typed")).to_be_visible()
