"""The programs that other hosts publish for their Hermes and Llama models, run against our server."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from live_server import KEY, MODEL, PATIENCE_S, LiveServer, run_apart
from relay import Answered, Relay

SEEDS = Path(__file__).parent / "seeds"
HOSTS = re.compile(r"https://(?:api\.novita\.ai/v3/openai|apipie\.ai/v1)")
KEYS = re.compile(r"\{YOUR Novita AI API Key\}|<YOUR Novita AI API Key>|<YOUR_API_KEY>")
MODELS = re.compile("nousresearch/hermes-2-pro-llama-3-8b|nous-hermes-2-mixtral-8x7b-dpo|llama-3.1-nemotron")
NO_FILTER = json.loads(
    '{"hate": {"filtered": false}, "self_harm": {"filtered": false}, "sexual": {"filtered": false},'
    ' "violence": {"filtered": false}, "jailbreak": {"filtered": false, "detected": false},'
    ' "profanity": {"filtered": false, "detected": false}}'
)


class Run(NamedTuple):
    seed: str
    prefix: str
    is_streamed: bool


RUNS = [
    Run("novita.sh", "/v3/openai", False),
    Run("novita-streamed.sh", "/v3/openai", True),
    Run("apipie.sh", "/v1", False),
    Run("302ai.json", "", False),
    *(
        Run(seed, prefix, is_streamed)
        for seed in ("novita.py", "novita.mjs")
        for prefix in ("/v3/openai", "/v1", "")
        for is_streamed in (True, False)
    ),
]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str
    answered: Answered


def text_of(run: Run, url: str) -> str:
    """The program with our host, key and model."""
    text = (SEEDS / f"{run.seed}.txt").read_text()
    text = HOSTS.sub(url + run.prefix, KEYS.sub(KEY, MODELS.sub(MODEL, text)))
    if not run.is_streamed:
        text = text.replace("stream = True", "stream = False").replace("const stream = true", "const stream = false")
    return text


@pytest.fixture(scope="module")
def outcomes(
    terse_server: LiveServer,
    node: str,
    node_folder: Path,
    need: Callable[[str, str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[Run, Outcome]:
    """All programs, several at a time."""
    need("curl", "curl")
    folder = tmp_path_factory.mktemp("seeds")
    (folder / "node_modules").symlink_to(node_folder / "node_modules")
    # Programs must not find another key or host in their surroundings.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "HODIOS_"))}

    def play(numbered: tuple[int, Run]) -> Outcome:
        number, run = numbered
        with Relay(terse_server.url) as relay:
            file = folder / f"{number}-{run.seed}"
            file.write_text(text_of(run, relay.url))
            bodies_url = f"{relay.url}{run.prefix}/chat/completions"
            command = {
                ".sh": ["bash", str(file)],
                ".py": [sys.executable, str(file)],
                ".mjs": [node, str(file)],
                ".json": ["curl", bodies_url, "-H", f"Authorization: Bearer {KEY}", "-d", f"@{file}"],
            }[file.suffix]
            done = run_apart(command, env=env, cwd=folder, timeout=2 * PATIENCE_S)
            answers = relay.answers()
        assert len(answers) == 1, (run, done, answers)
        return Outcome(done.returncode, done.stdout, done.stderr, answers[0])

    with ThreadPoolExecutor(5) as pool:
        return dict(zip(RUNS, pool.map(play, enumerate(RUNS)), strict=True))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.seed}{run.prefix or '/'}{'-streamed' * run.is_streamed}")
def test_program(run: Run, outcomes: dict[Run, Outcome]) -> None:
    code, out, err, answered = outcomes[run]
    assert code == 0, err
    assert answered.status == 200
    if run.is_streamed:
        chunks = answered.chunks()
        check_stream(chunks)
        assert out == streamed_output(run, chunks, answered)
    else:
        answer = json.loads(answered.body)
        check_answer(answer)
        text = answer["choices"][0]["message"]["content"]
        if run.seed.endswith(".py"):
            assert out == f"{text}\n"
        elif run.seed.endswith(".mjs"):
            assert json.loads(out) == answer
        else:
            assert out.encode() == answered.body
    # APIpie's page asks for a provider, which is a wish: who has answered stands in the answer.
    assert "x-hodios-ignored" not in answered.headers


def streamed_output(run: Run, chunks: list[dict[str, Any]], answered: Answered) -> str:
    """What the page's program must have printed of these chunks."""
    choices = [chunk["choices"][0] for chunk in chunks]
    if run.seed.endswith(".py"):
        lines = [choice["delta"].get("content") or "" for choice in choices]
    elif run.seed.endswith(".mjs"):
        lines = [choice["finish_reason"] or choice["delta"].get("content", "undefined") for choice in choices]
    else:
        return answered.body.decode()
    return "".join(f"{line}\n" for line in lines)


def check_answer(answer: dict[str, Any]) -> None:
    """The fields of the pages' examples, in their order."""
    names = ["id", "object", "created", "provider", "model", "choices", "usage", "system_fingerprint"]
    assert list(answer) == names + ["warnings"] * ("warnings" in answer)
    assert re.fullmatch("chat-[0-9a-f]{32}", answer["id"])
    assert (answer["object"], answer["provider"], answer["model"]) == ("chat.completion", "local", MODEL)
    (choice,) = answer["choices"]
    assert list(choice)[:3] == ["index", "message", "logprobs"]
    assert choice["index"] == 0
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"].strip()
    assert choice["finish_reason"] in ("stop", "length")
    assert unfiltered(choice["content_filter_results"]) == NO_FILTER
    usage = answer["usage"]
    assert usage["prompt_tokens"] > 10
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def unfiltered(results: dict[str, dict[str, bool]]) -> dict[str, dict[str, bool]]:
    """Without what the guard found: the model's words are drawn, and now and then a harmless text is taken for another.
    Whatever is found, nothing is filtered."""
    found = {name: {**slot, "detected": False} for name, slot in results.items() if slot.get("detected")}
    return {
        name: {key: found.get(name, slot)[key] for key in NO_FILTER.get(name, slot)} for name, slot in results.items()
    }


def check_stream(chunks: list[dict[str, Any]]) -> None:
    """One answer in pieces; the end has a chunk of its own, since the JavaScript program drops the text beside it."""
    frames = {(chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"]) for chunk in chunks}
    assert len(frames) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    choices = [chunk["choices"][0] for chunk in chunks]
    assert all(unfiltered(choice["content_filter_results"]) == NO_FILTER for choice in choices)
    first, *middle, last = choices
    assert first["delta"] == {"role": "assistant"}
    assert last["delta"] == {}
    assert last["finish_reason"] in ("stop", "length")
    assert all(choice["finish_reason"] is None for choice in choices[:-1])
    assert len("".join(choice["delta"]["content"] for choice in middle).split()) > 1
