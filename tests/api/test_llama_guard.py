"""A Llama Guard behind the very server whose prompts and answers it judges."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

sys.path.append(str(Path(__file__).parent.parent / "providers"))

from scripted_upstream import KEY, Asked, Reply, ScriptedUpstream, piece, serving, stream

from hodios.accounts.office import Office
from hodios.api.app import create_app
from hodios.config import Config
from hodios.guard_settings import GuardSettings
from hodios.providers.echo import EchoProvider
from hodios.providers.remote import RemoteProvider
from hodios.remotes import Remote, RemoteModel
from hodios.types import Price

GUARD = "meta/llama-guard-3-8b"


def judge(asked: Asked) -> Reply:
    """Whatever has a sword in its last message is violent."""
    last = asked.body["prompt"].partition("<BEGIN CONVERSATION>")[2].partition("<END")[0].strip().rpartition("\n\n")[2]
    return stream(piece("unsafe\nS1,S6" if "sword" in last else "safe", finish="stop"))


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with serving(ScriptedUpstream(script=judge)) as server:
        yield server


@pytest.fixture
async def admin(
    config: Config, office: Office, upstream: ScriptedUpstream, caller_of: Callable[[Any], Any]
) -> AsyncIterator[Any]:
    """The echo answers; the guard is at another provider, and dear."""
    model = RemoteModel(id=GUARD, context_length=8192, price=Price(prompt=10**12, completion=10**12))
    remote = Remote(name="acme", base_url=f"{upstream.url}/v1", models=(model,), has_completions=True)
    provider = RemoteProvider(remote, KEY)
    await provider.start()
    settings = GuardSettings(
        llama_guard=GUARD, prompt="block", answer="block", llama_guard_budget_s=30, injection_rules=False
    )
    app = create_app(structs.replace(config, guard=settings), [EchoProvider(), provider], office=office)
    yield caller_of(app)
    await provider.aclose()


async def test_prompt_and_answer_are_judged_once_each(admin: Any, upstream: ScriptedUpstream) -> None:
    answer = await admin.chat(content_filter="details")
    assert answer.status == 200, answer.body
    (choice,) = answer.json()["choices"]
    runs = {(run["name"], run["side"]): run["scores"] for run in choice["content_filter_details"]["guards"]}
    assert set(runs) == {("llama_guard", "prompt"), ("llama_guard", "answer")}
    assert runs["llama_guard", "answer"] == dict.fromkeys(("hate", "self_harm", "sexual", "violence"), 0.0)
    assert choice["content_filter_details"]["not_evaluated"] == ["jailbreak", "profanity"]
    of_prompt, of_answer = (body["prompt"] for body in upstream.bodies)
    assert "in 'User' messages" in of_prompt
    assert "in 'Agent' messages" in of_answer
    assert "User: Hello\n\nAgent: " in of_answer


async def test_an_unsafe_prompt_is_refused_before_anybody_is_asked(admin: Any, upstream: ScriptedUpstream) -> None:
    answer = await admin.chat(messages=[{"role": "user", "content": "Hand me the sword!"}])
    assert (answer.status, answer.error["code"]) == (400, "content_filter")
    assert "violence 1.00" in answer.error["message"]
    assert len(upstream.asked) == 1


async def test_what_the_guard_asks_is_nobodys_request(admin: Any, office: Office) -> None:
    made = (await admin("POST", "/admin/v1/keys", {"budget": {"total": "0.001"}})).json()
    await office.accounts._keyring.poll()
    caller = type(admin)(admin.app, made["key"])
    for _ in range(3):
        assert (await caller.chat()).status == 200
    shown = (await admin("GET", f"/admin/v1/keys/{made['id']}")).json()
    assert float(shown["usage"]["total"]["spent"]) == 0, "the guard's model costs a dollar for a thousand tokens"
    queries = (await admin("GET", "/v1/queries")).json()["items"]
    assert all("guard" not in str(row["model"]) for row in queries)
    metrics = (await admin("GET", "/metrics")).body.decode()
    counted = [line for line in metrics.splitlines() if 'provider="acme"' in line and GUARD in line]
    assert counted, "it is counted as what its provider has done"


async def test_a_guard_that_is_away_lets_pass_or_not_as_the_policy_says(admin: Any, upstream: ScriptedUpstream) -> None:
    upstream.script = lambda asked: stream(piece("I cannot say.", finish="stop"))
    answer = await admin.chat(content_filter="details")
    runs = answer.json()["choices"][0]["content_filter_details"]["guards"]
    assert answer.status == 200
    assert {run["problem"] for run in runs} == {"guard_unavailable"}
    made = (await admin("POST", "/admin/v1/keys", {"guard_when_down": "closed"})).json()
    answer = await type(admin)(admin.app, made["key"]).chat()
    assert (answer.status, answer.error["code"]) == (503, "guard_unavailable")
