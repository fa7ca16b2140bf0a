"""The other pages as people use them: finding a model, comparing, watching, counting, and giving keys."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect
from visit import MODEL, Visit

STARTER = "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_signing_in_and_out(visitor: Visit) -> None:
    visitor.expected = ("status of 401",)
    page = visitor.open("/usage")
    page.get_by_label("Key").fill("sk-wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("key")
    visitor.sign_in()
    page.reload()
    expect(page.get_by_role("heading", name="Usage")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_finding_a_model(operator: Visit) -> None:
    page = operator.open("/models")
    cards = page.locator(".model-card")
    expect(cards.filter(has_text="SmolLM2")).to_contain_text("this machine")
    page.get_by_label("Search").fill("hermes 2 pro")
    expect(cards).to_have_count(1)
    expect(page).to_have_url(re.compile("q=hermes"))
    page.get_by_label("Search").fill("")
    page.get_by_role("button", name="This machine").click()
    expect(cards).to_have_count(1)
    cards.get_by_role("link").click()
    expect(page.get_by_role("heading", name="SmolLM2 135M Instruct")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("button", name="This machine")).to_have_attribute("aria-pressed", "true")


def test_the_card_and_the_benchmarks_of_a_model(operator: Visit) -> None:
    page = operator.open("/models/NousResearch/Hermes-2-Pro-Llama-3-8B?tab=readme")
    expect(page.get_by_role("heading", name="Prompt Format", exact=True)).to_be_visible()
    page.get_by_role("tab", name="Benchmarks").click()
    row = page.get_by_role("row").filter(has_text="arc_challenge").first
    expect(row).to_contain_text("0.5520")
    expect(row).to_contain_text("0.0145")
    page.get_by_role("tab", name="Demo").click()
    expect(page.get_by_text("Nobody serves this model here yet")).to_be_visible()


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("cURL", ["curl -N", '"temperature": 0.3', "$HODIOS_API_KEY"]),
        ("Python", ["client.chat.completions.create", "temperature=0.3", 'extra_body={"top_k": 40}']),
        ("JavaScript", ["new OpenAI", '"top_k": 40']),
        ("LangChain", ["ChatOpenAI", "temperature=0.3", "chat.stream"]),
    ],
)
def test_code_that_does_what_the_panel_says(operator: Visit, language: str, words: list[str]) -> None:
    page = operator.open(f"/models/{MODEL}?tab=api&temperature=0.3&top_k=40")
    page.get_by_role("button", name=language, exact=True).click()
    code = page.locator(".code-block").first
    for each in words:
        expect(code).to_contain_text(each)
    code.get_by_role("button", name="Copy").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == code.locator("code").inner_text()


def test_the_providers_of_a_model(operator: Visit) -> None:
    page = operator.open(f"/models/{MODEL}?tab=providers")
    table = page.get_by_role("region", name="Providers")
    expect(table.get_by_role("row")).to_have_count(3)
    expect(page.locator(".choices")).to_contain_text("Lowest pricecheap")
    table.get_by_role("button", name="In / 1M").click()
    table.get_by_role("button", name="In / 1M").click()
    expect(table.locator("tbody tr").first).to_contain_text("dear")


def test_comparing_providers(operator: Visit) -> None:
    page = operator.open(f"/compare?with={MODEL}@cheap&with={MODEL}@dear")
    page.get_by_label("Prompt").fill("hello, both of you")
    page.get_by_role("button", name="Ask all").click()
    expect(page.locator(".lane .prose").nth(0)).to_have_text("You said: hello, both of you")
    expect(page.locator(".lane .prose").nth(1)).to_have_text("You said: hello, both of you")
    outcome = page.get_by_role("region", name="How they did")
    expect(outcome.get_by_role("row")).to_have_count(3)
    expect(outcome).to_contain_text("$0.000")
    page.get_by_role("button", name="Copy as Markdown").click()
    assert "## talkative" in page.evaluate("navigator.clipboard.readText()").lower()
    page.get_by_role("button", name="Add another").click()
    expect(page.locator(".lane")).to_have_count(3)


def test_status_is_seen(operator: Visit) -> None:
    page = operator.open("/status")
    expect(page.get_by_role("heading", name="Status")).to_be_visible()
    expect(page.get_by_role("region", name="cheap")).to_contain_text(MODEL)
    expect(page.get_by_role("region", name="This machine")).to_contain_text("operational")


def _ask_with(page: Page, key: str) -> int:
    status: int = page.evaluate(
        """async ([key, model]) => (await fetch("/v1/chat/completions", {method: "POST",
            headers: {authorization: `Bearer ${key}`, "content-type": "application/json"},
            body: JSON.stringify({model, messages: [{role: "user", content: "hi"}], user: "ann"})})).status""",
        [key, MODEL],
    )
    return status


def test_a_key_from_its_making_to_its_end(operator: Visit) -> None:
    """Made, used, seen to be spent, shown in the log, changed, rotated, disabled and deleted."""
    operator.expected = ("status of 401", "status of 403")
    page = operator.open("/keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name").fill("reading room")
    page.get_by_label("Budget a day, $").fill("2.50")
    page.get_by_role("button", name="Create").click()
    key = page.locator(".key-text").inner_text()
    page.get_by_role("button", name="I have it").click()
    card = page.locator(".account-card").filter(has_text="reading room")
    expect(card).to_contain_text("$0.00 of $2.50")
    assert _ask_with(page, key) == 200
    expect(card).not_to_contain_text("$0.00 of $2.50")

    page.goto(f"{operator.url}/ui/usage?tab=requests&user=ann")
    row = page.get_by_role("row").filter(has_text="reading room")
    expect(row).to_contain_text("200")
    row.get_by_role("button", name="Details").click()
    expect(page.get_by_role("dialog")).to_contain_text("answered")
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Sums").click()
    page.get_by_label("By", exact=True).select_option("user")
    expect(page.get_by_role("region", name="Sums by User")).to_contain_text("ann")

    page.goto(f"{operator.url}/ui/keys")
    card.get_by_role("button", name="Rotate").click()
    page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    newer = page.locator(".key-text").inner_text()
    assert newer != key
    page.get_by_role("button", name="I have it").click()
    card.get_by_role("button", name="Disable").click()
    expect(card).to_contain_text("disabled")
    card.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)


def test_a_wrong_limit_is_told_at_its_field(operator: Visit) -> None:
    operator.expected = ("status of 400",)
    page = operator.open("/keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Requests a minute").fill("many")
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".field-error")).to_contain_text("requests_per_minute")


def test_what_an_inference_key_may_open(operator: Visit, visitor: Visit) -> None:
    made = operator.context.request.get(f"{operator.url}/ui/session").json()
    answer = operator.context.request.post(
        f"{operator.url}/admin/v1/keys", data={"name": "guest"}, headers={"x-hodios-csrf": made["csrf"]}
    )
    key = answer.json()["key"]
    visitor.context.clear_cookies()
    visitor.sign_in(key)
    page = visitor.open("/models")
    nav = page.get_by_role("navigation", name="Pages")
    expect(nav.get_by_role("link")).to_have_text(["Models", "Compare", "Status", "Usage"])
    page.goto(f"{visitor.url}/ui/keys")
    expect(page.get_by_text("This page needs the admin key")).to_be_visible()
    page.goto(f"{visitor.url}/ui/usage")
    expect(page.get_by_text("Of your key.")).to_be_visible()
