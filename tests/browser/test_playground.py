"""The playground as a person uses it: write, watch, stop, ask again, edit, branch, call a tool."""

from __future__ import annotations

import json
import re

from playwright.sync_api import Page, expect
from talkative_model import LONG
from visit import MODEL, Visit

STARTER = "HuggingFaceTB/SmolLM2-135M-Instruct"


def say(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send", exact=True).click()


def answers(page: Page) -> list[str]:
    """What is shown of answers, once all are whole."""
    expect(page.locator(".turn.assistant[aria-busy=true]")).to_have_count(0)
    return [text.strip() for text in page.locator(".turn.assistant .prose").all_inner_texts()]


def test_a_real_model_answers(operator: Visit) -> None:
    page = operator.open(f"/models/{STARTER}?max_tokens=12&temperature=0")
    say(page, "Say hello.")
    (text,) = answers(page)
    assert text
    facts = page.locator(".answer-facts")
    expect(facts).to_contain_text("tok/s")
    expect(facts).to_contain_text("this machine")
    expect(facts).to_contain_text("to first")


def test_what_is_streamed_is_shown_whole(operator: Visit) -> None:
    page = operator.open(f"/models/{MODEL}")
    say(page, "a long one")
    assert answers(page) == [LONG]


def test_markdown(operator: Visit) -> None:
    page = operator.open(f"/models/{MODEL}")
    say(page, "a table")
    answers(page)
    expect(page.locator(".prose h1")).to_have_text("Roads")
    expect(page.locator(".prose td strong")).to_have_text("Via Appia")
    expect(page.locator(".prose .hljs-string")).to_have_text("'Rome'")


MARKDOWN = """# Roads

1. stone
2. gravel

3. mud

Text with `code`
and more
===

| road | km |
|---|---|
| Appia | 650 |
> said
so

- one

  still one
- two
    code

```python
a = 1

b = 2
```
[name]: http://example.com
* * *
<b>bold</b>

end\r\nlast"""


def test_markdown_that_grows_is_read_as_if_it_had_come_at_once(operator: Visit) -> None:
    page = operator.open("/status")
    wrong = page.evaluate(
        """async text => {
            const { blocksOf } = await import("/ui/lib/markdown.js");
            const sources = ({ blocks }) => JSON.stringify(blocks.map(each => each.source));
            const wrong = [];
            for (const step of [1, 2, 3, 7]) {
                let read;
                for (let end = step; end < text.length + step; end += step) {
                    read = blocksOf(text.slice(0, end), read);
                    const whole = blocksOf(text.slice(0, end));
                    if (sources(read) !== sources(whole)) wrong.push([end, sources(read), sources(whole)]);
                }
            }
            return wrong;
        }""",
        MARKDOWN,
    )
    assert wrong == []


def test_stop(operator: Visit) -> None:
    page = operator.open(f"/models/{MODEL}")
    say(page, "endless")
    expect(page.locator(".turn.assistant .prose")).to_have_text("It begins")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_visible()
    assert answers(page) == ["It begins"]


def test_asking_again_and_editing_make_branches(operator: Visit) -> None:
    page = operator.open(f"/models/{MODEL}")
    say(page, "one")
    answers(page)
    page.get_by_role("button", name="Regenerate").click()
    assert answers(page) == ["You said: one"]
    expect(page.locator(".turn.assistant .branches")).to_contain_text("2 / 2")
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Edit the message").fill("two")
    page.locator(".turn.user").get_by_role("button", name="Send").click()
    assert answers(page) == ["You said: two"]
    page.locator(".turn.user").get_by_role("button", name="Earlier version").click()
    expect(page.locator(".turn.assistant .prose")).to_have_text("You said: one")
    page.reload()
    expect(page.locator(".turn.user .said")).to_have_text("one")
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_text("Ask it something")).to_be_visible()


def test_a_call_of_a_tool_is_a_card_that_can_be_answered(operator: Visit) -> None:
    page = operator.open(f"/models/{MODEL}")
    page.get_by_text("Tools", exact=True).click()
    page.locator("details", has_text="tool_choice").get_by_role("button", name="Take an example").click()
    say(page, "the weather, please")
    expect(page.locator(".call")).to_contain_text("get_weather")
    expect(page.locator(".call code").last).to_contain_text('"city": "Paris"')
    page.get_by_label("Result of get_weather").fill("17 degrees")
    page.get_by_role("button", name="Send the result").click()
    expect(page.locator(".turn.assistant .prose").last).to_have_text("The tool said 17 degrees.")


