"""The models of this machine: pulled with progress, loaded, watched at work, and unloaded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fake_hub import REPOSITORY
from live_server import KEY
from live_server import MODEL as STARTER
from playwright.sync_api import expect
from visit import Office, Visit


def test_a_model_is_pulled_loaded_asked_and_unloaded(operator: Visit, office: Office) -> None:
    office.hub.is_slow = True
    page = operator.open("/local")
    expect(page.get_by_role("article", name=STARTER)).to_contain_text("ready")
    page.get_by_label("Pull a model").fill(REPOSITORY)
    page.get_by_role("button", name="Pull", exact=True).click()
    bar = page.get_by_role("progressbar", name=f"Pulling {REPOSITORY}")
    expect(bar).to_have_attribute("value", re.compile(r"[1-9]\d+"))
    before = bar.get_attribute("value") or ""
    expect(bar).not_to_have_attribute("value", before)
    expect(page.locator(".pull-progress")).to_contain_text(re.compile(r"\d KiB of [\d.]+ MiB, [\d.]+ KiB/s"))
    office.hub_loop.call_soon_threadsafe(office.hub.go.set)
    expect(page.locator(".pull-progress")).to_contain_text("done")

    card = page.get_by_role("article", name=REPOSITORY)
    expect(card).to_contain_text("installed")
    card.get_by_role("button", name="Load").click()
    expect(card).to_contain_text("ready")
    expect(card.get_by_label("Answers at work: 0 of 64")).to_be_visible()
    page.evaluate(
        """model => { fetch("/v1/completions", {method: "POST", headers: {"content-type": "application/json",
            authorization: "Bearer " + KEY}, body: JSON.stringify({model, prompt: "a", max_tokens: 1900, n: 8,
            ignore_eos: true})}); }""".replace("KEY", repr(KEY)),
        REPOSITORY,
    )
    expect(card.get_by_label("Answers at work: 8 of 64")).to_be_visible()
    expect(card.get_by_label("KV cache: 0 of")).to_have_count(0)
    expect(card).to_contain_text(re.compile(r"Now\d+ tok/s"))
    card.get_by_role("button", name="Unload").click()
    expect(card).to_contain_text("installed")


@pytest.mark.full
def test_what_the_shell_loads_is_seen_at_once(operator: Visit, office: Office) -> None:
    port = office.url.rpartition(":")[2]
    env = {**os.environ, "HODIOS_HOME": str(office.server.log.parent), "HODIOS_PORT": port, "HODIOS_ADMIN_KEY": KEY}
    page = operator.open("/local")
    card = page.get_by_role("article", name=STARTER)
    expect(card).to_contain_text("ready")
    for action, told, shown in (("unload", "not served any more", "installed"), ("load", "ready", "ready")):
        command = [str(Path(sys.executable).with_name("hodios")), "models", action, STARTER]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert told in done.stdout, done.stderr
        expect(card).to_contain_text(shown)


@pytest.mark.full
def test_what_cannot_be_pulled_says_why(operator: Visit) -> None:
    page = operator.open("/local")
    page.get_by_label("Pull a model").fill("maker/nothing")
    page.get_by_role("button", name="Pull", exact=True).click()
    failed = page.locator(".pull-progress").filter(has_text="maker/nothing")
    expect(failed).to_contain_text("failed")
    expect(failed.locator(".field-error")).to_contain_text("maker/nothing")
