"""The guard of code: its process for real, with a CodeShield of a few lines; in full runs with the published one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import venv
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hodios.errors import GuardDown
from hodios.guard.base import Passage
from hodios.guard.code_shield import CodeShield

DETECTOR = """
import enum, os, time
class Severity(str, enum.Enum):
    ERROR = "error"
class Issue:
    def __init__(self, cwe_id, severity):
        self.cwe_id, self.severity = cwe_id, severity
async def analyze(language, code, path, usecase):
    assert path.read_text() == code and usecase == "codeshield" and path.suffix == "." + language.value[:1]
    if "hang" in code:
        time.sleep(60)
    if "crash" in code:
        os._exit(3)
    if "chatter" in code:
        print("not JSON", flush=True)
    found = [Issue("CWE-94", "WARNING")] if "eval(" in code and os.environ.get("BLIND") is None else []
    return found + ([Issue("CWE-242", Severity.ERROR)] if "gets(" in code else [])
"""
LANGUAGES = """
import enum
class Language(str, enum.Enum):
    PYTHON = "python"
    C = "c"
def get_file_extension(language):
    return "." + language.value[:1]
"""
USECASES = """
class UseCase:
    CODESHIELD = "codeshield"
"""
Make = Callable[..., CodeShield]


@pytest.fixture
async def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """Makes a guard whose Python has a CodeShield of a few lines."""
    package = tmp_path / "site" / "codeshield" / "insecure_code_detector"
    package.mkdir(parents=True)
    (package / "insecure_code_detector.py").write_text(DETECTOR)
    (package / "languages.py").write_text(LANGUAGES)
    (package / "usecases.py").write_text(USECASES)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    made = []

    def _make(python: str = sys.executable, **environment: str) -> CodeShield:
        guard = CodeShield(python, {"PYTHONPATH": str(tmp_path / "site"), "PATH": os.defpath, **environment})
        made.append(guard)
        return guard

    yield _make
    for guard in made:
        await guard.aclose()
        await guard.aclose()
    assert list((tmp_path / "temporary").iterdir()) == []


def wrote(code: str, language: str = "python") -> Passage:
    return Passage(text=f"Here:\n```{language}\n{code}\n```\n", side="code")


async def further(guard: CodeShield, *passages: Passage) -> list[dict[str, float]]:
    return [dict(found.further) for found in await guard.assess(passages, 30)]


async def test_findings_of_each_passage(make: Make) -> None:
    passages = [wrote("eval(x)"), Passage(text="eval(x)", side="code"), wrote("gets(b); eval(c)", "c"), wrote("1")]
    expected = [{"CWE-94": 0.7}, {}, {"CWE-94": 0.7, "CWE-242": 1.0}, {}]
    guard = make()
    assert await further(guard, *passages) == expected
    assert await further(guard, *passages) == expected


async def test_no_code_starts_no_process(make: Make) -> None:
    assert await further(make("/nowhere/python"), Passage(text="eval(x)", side="code")) == [{}]


async def test_many_at_once(make: Make) -> None:
    guard = make()
    found = await asyncio.gather(*(further(guard, wrote("eval(x)" if number % 2 else "1")) for number in range(20)))
    assert found == [[{"CWE-94": 0.7}] if number % 2 else [{}] for number in range(20)]


@pytest.mark.parametrize("trouble", ["crash", "chatter"])
async def test_a_process_that_fails_is_started_again(make: Make, trouble: str) -> None:
    guard = make()
    with pytest.raises(GuardDown, match="has ended, or answered what is no JSON"):
        await further(guard, wrote(trouble))
    assert await further(guard, wrote("eval(x)")) == [{"CWE-94": 0.7}]


async def test_a_scan_that_takes_too_long_is_ended(make: Make) -> None:
    guard = make()
    await further(guard, wrote("1"))
    with pytest.raises(GuardDown, match="1 blocks of code took longer"):
        await guard.assess([wrote("hang")], 0.5)
    assert await further(guard, wrote("eval(x)")) == [{"CWE-94": 0.7}]


async def test_who_gives_up_leaves_nothing_behind(make: Make) -> None:
    guard = make()
    task = asyncio.create_task(further(guard, wrote("hang")))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await further(guard, wrote("eval(x)")) == [{"CWE-94": 0.7}]


async def test_a_codeshield_that_finds_nothing_is_not_believed(make: Make) -> None:
    with pytest.raises(GuardDown, match="does not find what it must find"):
        await further(make(BLIND="1"), wrote("gets(b)"))


async def test_a_python_without_it(make: Make) -> None:
    with pytest.raises(GuardDown, match="is `codeshield` installed there"):
        await further(make(PYTHONPATH=""), wrote("eval(x)"))
    with pytest.raises(GuardDown, match="/nowhere/python cannot be started: No such file"):
        await further(make("/nowhere/python"), wrote("eval(x)"))


def python_with_codeshield(folder: Path) -> str:
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "codeshield>=1.0.1,<2"], check=True)
    return python


@pytest.mark.full
async def test_the_published_codeshield(tmp_path: Path) -> None:
    guard = CodeShield(await asyncio.to_thread(python_with_codeshield, tmp_path), {"PATH": os.defpath})
    try:
        found = await guard.assess(
            [
                wrote("import hashlib\nhashlib.md5(b'')"),
                wrote("import subprocess\nsubprocess.run(command, shell=True)"),
                wrote("import pickle\npickle.loads(data)"),
                wrote("def find(cursor, name):\n    cursor.execute('select * from t where a=%s' % name)"),
                wrote("eval(location.hash)", "javascript"),
                wrote("char b[8]; gets(b);", "c"),
                wrote("print('hello')"),
            ],
            60,
        )
    finally:
        await guard.aclose()
    assert [dict(each.further) for each in found] == [
        {"CWE-328": 0.7},
        {"CWE-78": 0.7},
        {"CWE-502": 0.7},
        {"CWE-89": 0.7},
        {"CWE-95": 0.7},
        {"CWE-242": 1.0},
        {},
    ]
