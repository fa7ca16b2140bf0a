"""Pictures of the main views, light, dark and on a phone. `make pictures` keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import pytest
from playwright.sync_api import Page, expect
from visit import HERMES, MODEL, Visit


class Look(NamedTuple):
    scheme: Literal["light", "dark"]
    width: int
    height: int


LOOKS = {"light": Look("light", 1360, 900), "dark": Look("dark", 1360, 900), "phone": Look("light", 390, 844)}
VIEWS = {
    "models": "/models",
    "playground": f"/models/{MODEL}",
    "safety": f"/models/{MODEL}",
    "api": f"/models/{MODEL}?tab=api&lang=python&temperature=0.3&top_k=40",
    "providers": f"/models/{MODEL}?tab=providers",
    "benchmarks": f"/models/{HERMES}?tab=benchmarks",
    "card": f"/models/{HERMES}?tab=readme",
    "compare": f"/compare?with={MODEL}@cheap&with={MODEL}@dear&prompt=A%20table%20of%20roads",
    "status": "/status",
    "usage": "/usage",
    "keys": "/keys",
    "local": "/local",
}


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    asked = request.config.getoption("--pictures")
    folder = Path(asked) if asked else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _make_keys(operator: Visit) -> None:
    csrf = operator.context.request.get(f"{operator.url}/ui/session").json()["csrf"]
    rows = [
        {"name": "Library", "owner": "ann", "budget": {"daily": 2.5, "total": 100}, "requests_per_minute": 60},
        {"name": "Night job", "owner": "bob", "budget": {"monthly": 40}, "models": [MODEL], "priority": -1},
    ]
    for row in rows:
        answer = operator.context.request.post(
            f"{operator.url}/admin/v1/keys", data=row, headers={"x-hodios-csrf": csrf}
        )
        assert answer.ok, answer.text()


def _act(page: Page, name: str) -> None:
    """What is worth a picture happens first."""
    if name == "playground":
        page.get_by_label("Message", exact=True).fill("A table of roads, please.")
        page.get_by_label("Message", exact=True).press("Enter")
        expect(page.locator(".answer-facts")).to_be_visible()
    if name == "safety":
        page.get_by_label("Message", exact=True).fill("I will find you and kill you, you worthless idiot.")
        page.get_by_label("Message", exact=True).press("Enter")
        page.get_by_role("button", name="Details").click()
        expect(page.get_by_label("Safety")).to_be_visible()
    if name == "compare":
        page.get_by_role("button", name="Ask all").click()
        expect(page.locator(".answer-facts")).to_have_count(2)


@pytest.mark.full
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", VIEWS)
def test_a_picture_of(operator: Visit, folder: Path, name: str, look: str) -> None:
    scheme, width, height = LOOKS[look]
    operator.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    operator.page.set_viewport_size({"width": width, "height": height})
    if (name, look) == ("keys", next(iter(LOOKS))):
        _make_keys(operator)
    page = operator.open(VIEWS[name])
    expect(page.locator("main h1")).to_be_visible()
    expect(page.locator(".loading")).to_have_count(0)
    _act(page, name)
    picture = page.screenshot(path=folder / f"{name}-{look}.png")
    assert picture.startswith(b"\x89PNG")
    expect(page.locator(".notice.is-error")).to_have_count(0)
