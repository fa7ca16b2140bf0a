"""The other pages as people use them: finding a model, comparing, watching, counting, and giving keys."""

from __future__ import annotations

import re
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from live_server import KEY
from playwright.sync_api import Page, Route, expect
from visit import HERMES, MODEL, Visit

from hodios.api import login_codes

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


def test_a_link_signs_in_once(visitor: Visit) -> None:
    visitor.expected = ("status of 401",)
    link = login_codes.link(visitor.url, KEY, time.time())
    page = visitor.page
    page.goto(link)
    expect(page.get_by_role("heading", name="Models")).to_be_visible()
    assert "code" not in page.url
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.goto(link)
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_text("A link is good once and for ten minutes.")).to_be_visible()


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
    page = operator.open(f"/models/{HERMES}?tab=readme")
    expect(page.get_by_role("heading", name="Prompt Format", exact=True)).to_be_visible()
    page.get_by_role("tab", name="Benchmarks").click()
    published = page.get_by_role("region", name="GPT4All").first.get_by_role("row")
    row = published.filter(has_text="arc_challenge").first
    expect(row).to_contain_text("0.5520")
    expect(row).to_contain_text("0.0145")
    expect(row).to_contain_text("0.5478")
    expect(published.filter(has_text="boolq")).to_contain_text("–")
    expect(page.get_by_role("row").filter(has_text="exact_match, strict-match")).to_contain_text("0.6100")
    expect(page.get_by_text("1,172 samples of each task. Source: hermes.json")).to_be_visible()
    expect(page.get_by_text("broken.json is no result of lm-evaluation-harness: results is a list")).to_be_visible()
    page.get_by_role("tab", name="Demo").click()
    expect(page.get_by_text("Nobody serves this model here yet")).to_be_visible()


LANGUAGES = {
    "cURL": ["curl -N", '"temperature": 0.3', "$HODIOS_API_KEY"],
    "Python": ["client.chat.completions.create", "temperature=0.3", 'extra_body={"top_k": 40}'],
    "JavaScript": ["new OpenAI", '"top_k": 40'],
    "LangChain": ["ChatOpenAI", "temperature=0.3", "chat.stream"],
}


