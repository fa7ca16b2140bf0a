"""Which Python `make` takes for the environment, where several are installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "python"
REAL = os.path.realpath(sys.executable)


def chosen(folder: Path, **programs: str) -> str:
    """With these programs first on the PATH, each the text of a shell script."""
    for name, text in programs.items():
        path = folder / name.replace("_", ".")
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run([str(SCRIPT)], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def is_usable(python: str) -> bool:
    code = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    return os.path.exists(python) and subprocess.run([python, "-c", code], check=False).returncode == 0


def test_the_first_that_works_is_taken_or_one_of_the_system_that_is_quicker(tmp_path: Path) -> None:
    found = chosen(tmp_path, python3_11="exit 1", python3_12=f'exec {REAL} "$@"')
    assert found == str(tmp_path / "python3.12") or found.startswith("/usr/bin/")


def test_one_that_is_much_slower_than_the_system_s_is_not_taken(tmp_path: Path) -> None:
    # Each of its answers to how quick it is says: not at all.
    slow = f'case "$*" in *process_time*) echo 90000000;; *) exec {REAL} "$@";; esac'
    found = chosen(tmp_path, python3_11=slow)
    others = [f"/usr/bin/{name}" for name in ("python3.11", "python3.12", "python3")]
    can_compare = any(is_usable(other) and os.path.realpath(other) != REAL for other in others)
    assert found.startswith("/usr/bin/") if can_compare else found == str(tmp_path / "python3.11")


def test_what_it_prints_can_be_run(tmp_path: Path) -> None:
    assert is_usable(chosen(tmp_path, python3_13=f'exec {REAL} "$@"'))
