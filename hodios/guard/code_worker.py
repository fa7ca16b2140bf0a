"""A program: has CodeShield scan code, one line of JSON per request and per answer. Knows nothing of Hodios, so that
any Python that has `codeshield` can run it. Writes in no folder but that in which it is started, which goes with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

KNOWN_BAD = "def run(command):\n    return eval(command)\n"
"""What only the slower half of CodeShield, Semgrep, finds."""
KNOWN_CWE = "CWE-94"


def main() -> None:
    # Neither this file's folder nor the one with other people's code is a place to import from.
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [path for path in sys.path if path and str(Path(path).resolve()) not in (here, os.getcwd())]
    _say({"ready": KNOWN_CWE in {finding["cwe"] for finding in _scan("python", KNOWN_BAD)}})
    for line in sys.stdin:
        asked = json.loads(line)
        _say({"findings": [_scan(block["language"], block["code"]) for block in asked["blocks"]]})
    shutil.rmtree(os.getcwd(), ignore_errors=True)


def _scan(language: str, code: str) -> list[dict[str, Any]]:
    from codeshield.insecure_code_detector import insecure_code_detector, languages
    from codeshield.insecure_code_detector.usecases import UseCase

    kind = languages.Language(language)
    # A relative path: with an absolute one CodeShield 1.0.1 names a project root in which Semgrep finds nothing.
    path = Path("answer" + languages.get_file_extension(kind))
    path.write_text(code, encoding="utf-8", errors="replace")
    try:
        issues = asyncio.run(insecure_code_detector.analyze(kind, code, path=path, usecase=UseCase.CODESHIELD))
    finally:
        path.unlink()
    return [{"cwe": str(issue.cwe_id), "severity": _severity(issue.severity)} for issue in issues]


def _severity(severity: Any) -> str:
    """Its two halves write it in two ways."""
    return str(getattr(severity, "value", severity)).lower()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
