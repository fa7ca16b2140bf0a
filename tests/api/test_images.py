"""Images on both routes: handed on byte for byte to a model that reads them, refused for one that does not."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.api.images import MAX_IMAGE_BYTES, check_image
from hodios.errors import InvalidRequest
from hodios.events import Finish, Started, Stopped, Usage
from hodios.providers.base import ModelHealth
from hodios.types import ModelCard

PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256))).decode()
ADDRESS = "https://images.example/a%20b.png?x=1#y"
SCRIPT = (
    Started("scripted", "sees", "fp_0", 3),
    Stopped(0, "stop"),
    Finish(usage=Usage(prompt_tokens=3, completion_tokens=0)),
)
CARDS = (
    ModelCard(id="sees", context_length=100, max_output_tokens=50, modalities=("text", "image")),
    ModelCard(id="reads", context_length=100, max_output_tokens=50),
)
STATES = tuple(ModelHealth(model=card.id, state="ready") for card in CARDS)


@pytest.fixture
def vision(scripted: Any) -> Any:
    return scripted(*SCRIPT, cards=CARDS, states=STATES)


def image_part(url: str, **values: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **values}}


@pytest.mark.parametrize("url", [PNG, ADDRESS, "http://127.0.0.1:1/x.gif"])
async def test_a_vision_model_gets_images_unchanged(vision: Any, url: str) -> None:
    call, provider = vision
    messages = [{"role": "user", "content": [{"type": "text", "text": "What?"}, image_part(url, detail="low")]}]
    assert (await call.chat(model="sees", messages=messages)).status == 200
    assert provider.requests[-1].messages == tuple(messages)
    for send in (call.chat, call.complete):
        for data in (url, [url], {"url": url}, [{"url": url}, url], [image_part(url)], [{"image_url": url}]):
            answer = await send(model="sees", data=data)
            assert answer.status == 200
            assert set(provider.requests[-1].images) == {url}
            assert "warnings" not in answer.json()
    assert (await call.chat(model="sees", messages=messages)).json()["usage"]["prompt_characters"] == 5


async def test_the_image_of_a_part_may_be_a_bare_string(vision: Any) -> None:
    call, provider = vision
    messages = [{"role": "user", "content": [{"type": "image_url", "image_url": ADDRESS}]}]
    assert (await call.chat(model="sees", messages=messages)).status == 200
    assert provider.requests[-1].messages == tuple(messages)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_text_model_refuses_them_and_says_who_does_not(vision: Any, stream: bool) -> None:
    call, provider = vision
    messages = [{"role": "user", "content": "x"}, {"role": "user", "content": [image_part(PNG)]}]
    for answer, param in (
        (await call.chat(model="reads", messages=messages, stream=stream), "messages[1].content[0]"),
        (await call.chat(model="reads", data=[PNG], stream=stream), "data"),
        (await call.complete(model="reads", data=ADDRESS, stream=stream), "data"),
    ):
        assert answer.status == 400
        assert (answer.error["code"], answer.error["param"]) == ("unsupported_parameter", param)
        assert "reads text only" in answer.error["message"]
        assert "these models read images: sees" in answer.error["message"]
    assert provider.requests == []


async def test_where_nobody_reads_images_that_is_said(call: Any) -> None:
    answer = await call.chat(data=PNG)
    assert answer.status == 400
    assert "no model here reads images" in answer.error["message"]


async def test_no_images_are_no_images(call: Any) -> None:
    assert (await call.chat(data=[])).status == 200
    assert (await call.complete(data=None)).status == 200


@given(st.binary(min_size=1, max_size=60), st.sampled_from(["png", "jpeg", "webp", "gif", "PNG"]))
def test_every_image_as_a_data_uri_is_taken(content: bytes, kind: str) -> None:
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    assert check_image("data", uri) == uri


@given(st.text(max_size=30))
def test_anything_else_is_refused_in_few_words(text: str) -> None:
    for value in (f"x{text}", f"data:image/{text}é", f"data:image/png;base64,{text}é", f"http:{text.lstrip('/')}"):
        with pytest.raises(InvalidRequest) as caught:
            check_image("data", value)
        assert caught.value.param == "data"
        assert len(caught.value.message) < 300


def test_size_is_bounded_before_anything_is_decoded() -> None:
    largest = "data:image/png;base64," + "A" * (-(-MAX_IMAGE_BYTES // 3) * 4)
    assert check_image("data", largest) == largest
    with pytest.raises(InvalidRequest, match="too large"):
        check_image("data", largest + "AAAA")