def test_settings_are_part_of_the_address_and_of_the_request(operator: Visit) -> None:
    page = operator.open(f"/models/{MODEL}")
    page.get_by_label("temperature", exact=True).fill("0.3")
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Response format").select_option("json_object")
    expect(page).to_have_url(re.compile(r"temperature=0\.3"))
    with page.expect_request("**/v1/chat/completions") as sent:
        say(page, "json")
    body = json.loads(sent.value.post_data or "")
    assert body["temperature"] == 0.3
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "json"}]
    assert body["response_format"] == {"type": "json_object"}
    answers(page)
    page.reload()
    expect(page.get_by_label("temperature", exact=True)).to_have_value("0.3")


def test_a_schema_that_is_no_json_is_told_before_anything_is_sent(operator: Visit) -> None:
    page = operator.open(f"/models/{MODEL}?format=json_schema")
    page.get_by_label("JSON schema").fill("{")
    page.get_by_label("Message", exact=True).fill("hi")
    expect(page.get_by_text("This is no JSON")).to_be_visible()
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    page.get_by_label("JSON schema").fill('{"type": "object"}')
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_enabled()


def test_tokens_with_their_alternatives(operator: Visit) -> None:
    page = operator.open(f"/models/{STARTER}?max_tokens=6&logprobs=1&temperature=0")
    say(page, "Say hello.")
    answers(page)
    page.get_by_label("Show as").select_option("tokens")
    expect(page.locator(".token")).to_have_count(6)
    page.locator(".token").nth(2).hover()
    expect(page.locator(".alternatives tr")).not_to_have_count(0)
    expect(page.locator(".alternatives")).to_contain_text("%")


def test_the_route_and_what_was_sent_can_be_looked_at(operator: Visit) -> None:
    page = operator.open(f"/models/{MODEL}")
    say(page, "hello")
    answers(page)
    page.get_by_role("button", name="Details").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("cheap")
    expect(dialog).to_contain_text("answered")
    expect(dialog).to_contain_text("profanity: clear")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Raw").click()
    expect(dialog).to_contain_text('"model": "acme/talkative"')
    dialog.get_by_role("tab", name="Response").click()
    expect(dialog).to_contain_text("chat.completion.chunk")


def test_an_error_says_what_to_do(operator: Visit) -> None:
    operator.expected = ("status of 400",)
    page = operator.open(f"/models/{MODEL}?temperature=3")
    say(page, "hello")
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("temperature")
    expect(notice).to_contain_text("Change temperature, then send it again.")


def test_an_image_is_sent_with_the_message(operator: Visit) -> None:
    page = operator.open(f"/models/{MODEL}")
    pixel = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f00"
        "010501012718e3660000000049454e44ae426082"
    )
    page.get_by_label("Add images").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": pixel})
    expect(page.get_by_alt_text("Image 1")).to_be_visible()
    with page.expect_request("**/v1/chat/completions") as sent:
        say(page, "what is it?")
    (_, image) = json.loads(sent.value.post_data or "")["messages"][0]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    answers(page)


def test_what_models_write_stays_text(operator: Visit) -> None:
    page = operator.open(f"/models/{MODEL}?system=%3Cimg%20src%3Dx%20onerror%3D%22window.harmed%3D1%22%3E")
    say(page, "hostile <img src=x onerror='window.harmed = 1'>")
    answers(page)
    for look in ("plain", "text"):
        page.get_by_label("Show as").select_option(look)
    assert page.evaluate("window.harmed") is None
    inside = page.locator(".turn.assistant .prose")
    for tag in ("script", "img", "svg", "iframe", "style"):
        expect(inside.locator(tag)).to_have_count(0)
    links = inside.locator("a").evaluate_all("all => all.map(a => [a.getAttribute('href'), a.getAttribute('style')])")
    assert all(href is None or href.startswith("http://evil.example") for href, style in links), links
    assert all(style is None for href, style in links), links
    expect(page.locator(".turn.user .said")).to_contain_text("<img src=x")
