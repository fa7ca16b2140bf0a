"""Content filters as clients see them: what answers say, what is refused, what it costs, and what is told later."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from bureau import Bureau, Scripted, bureau

from hodios.api.app import create_app
from hodios.api.openapi import openapi_document
from hodios.config import Config
from hodios.errors import GuardDown
from hodios.events import Finish, Started, Stopped, Text, Usage
from hodios.guard.guarding import Guarding
from hodios.guard.panel import Panel
from hodios.guard_settings import GuardPolicy, GuardSettings
from hodios.types import CATEGORIES

sys.path.append(str(Path(__file__).parent.parent / "guard"))

from word_guard import FOUND, HARMLESS, WORDS, WordGuard

STARTED = Started("scripted", "maker/model", "fp_0", 10)
NOTHING = {
    **{name: {"filtered": False} for name in CATEGORIES[:4]},
    **{name: {"filtered": False, "detected": False} for name in CATEGORIES[4:]},
}
DOCUMENT = openapi_document(8)


def said(*texts: str) -> list[Any]:
    pieces = [Text(0, text, completion_tokens=5 * number) for number, text in enumerate(texts, 1)]
    finish = Finish(Usage(prompt_tokens=10, completion_tokens=5 * len(texts)))
    return [STARTED, *pieces, Stopped(0, "stop"), finish]


def guarding(*guards: Any, **settings: Any) -> Guarding:
    return Guarding(Panel(guards, clock=time.monotonic), GuardSettings(**settings))


@asynccontextmanager
async def desk(config: Config, script: list[Any], found: Guarding) -> AsyncIterator[Bureau]:
    async with bureau(config, [Scripted(script)], guarding=found) as opened:
        yield opened


def found(category: str, *, blocked: bool = False) -> dict[str, Any]:
    return {**NOTHING, category: {"filtered": blocked, "detected": True}}


@pytest.fixture
def ask(config: Config, caller_of: Callable[..., Any]) -> Callable[..., Any]:
    """A chat with an answer, under guards."""

    async def chat(script: list[Any], by: Guarding, text: str = "Hello", **values: Any) -> Any:
        call = caller_of(create_app(config, [Scripted(script)], guarding=by))
        return await call.chat(model="model", messages=[{"role": "user", "content": text}], **values)

    return chat


async def test_whole_answers_say_what_was_found(ask: Any) -> None:
    answer = await ask(said("you damn", " fool"), guarding(WordGuard()), "a murder", content_filter="details")
    (choice,) = answer.json()["choices"]
    assert choice["content_filter_results"] == {
        **NOTHING, "violence": {"filtered": False, "detected": True}, "profanity": {"filtered": False, "detected": True}
    }  # fmt: skip
    details = choice["content_filter_details"]
    assert details["not_evaluated"] == []
    assert [(run["name"], run["version"], run["side"]) for run in details["guards"]] == [
        ("words", "words-1", "prompt"),
        ("words", "words-1", "answer"),
    ]
    assert details["guards"][0]["scores"] == {name: FOUND if name == "violence" else HARMLESS for name in CATEGORIES}
    assert "jailbreak" not in details["guards"][1]["scores"], "no answer is an attempt to talk a model into something"
    assert all(run["ms"] >= 0 for run in details["guards"])
    assert choice["message"]["content"] == "you damn fool"


async def test_harmless_answers_look_as_ever(ask: Any) -> None:
    for stream in (False, True):
        guarded = await ask(said("fine"), guarding(WordGuard()), stream=stream)
        plain = await ask(said("fine"), guarding(), stream=stream)
        choices = [chunk["choices"] for chunk in (guarded.chunks() if stream else [guarded.json()])]
        assert choices == [chunk["choices"] for chunk in (plain.chunks() if stream else [plain.json()])]
        assert all(choice["content_filter_results"] == NOTHING for each in choices for choice in each)


async def test_chunks_say_what_is_known_so_far(ask: Any) -> None:
    guard = WordGuard(gate=asyncio.Event())
    assert guard.gate is not None
    gate = guard.gate

    async def opened() -> None:
        gate.set()
        await asyncio.sleep(0.01)

    script = [STARTED, Text(0, "a"), opened, Text(0, "b"), Text(0, " damn"), Stopped(0, "stop"), said()[-1]]
    answer = await ask(script, guarding(guard), "a murder", stream=True, content_filter="details")
    choices = [chunk["choices"][0] for chunk in answer.chunks()]
    by_text = {choice["delta"].get("content", choice["finish_reason"]): choice for choice in choices}
    assert by_text["a"]["content_filter_results"] == NOTHING
    assert by_text["a"]["content_filter_details"] == {"guards": [], "not_evaluated": list(CATEGORIES)}
    assert by_text["b"]["content_filter_results"] == found("violence")
    assert by_text["b"]["content_filter_details"]["not_evaluated"] == [
        name for name in CATEGORIES if name != "jailbreak"
    ], "nobody has looked at the answer yet"
    assert by_text["stop"]["content_filter_results"] == {
        **found("violence"), "profanity": {"filtered": False, "detected": True}
    }  # fmt: skip
    assert by_text["stop"]["content_filter_details"]["not_evaluated"] == []


async def test_completions_are_judged_too(config: Config, caller_of: Any) -> None:
    call = caller_of(create_app(config, [Scripted(said(" vermin"))], guarding=guarding(WordGuard())))
    for stream in (False, True):
        answer = await call.complete(model="model", prompt="a murder", stream=stream)
        choice = (answer.chunks()[-1] if stream else answer.json())["choices"][0]
        flagged = {name for name, slot in choice["content_filter_results"].items() if slot.get("detected")}
        assert flagged == {"violence", "hate"}


async def test_what_nobody_looked_at_is_told(ask: Any) -> None:
    partial = guarding(WordGuard(categories=frozenset(("violence",))))
    choice = (await ask(said("fine"), partial, content_filter="details")).json()["choices"][0]
    assert choice["content_filter_details"]["not_evaluated"] == [name for name in CATEGORIES if name != "violence"]
    down = guarding(WordGuard(error=GuardDown("gone")))
    details = (await ask(said("fine"), down, content_filter="details")).json()["choices"][0]["content_filter_details"]
    assert details["not_evaluated"] == list(CATEGORIES)
    assert {run["problem"] for run in details["guards"]} == {"guard_unavailable"}
    off = (await ask(said("fine"), guarding(WordGuard(), answer="off", prompt="off"), content_filter="details")).json()
    assert off["choices"][0]["content_filter_details"] == {"guards": [], "not_evaluated": list(CATEGORIES)}


async def test_a_blocked_prompt_is_a_400_that_costs_nothing(config: Config, caller_of: Any) -> None:
    asked: list[bool] = []

    async def note() -> None:
        asked.append(True)

    async with desk(config, [note, *said("fine")], guarding(WordGuard())) as opened:
        call = caller_of(opened.app, await opened.key("k1", guard=GuardPolicy(prompt="block")))
        for stream in (False, True):
            body = {"model": "model", "messages": [{"role": "user", "content": "a murder"}], "stream": stream}
            answer = await call("POST", "/v1/chat/completions", body)
            assert (answer.status, answer.error["code"], answer.error["param"]) == (400, "content_filter", "messages")
            assert "violence 0.90 (blocked from 0.5)" in answer.error["message"]
            assert answer.error["metadata"] == {"blocked": {"violence": FOUND}}
        assert asked == []
        logged = await opened.logged()
        assert [(entry.status, entry.error_code, entry.cost, entry.completion_tokens) for entry in logged] == [
            (400, "content_filter", 0, 0)
        ] * 2
        assert await opened.attempts(logged[0].request_id) == []
        told = await call("GET", "/v1/generation", query=f"id={logged[0].request_id}")
        assert told.json()["data"]["content_filter"]["blocked"] == ["violence"]
        fine = await call("POST", "/v1/chat/completions", {**body, "messages": [{"role": "user", "content": "hi"}]})
        assert fine.status == 200
        assert asked == [True]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_blocked_answer_is_charged_for_what_was_generated(config: Config, caller_of: Any, stream: bool) -> None:
    closed: list[str] = []

    async def still_asked() -> None:
        closed.append("more")

    calm = "All is calm and nothing is to be seen but the sea. " * 8
    script = [
        STARTED, Text(0, calm, completion_tokens=80), Text(0, " and then a murder " * 30, completion_tokens=200),
        Text(0, "unseen", completion_tokens=201), still_asked, Text(0, "never"), Stopped(0, "stop"), said()[-1],
    ]  # fmt: skip
    async with desk(config, script, guarding(WordGuard())) as opened:
        call = caller_of(opened.app, await opened.key("k1", guard=GuardPolicy(answer="block")))
        body = {"model": "model", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        answer = await call("POST", "/v1/chat/completions", {**body, "content_filter": "details"})
        assert answer.status == 200
        chunks = answer.chunks() if stream else [answer.json()]
        last = chunks[-1]["choices"][0]
        assert last["finish_reason"] == "content_filter"
        assert last["content_filter_results"] == found("violence", blocked=True)
        texts = [chunk["choices"][0].get("delta", chunk["choices"][0].get("message")) for chunk in chunks]
        shown = "".join(text.get("content") or "" for text in texts)
        assert calm.startswith(shown)
        assert "murder" not in answer.body.decode()
        assert closed == [], "nobody reads on"
        (entry,) = await opened.logged()
        assert (entry.status, entry.finish_reason) == (200, "content_filter")
        (attempt,) = await opened.attempts(entry.request_id)
        assert attempt.outcome == "answered"
        assert attempt.completion_tokens >= 200
        assert attempt.cost == entry.cost
        assert attempt.cost
        told = (await call("GET", "/v1/generation", query=f"id={entry.request_id}")).json()["data"]
        assert told["content_filter"]["flagged"] == told["content_filter"]["blocked"] == ["violence"]
        assert told["finish_reason"] == "content_filter"
        jsonschema.validate(
            {"data": told}, {**DOCUMENT["components"]["schemas"]["Generation"], "components": DOCUMENT["components"]}
        )


@pytest.mark.parametrize("stream", [False, True])
async def test_what_was_generated_is_charged_where_a_guard_dies_in_mid_answer(
    config: Config, caller_of: Any, stream: bool
) -> None:
    guard = WordGuard()

    async def die() -> None:
        guard.error = GuardDown("gone")

    calm = "All is calm and nothing is to be seen but the sea. " * 12
    script = [
        STARTED, Text(0, calm, completion_tokens=80), die, Text(0, calm, completion_tokens=160),
        Text(0, "never", completion_tokens=999), Stopped(0, "stop"), said()[-1],
    ]  # fmt: skip
    async with desk(config, script, guarding(guard)) as opened:
        policy = GuardPolicy(answer="block", when_down="closed")
        call = caller_of(opened.app, await opened.key("k1", guard=policy))
        body = {"model": "model", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        answer = await call("POST", "/v1/chat/completions", body)
        if stream:
            assert answer.status == 200
            *shown, failed = answer.chunks()
            assert failed["error"]["code"] == "guard_unavailable"
            texts = [each["choices"][0]["delta"].get("content") or "" for each in shown]
            assert "".join(texts), "what was judged was shown"
        else:
            assert (answer.status, answer.error["code"]) == (503, "guard_unavailable")
        assert "never" not in answer.body.decode()
        (entry,) = await opened.logged()
        assert entry.error_code == "guard_unavailable"
        (attempt,) = await opened.attempts(entry.request_id)
        assert attempt.completion_tokens == 160
        assert attempt.cost == entry.cost > 0


async def test_what_others_have_said_of_a_past_request_is_found_in_the_log(config: Config, caller_of: Any) -> None:
    async with desk(config, said("a murder"), guarding(WordGuard())) as opened:
        key = await opened.key("k1")
        await caller_of(opened.app, key).chat(model="model")
        (entry,) = await opened.logged()
        later = create_app(config, [Scripted([])], office=opened.office)
        told = await caller_of(later, key)("GET", "/v1/generation", query=f"id={entry.request_id}")
        found = told.json()["data"]["content_filter"]
        assert (found["flagged"], found["blocked"], found["not_evaluated"]) == (["violence"], [], [])
        assert [run["side"] for run in found["guards"]] == ["prompt", "answer"]
        assert "murder" not in json.dumps(told.json())


async def test_a_key_is_never_laxer_than_its_project(config: Config, caller_of: Any) -> None:
    async with desk(config, said("fine"), guarding(WordGuard())) as opened:
        admin = caller_of(opened.app)
        project = (await admin("POST", "/admin/v1/projects", {"guard_prompt": "block"})).json()
        assert (project["guard_prompt"], project["guard_answer"], project["guard_flag_at"]) == ("block", None, {})
        lax = {"project": project["id"], "guard_prompt": "off", "guard_block_at": {"violence": "never"}}
        key = (await admin("POST", "/admin/v1/keys", lax)).json()
        assert key["guard_block_at"] == {"violence": "never"}
        body = {"model": "model", "messages": [{"role": "user", "content": "a murder"}]}
        assert (await caller_of(opened.app, key["key"])("POST", "/v1/chat/completions", body)).status == 400
        free = (
            await admin("POST", "/admin/v1/keys", {"guard_prompt": "block", "guard_block_at": {"violence": 1}})
        ).json()
        assert (await caller_of(opened.app, free["key"])("POST", "/v1/chat/completions", body)).status == 200
        changed = await admin("PATCH", f"/admin/v1/keys/{free['id']}", {"guard_block_at": None, "guard_answer": "off"})
        assert (changed.json()["guard_block_at"], changed.json()["guard_prompt"]) == ({}, "block")


@pytest.mark.parametrize(
    ("values", "param", "told"),
    [
        ({"guard_prompt": "stop"}, "guard_prompt", "annotate"),
        ({"guard_flag_at": {"rage": 0.5}}, "guard_flag_at", "profanity"),
        ({"guard_flag_at": {"hate": 1.5}}, "guard_flag_at.hate", "from 0 to 1"),
        ({"guard_block_at": {"hate": "always"}}, "guard_block_at.hate", "never"),
        ({"guard_block_at": [1]}, "guard_block_at", "object"),
    ],
)
async def test_policies_that_make_no_sense_are_refused(
    config: Config, caller_of: Any, values: Any, param: str, told: str
) -> None:
    async with desk(config, [], guarding()) as opened:
        answer = await caller_of(opened.app)("POST", "/admin/v1/keys", values)
        assert (answer.status, answer.error["param"]) == (400, param)
        assert told in answer.error["message"]


async def test_nothing_passes_unjudged_where_the_key_says_so(config: Config, caller_of: Any) -> None:
    async with desk(config, said("fine"), guarding(WordGuard(error=GuardDown("gone")))) as opened:
        for number, policy in enumerate((GuardPolicy(prompt="block"), GuardPolicy(answer="block"))):
            text = await opened.key(f"k{number}", guard=policy)
            assert (await caller_of(opened.app, text).chat(model="model")).status == 200
        closed = await opened.key("closed", guard=GuardPolicy(prompt="block", when_down="closed"))
        answer = await caller_of(opened.app, closed).chat(model="model")
        assert (answer.status, answer.error["code"]) == (503, "guard_unavailable")
        assert answer.headers["retry-after"] == "1"


async def test_metrics_and_health_tell_of_guards(config: Config, caller_of: Any) -> None:
    by = guarding(WordGuard(), prompt="annotate", answer="block")
    call = caller_of(create_app(config, [Scripted(said("a murder"))], guarding=by))
    await call.chat(model="model")
    metrics = (await call("GET", "/metrics")).body.decode()
    for line in (
        'hodios_guard_judged_total{guard="words",side="prompt"} 1.0',
        'hodios_guard_judged_total{guard="words",side="answer"} 1.0',
        'hodios_guard_flagged_total{category="violence",side="answer"} 1.0',
        'hodios_guard_blocked_total{category="violence",side="answer"} 1.0',
        'hodios_guard_down_total{guard="words",side="prompt"} 0.0',
        'hodios_guard_seconds_count{guard="words",side="prompt"} 1.0',
        'hodios_guard_seconds_bucket{guard="words",le="+Inf",side="prompt"} 1.0',
        'hodios_guard_up{guard="words"} 1.0',
    ):
        assert line in metrics
    (state,) = (await call("GET", "/health")).json()["guards"]
    assert (state["name"], state["state"], state["sides"]) == ("words", "ready", ["answer", "prompt"])


@pytest.fixture
def moderate(config: Config, caller_of: Any) -> Callable[..., Any]:
    async def post(*guards: Any, **body: Any) -> Any:
        call = caller_of(create_app(config, [], guarding=guarding(*guards)))
        return await call("POST", "/v1/moderations", body)

    return post


async def test_moderations_in_openais_shape(moderate: Any) -> None:
    answer = await moderate(WordGuard(), input="I will murder you", model="omni-moderation-latest")
    document = answer.json()
    assert list(document) == ["id", "model", "results"]
    assert document["id"].startswith("modr-")
    assert document["model"] == "words-words-1"
    (result,) = document["results"]
    assert result["flagged"] is True
    assert {name for name, is_true in result["categories"].items() if is_true} == {"violence"}
    assert (result["category_scores"]["violence"], result["category_scores"]["self-harm"]) == (FOUND, HARMLESS)
    assert result["category_applied_input_types"]["violence"] == ["text"]
    assert result["category_applied_input_types"]["violence/graphic"] == []
    assert "illicit" in result["not_evaluated"]
    assert not {"hate", "violence", "jailbreak", "profanity", "self-harm"} & set(result["not_evaluated"])
    schema = {**DOCUMENT["components"]["schemas"]["Moderation"], "components": DOCUMENT["components"]}
    jsonschema.validate(document, schema)


async def test_moderations_of_several_texts_and_of_parts(moderate: Any) -> None:
    texts = [f"all about {word}" for word in WORDS.values()]
    answer = await moderate(WordGuard(), input=["fine", *texts, ""])
    flagged = [[name for name, is_true in each["categories"].items() if is_true] for each in answer.json()["results"]]
    assert flagged == [[], *([name.replace("_", "-")] for name in WORDS), []]
    image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    parts = [{"type": "text", "text": "a murder"}, image, {"type": "text", "text": "vermin"}]
    (result,) = (await moderate(WordGuard(), input=parts)).json()["results"]
    assert result["categories"]["violence"]
    assert result["categories"]["hate"]
    (unseen,) = (await moderate(WordGuard(), input=[image])).json()["results"]
    assert (unseen["flagged"], set(unseen["not_evaluated"])) == (False, set(unseen["categories"]))


@pytest.mark.parametrize(
    "value", [None, 5, [], ["a", 1], [{"type": "text"}], [{"type": "sound"}], ["a"] * 129, [[1, 2]], {"text": "a"}]
)
async def test_moderations_of_what_is_no_input_are_refused(moderate: Any, value: Any) -> None:
    answer = await moderate(WordGuard(), input=value)
    assert answer.status == 400
    assert answer.error["param"].startswith("input")
    assert "input" in answer.error["message"]


async def test_moderations_without_a_guard_are_errors(moderate: Any) -> None:
    assert (await moderate(input="a")).status == 501
    down = await moderate(WordGuard(error=GuardDown("gone")), input="a")
    assert (down.status, down.error["code"]) == (503, "guard_unavailable")
    warned = await moderate(WordGuard(), input="a", colour="red")
    assert warned.headers["x-hodios-ignored"] == "colour"
    assert [warning["param"] for warning in warned.json()["warnings"]] == ["colour"]


async def test_moderations_count_against_the_limits_of_a_key(config: Config, caller_of: Any) -> None:
    async with desk(config, [], guarding(WordGuard())) as opened:
        admin = caller_of(opened.app)
        text = (await admin("POST", "/admin/v1/keys", {"requests_per_minute": 1})).json()["key"]
        call = caller_of(opened.app, text)
        statuses = [(await call("POST", "/v1/moderations", {"input": "a"})).status for _ in range(2)]
        assert statuses == [200, 429]
