"""What Hodios runs on, looked through: every dependency has an upper bound, nothing came in unnoticed, no licence is a
surprise, and none of the versions installed here has a vulnerability that the package index knows of.

`python scripts/audit.py [--must-look]`. Where the index cannot tell, it says so; with --must-look that is a failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
KNOWN = ROOT / "scripts" / "runtime_packages.txt"
LICENCES = (
    "Apache-2.0", "Apache Software License", "BSD-2-Clause", "BSD-3-Clause", "BSD License", "ISC License (ISCL)",
    "MIT", "MIT License", "Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0", "PSF-2.0",
    "Python Software Foundation License",
)  # fmt: skip
"""That may be shipped beside a program under Apache-2.0."""
UPPER = ("<", "<=", "==", "~=")
PATIENCE_S = 10


def main(arguments: list[str]) -> int:
    packages = runtime_packages("hodios")
    found, missing = vulnerabilities(packages)
    problems = [*without_bound(), *unknown(packages), *with_other_licences(packages), *found]
    lines = list(problems)
    if missing:
        where = f"{len(missing)} of {len(packages)} packages"
        lines.append(f"COULD NOT LOOK for known vulnerabilities of {where}: {missing[0]}")
    elif not found:
        lines.append(f"no known vulnerability in {len(packages)} packages")
    sys.stdout.write("".join(f"audit: {line}\n" for line in lines))
    return int(bool(problems) or (bool(missing) and "--must-look" in arguments))


def without_bound() -> list[str]:
    """Requirements that a release of somebody else's could break, or worse."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for group in project["optional-dependencies"].values() for line in group)]
    return [
        f"pyproject.toml: {line} has no upper bound"
        for line in lines
        if not any(specifier.operator in UPPER for specifier in Requirement(line).specifier)
    ]


def runtime_packages(name: str) -> dict[str, metadata.Distribution]:
    """All that is installed because `name` needs it, by name."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(name), "")]
    while waiting:
        current, extra = waiting.pop()
        if (current, extra) in seen:
            continue
        seen.add((current, extra))
        found[current] = metadata.distribution(current)
        for each in map(Requirement, found[current].requires or ()):
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(each.name), wanted) for wanted in ("", *each.extras)]
    del found[canonicalize_name(name)]
    return found


def unknown(packages: Iterable[str]) -> list[str]:
    known = set(KNOWN.read_text(encoding="utf-8").split())
    return [
        f"{name} is new among what is installed; look at it, then name it in {KNOWN.relative_to(ROOT)}"
        for name in sorted(set(packages) - known)
    ]


def with_other_licences(packages: dict[str, metadata.Distribution]) -> list[str]:
    return [
        f"{name} has a licence that nobody has looked at: {', '.join(sorted(told)) or 'none'}"
        for name, package in packages.items()
        if not (told := licences(package)) or not told <= set(LICENCES)
    ]


def licences(package: metadata.Distribution) -> set[str]:
    """As its metadata says: an expression, else classifiers, else a word."""
    fields = package.metadata
    classifiers = {
        line.rpartition("::")[2].strip()
        for line in fields.get_all("Classifier") or ()
        if line.startswith("License ::") and not line.endswith("OSI Approved")
    }
    expression = fields.get("License-Expression")
    if expression:
        return {word for word in expression.replace(" AND ", " OR ").split(" OR ") if word}
    if classifiers:
        return classifiers
    first, *_ = (fields.get("License") or "").splitlines() or [""]
    return {word for word in first.split(" AND ") if word}


def vulnerabilities(packages: dict[str, metadata.Distribution]) -> tuple[list[str], list[str]]:
    """What pip-audit knows, and of which packages it could know nothing, with the reason."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{name}=={package.version}\n" for name, package in packages.items()))
        file.flush()
        told = subprocess.run(
            [
                *(sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--requirement", file.name),
                *("--format", "json", "--progress-spinner", "off", "--timeout", str(PATIENCE_S)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        entries: list[dict[str, Any]] = json.loads(told.stdout)["dependencies"]
    except ValueError:
        reason = (told.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        return [], [reason] * len(packages)
    found = [
        f"{entry['name']} {entry['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version'}"
        for entry in entries
        for flaw in entry.get("vulns", ())
    ]
    return found, [f"{entry['name']}: {entry['skip_reason']}" for entry in entries if "skip_reason" in entry]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