def test_code_that_does_what_the_panel_says(operator: Visit) -> None:
    page = operator.open(f"/models/{MODEL}?tab=api&temperature=0.3&top_k=40")
    code = page.locator(".code-block").first
    for language, words in LANGUAGES.items():
        page.get_by_role("button", name=language, exact=True).click()
        for each in words:
            expect(code).to_contain_text(each)
        code.get_by_role("button", name="Cop").click()
        expect(code.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == code.locator("code").inner_text()
    page.get_by_label("Stream", exact=True).uncheck()
    expect(code).not_to_contain_text("chat.stream")
    parameters = page.get_by_role("region", name="Parameters")
    expect(parameters.get_by_role("row").filter(has_text="temperature").first).to_contain_text("from 0 to 2")
    expect(page.get_by_text("data: [DONE]")).to_be_visible()


def test_the_providers_of_a_model(operator: Visit) -> None:
    page = operator.open(f"/models/{MODEL}?tab=providers")
    choices = page.locator(".choices li")
    expect(choices.filter(has_text="Lowest price")).to_contain_text("cheap")
    table = page.get_by_role("region", name="Providers")
    expect(table.get_by_role("row")).to_have_count(3)
    table.get_by_role("button", name="In / 1M").click()
    table.get_by_role("button", name="In / 1M").click()
    expect(table.locator("tbody tr").first).to_contain_text("dear")
    bars = table.get_by_role("row").filter(has_text="dear").locator(".uptime .bar")
    expect(bars).to_have_count(24)
    expect(table.locator(".uptime .bar.bad")).to_have_count(1)

    lengths = page.get_by_role("region", name="By length of the prompt").get_by_role("row").filter(has_text="Latency")
    expect(lengths).to_have_count(2)
    figures = _seconds(lengths.filter(has_text="cheap").locator("td").all_inner_texts())
    assert len(figures) == 4
    assert figures == sorted(figures)
    courses = page.get_by_label("Latency and throughput over time")
    waits = courses.locator("figure").first
    expect(waits.locator("canvas")).to_be_visible()
    waits.get_by_text("As a table").click()
    short = _seconds(waits.locator("details tbody tr").first.locator("td").all_inner_texts())
    page.get_by_label("Length of the prompt", exact=True).select_option("16k")
    page.get_by_label("Percentile").select_option("p99")
    expect(waits).to_contain_text("p99 of each hour")
    long = _seconds(waits.locator("details tbody tr").first.locator("td").all_inner_texts())
    assert all(after > before for before, after in zip(short, long, strict=True))
    page.reload()
    expect(page.get_by_label("Percentile")).to_have_value("p99")
    page.get_by_label("Length of the prompt", exact=True).select_option("32k+")
    expect(page.get_by_text("No prompt of this length was asked in a day.")).to_be_visible()

    prices = page.get_by_label("Prices", exact=True)
    expect(prices.locator("canvas")).to_be_visible()
    prices.get_by_text("As a table").click()
    expect(prices.locator("details tbody tr").first).to_contain_text("$0.25")
    expect(prices.locator("details tbody tr").last).to_contain_text("$0.10")
    expect(prices.get_by_role("row").filter(has_text="dear").filter(has_text="$3.0")).not_to_have_count(0)
    choices.filter(has_text="Lowest price").get_by_role("link", name="Use it in the demo").click()
    expect(page).to_have_url(re.compile("provider=cheap"))
    expect(page.get_by_label("Message", exact=True)).to_be_visible()


def _seconds(texts: list[str]) -> list[float]:
    """The first of the times in each text that has one."""
    found = [re.search(r"([\d.]+) (ms|s)\b", text) for text in texts]
    return [float(each[1]) / (1000 if each[2] == "ms" else 1) for each in found if each]


def test_comparing_providers(operator: Visit) -> None:
    page = operator.open(f"/compare?with={MODEL}@cheap&with={MODEL}@dear")
    known = page.get_by_role("region", name="What is known of them")
    expect(known.get_by_role("row").filter(has_text="Price in / 1M")).to_contain_text(re.compile(r"\$.*\$"))
    expect(known.get_by_role("row").filter(has_text="Context")).to_contain_text("32.8K")
    expect(known.get_by_role("row").filter(has_text="Latency p50")).to_contain_text(re.compile(r"\d m?s.*\d m?s"))
    page.get_by_label("Prompt").fill("who are you?")
    page.get_by_role("button", name="Ask all").click()
    lanes = page.locator(".lane")
    expect(lanes.nth(0).locator(".prose")).to_have_text("I am talkative, and cheap at that.")
    expect(lanes.nth(1).locator(".prose")).to_have_text("I am talkative, and dear at that.")
    for lane in lanes.all():
        expect(lane.locator(".answer-facts")).to_contain_text("to first")
    outcome = page.get_by_role("region", name="How they did")
    expect(outcome.get_by_role("row")).to_have_count(3)
    costs = [float(text.removeprefix("$")) for text in outcome.locator("td:last-child").all_inner_texts()]
    assert costs[1] == pytest.approx(30 * costs[0])
    page.get_by_text("Differences from the first").click()
    expect(page.locator(".difference del")).to_have_text("cheap")
    expect(page.locator(".difference ins")).to_have_text("dear")

    page.get_by_role("button", name="Copy as Markdown").click()
    markdown = page.evaluate("navigator.clipboard.readText()")
    assert "> who are you?" in markdown
    assert re.search(r"^\| talkative at cheap \| cheap \| .* ms \| .* \| 3 \| \$0\.0\d+ \|$", markdown, re.MULTILINE)
    assert "## talkative at dear\n\nI am talkative, and dear at that.\n" in markdown
    page.get_by_role("button", name="Add another").click()
    expect(lanes).to_have_count(3)
    page.get_by_label("Model 3").select_option(STARTER)
    page.get_by_role("button", name="Copy link").click()
    link = page.evaluate("navigator.clipboard.readText()")
    page.goto("about:blank")
    page.goto(link)
    expect(page.get_by_label("Prompt")).to_have_value("who are you?")
    expect(page.get_by_label("Model 2")).to_have_value(f"{MODEL}@dear")
    expect(page.get_by_label("Model 3")).to_have_value(STARTER)


def test_status_is_open_to_everybody_where_the_operator_says_so(visitor: Visit) -> None:
    page = visitor.open("/status")
    expect(page.get_by_role("heading", name="Status")).to_be_visible()
    expect(page.get_by_role("navigation", name="Pages").get_by_role("link")).to_have_text(["Status"])
    expect(page.get_by_role("region", name="This machine")).to_contain_text("operational")
    dear = page.get_by_role("region", name="dear")
    expect(dear).to_contain_text(MODEL)
    expect(dear.locator(".uptime .bar.bad").first).to_have_attribute("title", re.compile("87.50 % of 8|50.00 % of 8"))
    heat = page.get_by_role("region", name="Latency by length of the prompt")
    row = heat.get_by_role("row").filter(has_text=f"cheap · {MODEL}")
    shades = row.locator("td").evaluate_all("all => all.map(each => each.className.match(/heat-(\\w+)/)[1])")
    assert shades[:4] == sorted(shades[:4])
    assert shades[0] < shades[3]
    assert shades[4] == "none"
    timeline = page.locator(".timeline li")
    expect(timeline).to_have_count(2)
    expect(timeline.first).to_contain_text(f"dear · {MODEL}")
    expect(timeline.first).to_contain_text("4 of 8 requests failed: 500")
    page.goto(f"{visitor.url}/ui/models")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


ADDRESSES: dict[str, dict[str, str]] = {
    "/models?q=llama&sort=price&context=8192&max_price=5": {"Search": "llama", "Sort": "price", "Context": "8192"},
    f"/models/{MODEL}?system=Be+brief.&temperature=0.3": {"System prompt": "Be brief.", "temperature": "0.3"},
    "/usage?days=7&by=provider": {"Time": "7", "By": "provider"},
    "/usage?tab=requests&model=x&status=429&from=2026-11-01": {"Model": "x", "Status": "429", "From": "2026-11-01"},
}


def test_every_view_can_be_linked(operator: Visit) -> None:
    for address, fields in ADDRESSES.items():
        page = operator.open(address)
        for label, value in fields.items():
            expect(page.get_by_label(label, exact=True)).to_have_value(value)
    page.goto(f"{operator.url}/ui/keys?tab=projects")
    expect(page.get_by_role("tab", name="Projects")).to_have_attribute("aria-selected", "true")
    page.goto(f"{operator.url}/ui/nothing/here")
    expect(page.get_by_role("heading", name="There is no page /nothing/here")).to_be_visible()


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
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download as CSV").click()
    head, *lines = saved.value.path().read_text().splitlines()
    assert "requests" in head.split(",")
    assert any("ann" in line.split(",") for line in lines)
    page.get_by_role("tab", name="Recommendations").click()
    expect(
        page.get_by_role("heading", name="Nothing to recommend").or_(page.locator(".advice li").first)
    ).to_be_visible()

    page.goto(f"{operator.url}/ui/keys")
    card.get_by_role("button", name="Edit").click()
    page.get_by_label("Requests a minute").fill("30")
    page.get_by_label("Budget a day, $").fill("5")
    page.get_by_role("button", name="Save").click()
    expect(card).to_contain_text("30 requests a minute")
    expect(card).to_contain_text("of $5.00")
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


def test_a_search_far_back_goes_on_by_itself(operator: Visit) -> None:
    """As the server answers where filters leave next to nothing of millions."""
    nexts = {"": "1795000000.0,r3", "1795000000.0,r3": "1790000000.0,r2", "1790000000.0,r2": None}
    held: list[Route] = []
    page = operator.page

    def answer(route: Route) -> None:
        (place,) = parse_qs(urlsplit(route.request.url).query).get("before", [""])
        if nexts[place] is None:
            held.append(route)
        else:
            route.fulfill(json={"items": [], "limit": 50, "offset": 0, "before": nexts[place]})

    page.route("**/v1/queries?**", answer)
    with page.expect_request(re.compile("before=1790000000")):
        operator.open("/usage?tab=requests&model=x")
    expect(page.get_by_text(re.compile("Loading older requests, none since 2. Sept 2026"))).to_be_visible()
    held[0].fulfill(json={"items": [], "limit": 50, "offset": 0, "before": None})
    expect(page.get_by_role("heading", name="No request is like that")).to_be_visible()


def test_a_wrong_limit_is_told_at_its_field(operator: Visit) -> None:
    operator.expected = ("status of 400",)
    page = operator.open("/keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Requests a minute").fill("many")
    page.get_by_role("button", name="Create").click()
    expect(page.locator(".field-error")).to_contain_text("requests_per_minute")


def test_what_an_inference_key_may_open(visitor: Visit) -> None:
    """Playground and its own usage, and nothing of others."""
    visitor.expected = ("status of 403",)
    visitor.sign_in()
    csrf = {"x-hodios-csrf": visitor.context.request.get(f"{visitor.url}/ui/session").json()["csrf"]}
    made = visitor.context.request.post(f"{visitor.url}/admin/v1/keys", data={"name": "guest"}, headers=csrf)
    visitor.context.clear_cookies()
    visitor.sign_in(made.json()["key"])
    page = visitor.open(f"/models/{MODEL}")
    page.get_by_label("Message", exact=True).fill("hello from the guest")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".turn.assistant .prose")).to_have_text("You said: hello from the guest")
    nav = page.get_by_role("navigation", name="Pages")
    expect(nav.get_by_role("link")).to_have_text(["Models", "Compare", "Status", "Usage"])
    page.goto(f"{visitor.url}/ui/usage?tab=requests")
    expect(page.get_by_role("region", name="Requests").locator("tbody tr")).to_have_count(1)
    expect(page.get_by_label("Key id")).to_have_count(0)
    page.get_by_role("tab", name="Sums").click()
    expect(page.get_by_text("Of your key.")).to_be_visible()
    expect(page.locator(".totals")).to_contain_text("Requests1")
    expect(page.get_by_role("tab", name="Recommendations")).to_have_count(0)
    for path in ("/keys", "/local"):
        page.goto(f"{visitor.url}/ui{path}")
        expect(page.get_by_text("This page needs the admin key")).to_be_visible()
    for path in ("/admin/v1/keys", "/admin/v1/local/models", "/health"):
        assert visitor.context.request.get(visitor.url + path).status == 403
