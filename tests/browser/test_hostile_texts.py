"""Whatever models, providers, keys, projects, tools, cards and errors are called, it stays text."""

from __future__ import annotations

from urllib.parse import quote

from playwright.sync_api import Page, expect
from visit import HOSTILE, MODEL, Visit

PLACE = f"/models/{quote(HOSTILE, safe='/')}"


def _say(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".turn.assistant[aria-busy=false]")).to_have_count(1)


def _is_text(page: Page, num_least: int = 1) -> None:
    """It is seen as it is written, and nothing was made of it. What the browser refuses would fail the visit."""
    expect(page.locator(".loading")).to_have_count(0)
    expect(page.get_by_text("<img src=x onerror").nth(num_least - 1)).to_be_attached()
    assert page.evaluate("window.harmed") is None
    assert page.locator("main script, main img[src=x], main [onerror], dialog script, dialog img[src=x]").count() == 0
    assert page.locator("a[href^='javascript']").count() == 0


def test_models_and_their_cards(operator: Visit) -> None:
    _is_text(operator.open("/models"))
    page = operator.open(PLACE)
    _is_text(page)
    for tab in ("API", "Providers", "Benchmarks", "README"):
        page.get_by_role("tab", name=tab).click()
        _is_text(page)
    expect(page.get_by_text("javascript:window.harmed=1")).to_be_visible()
    _is_text(operator.open(f"/compare?with={quote(HOSTILE, safe='')}&with={MODEL}"), 2)
    _is_text(operator.open("/status"))


def test_answers_tools_and_errors_of_providers(operator: Visit) -> None:
    operator.expected = ("status of 400",)
    page = operator.open(PLACE)
    page.get_by_text("Tools", exact=True).click()
    page.get_by_role("button", name="Take an example").click()
    _say(page, "a hostile tool")
    expect(page.locator(".warning")).to_contain_text(f'there is no tool "{HOSTILE}"')
    _is_text(page)
    page.get_by_role("button", name="New chat").click()
    _say(page, "hostile arguments")
    expect(page.locator(".call")).to_contain_text("get_weather")
    expect(page.locator(".call")).to_contain_text(HOSTILE)
    _is_text(page)
    page.get_by_role("button", name="Raw").click()
    _is_text(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="New chat").click()
    _say(page, "refuse")
    expect(page.get_by_role("alert")).to_contain_text(HOSTILE)
    _is_text(page)


def test_keys_projects_users_and_what_they_asked(operator: Visit) -> None:
    page = operator.open("/keys?tab=projects")
    page.get_by_role("button", name="New project").click()
    page.get_by_label("Name").fill(HOSTILE)
    page.get_by_role("button", name="Create").click()
    _is_text(page)
    page.get_by_role("tab", name="Keys").click()
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name").fill(HOSTILE)
    page.get_by_label("Owner").fill(HOSTILE)
    page.get_by_label("Project", exact=True).select_option(label=HOSTILE)
    page.get_by_role("button", name="Create").click()
    key = page.locator(".key-text").inner_text()
    _is_text(page)
    page.get_by_role("button", name="I have it").click()
    _is_text(page, 2)
    page.get_by_role("button", name="Delete").first.click()
    _is_text(page)
    asked = {"model": HOSTILE, "messages": [{"role": "user", "content": "hi"}], "user": HOSTILE}
    headers = {"authorization": f"Bearer {key}"}
    assert operator.context.request.post(f"{operator.url}/v1/chat/completions", data=asked, headers=headers).ok
    for by in ("model", "key", "project", "user"):
        page = operator.open(f"/usage?by={by}")
        _is_text(page) if by in ("model", "user") else expect(page.locator(".totals")).to_be_visible()
    page = operator.open(f"/usage?tab=requests&user={quote(HOSTILE, safe='')}")
    row = page.get_by_role("region", name="Requests").locator("tbody tr").first
    expect(row).to_contain_text(HOSTILE)
    row.get_by_role("button").click()
    page.get_by_text("Everything that is known").click()
    _is_text(page, 2)
