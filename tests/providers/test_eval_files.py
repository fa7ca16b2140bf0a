"""Results of lm-evaluation-harness: what is read of them, and what is said of files that are none."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hodios.providers import eval_files as module
from hodios.providers.eval_files import EvalFiles, EvalResult, parsed

RESULTS = {
    "results": {
        "arc_easy": {
            "alias": "arc_easy",
            "acc,none": 0.835,
            "acc_stderr,none": 0.0076,
            "acc_norm,none": 0.8123,
            "acc_norm_stderr,none": "N/A",
        },
        "gsm8k": {
            "alias": "gsm8k",
            "exact_match,strict-match": 0.25,
            "exact_match_stderr,strict-match": 0.0119,
            "exact_match,flexible-extract": 0.5,
            "exact_match_stderr,flexible-extract": 0.0138,
        },
    },
    "group_subtasks": {"arc_easy": [], "gsm8k": []},
    "configs": {"arc_easy": {"task": "arc_easy"}},
    "versions": {"arc_easy": 1.0, "gsm8k": 3.0},
    "n-shot": {"arc_easy": 0, "gsm8k": 5},
    "n-samples": {"arc_easy": {"original": 2376, "effective": 100}},
    "config": {
        "model": "local-completions",
        "model_args": "model=tiny/bytes,base_url=http://127.0.0.1:8000/v1/completions,num_concurrent=4",
        "limit": 100.0,
    },
    "date": 1795219200.25,
    "model_name": "tiny/bytes",
    "model_source": "local-completions",
}
"""As version 0.4 writes it, shortened."""


def put(home: Path, name: str, document: Any) -> Path:
    path = home / "evals" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def result(**fields: Any) -> EvalResult:
    nothing: dict[str, Any] = dict.fromkeys(("filter", "standard_error", "num_shots", "num_samples"))
    return EvalResult(**nothing | fields)


def test_every_figure_is_read() -> None:
    run = parsed("a.json", json.dumps(RESULTS).encode())
    assert (run.file, run.model, run.limit) == ("a.json", "tiny/bytes", 100.0)
    assert run.at == datetime(2026, 11, 21, tzinfo=UTC)
    easy = {"task": "arc_easy", "num_shots": 0, "num_samples": 100}
    maths = {"task": "gsm8k", "metric": "exact_match", "num_shots": 5}
    assert run.results == [
        result(**easy, metric="acc", value=0.835, standard_error=0.0076),
        result(**easy, metric="acc_norm", value=0.8123),
        result(**maths, filter="strict-match", value=0.25, standard_error=0.0119),
        result(**maths, filter="flexible-extract", value=0.5, standard_error=0.0138),
    ]


@pytest.mark.parametrize(
    ("named", "name"),
    [
        ({"config": {"model_args": "pretrained=a/b,dtype=float"}}, "a/b"),
        ({"config": {"model_args": "base_url=http://x/model=1, model=a/b"}}, "a/b"),
        ({"config": {"model_args": {"model": "a/b"}}}, "a/b"),
        ({"model_name": "", "config": {"model_args": {"pretrained": "a/b"}}}, "a/b"),
    ],
)
def test_older_versions_name_the_model_elsewhere(named: dict[str, Any], name: str) -> None:
    document = {"results": {"piqa": {"acc": 0.8, "acc_stderr": 0.01}}, **named}
    run = parsed("a.json", json.dumps(document).encode())
    assert run.model == name
    assert run.results == [result(task="piqa", metric="acc", value=0.8, standard_error=0.01)]
    assert (run.at, run.limit) == (None, None)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("{", "x.json is no result of lm-evaluation-harness: it is not JSON ("),
        ("[" * 100_000, "it is not JSON ("),
        ([], "it is a list; accepted: an object"),
        ({}, "results is missing; accepted: an object with a member for each task"),
        ({"results": {}}, "results is an empty object"),
        ({"results": 1}, "results is a number"),
        ({"results": {"piqa": [1]}, "model_name": "m"}, "results.piqa is a list; accepted: an object"),
        ({"results": {"piqa": {"alias": "piqa"}}, "model_name": "m"}, "results has no figure"),
        ({"results": {"piqa": {"acc,none": True}}, "model_name": "m"}, "results has no figure"),
        ('{"results": {"piqa": {"acc,none": NaN}}, "model_name": "m"}', "results has no figure"),
        ('{"results": {"piqa": {"acc,none": 1e999}}, "model_name": "m"}', "results has no figure"),
        ({"results": {"piqa": {"acc,none": 1}}}, "it names no model; accepted: model_name, or config.model_args"),
    ],
)
def test_what_is_no_result_is_refused_with_a_sentence(tmp_path: Path, document: Any, told: str) -> None:
    put(tmp_path, "x.json", document)
    (refused,) = EvalFiles(tmp_path).read().refused
    assert refused.file == "x.json"
    assert told in refused.message


def test_files_are_found_where_the_harness_puts_them_and_read_again_when_they_change(tmp_path: Path) -> None:
    files = EvalFiles(tmp_path)
    assert files.read() == ((), ())
    put(tmp_path, "tiny__bytes/results_2026-11-20.json", RESULTS | {"date": 1795132800})
    newer = put(tmp_path, "results.json", RESULTS)
    put(tmp_path, "samples.jsonl", "no JSON")
    put(tmp_path, ".hidden.json", "no JSON")
    put(tmp_path, "undated.json", RESULTS | {"date": None})
    found = files.read()
    assert [run.file for run in found.runs] == ["results.json", "tiny__bytes/results_2026-11-20.json", "undated.json"]
    again = files.read()
    assert [a is b for a, b in zip(again.runs, found.runs, strict=True)] == [True] * 3
    newer.write_text("no JSON any more")
    changed = files.read()
    assert (len(changed.runs), [each.file for each in changed.refused]) == (2, ["results.json"])
    newer.unlink()
    assert not files.read().refused


def test_what_is_too_large_or_unreadable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    put(tmp_path, "large.json", RESULTS)
    (tmp_path / "evals" / "circle.json").symlink_to("circle.json")
    refused = {each.file: each.message for each in EvalFiles(tmp_path).read().refused}
    assert refused["large.json"].endswith("bytes; accepted: at most 10")
    assert refused["circle.json"].startswith("circle.json cannot be read: ")


def test_of_too_many_files_the_last_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FILES", 2)
    for day in (1, 3, 2):
        put(tmp_path, f"m/results_{day}.json", RESULTS)
    assert {run.file for run in EvalFiles(tmp_path).read().runs} == {"m/results_2.json", "m/results_3.json"}
    os.rename(tmp_path / "evals" / "m", tmp_path / "evals" / "n")
    assert {run.file for run in EvalFiles(tmp_path).read().runs} == {"n/results_2.json", "n/results_3.json"}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_MEMBERS = st.sampled_from(
    ["results", "config", "n-shot", "n-samples", "date", "model_name", "model_args", "piqa", "limit"]
)
_LIKE = st.dictionaries(
    _MEMBERS, st.dictionaries(_MEMBERS | st.just("acc,none"), _JSON, max_size=3) | _JSON, max_size=6
)


@given(_LIKE)
def test_whatever_is_in_a_file_it_is_read_or_refused(document: dict[str, Any]) -> None:
    content = json.dumps(document).encode()
    try:
        run = parsed("a.json", content)
    except ValueError:
        return
    assert run.results
    assert all(abs(each.value) < 2**53 for each in run.results)
