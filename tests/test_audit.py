"""The look through the dependencies: what it finds where there is something, and what it says where it cannot look."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def audit(repository: Path) -> Any:
    spec = importlib.util.spec_from_file_location("audit", repository / "scripts" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def told(monkeypatch: pytest.MonkeyPatch, output: str, errors: str = "") -> None:
    """In the words of pip-audit."""
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 1, output, errors))


def test_dependencies_are_bounded_expected_and_licensed(audit: Any) -> None:
    packages = audit.runtime_packages("hodios")
    assert {"aiohttp", "greenlet", "numpy", "starlette", "multidict"} <= set(packages)
    assert not {"hodios", "pytest", "ruff"} & set(packages)
    assert [*audit.without_bound(), *audit.unknown(packages), *audit.with_other_licences(packages)] == []


def test_what_is_new_unbounded_or_of_another_licence_is_told(
    audit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = audit.runtime_packages("hodios")
    assert "scripts/runtime_packages.txt" in audit.unknown([*packages, "left-pad"])[0]
    monkeypatch.setattr(audit, "LICENCES", ("MIT",))
    assert any("aiohttp" in problem for problem in audit.with_other_licences(packages))
    project = '[project]\ndependencies = ["a>=1", "b>=1,<2"]\noptional-dependencies.x = ["c", "d==1"]\n'
    (tmp_path / "pyproject.toml").write_text(project)
    monkeypatch.setattr(audit, "ROOT", tmp_path)
    assert [problem.split()[1] for problem in audit.without_bound()] == ["a>=1", "c"]


def test_a_known_vulnerability_fails(
    audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flaw = {"id": "GHSA-cpwx-vrp4-4pq7", "fix_versions": ["3.1.6"], "aliases": [], "description": "…"}
    entries = [{"name": "jinja2", "version": "3.1.5", "vulns": [flaw]}, {"name": "rich", "version": "1", "vulns": []}]
    told(monkeypatch, json.dumps({"dependencies": entries, "fixes": []}))
    assert audit.main([]) == 1
    assert "jinja2 3.1.5: GHSA-cpwx-vrp4-4pq7, mended in 3.1.6" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("output", "errors"),
    [
        ("", "Traceback …\nConnectionError: no route to host"),
        (json.dumps({"dependencies": [{"name": "rich", "skip_reason": "not found on PyPI"}], "fixes": []}), ""),
    ],
)
def test_an_index_that_cannot_tell_is_no_success_where_one_must_look(
    audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: str, errors: str
) -> None:
    told(monkeypatch, output, errors)
    assert audit.main([]) == 0
    assert "COULD NOT LOOK" in capsys.readouterr().out
    assert audit.main(["--must-look"]) == 1
