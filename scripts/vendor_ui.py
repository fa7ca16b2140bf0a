"""Brings what the web page uses of others into `hodios/ui/vendor/`, with its licences. Run after changing a version:

    python scripts/vendor_ui.py

Needs npm, which checks what it downloads. Files are taken as they are published, but for two things: an import by a
package's name becomes one by its place, since pages without a build step know no names, and references to source maps
go.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

VENDOR = Path(__file__).parent.parent / "hodios" / "ui" / "vendor"
LANGUAGES = (
    "bash",
    "css",
    "diff",
    "go",
    "java",
    "javascript",
    "json",
    "markdown",
    "python",
    "rust",
    "sql",
    "typescript",
)
LANGUAGES += ("xml", "yaml")


class Package(NamedTuple):
    name: str
    version: str
    files: dict[str, str]
    """Path in the package → name here."""
    licence: str = "LICENSE"


PACKAGES = (
    Package("preact", "11.2.0", {"dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "preact-hooks.js"}),
    Package("htm", "3.1.1", {"dist/htm.mjs": "htm.js"}),
    Package("uplot", "1.6.32", {"dist/uPlot.esm.js": "uplot.js", "dist/uPlot.min.css": "uplot.css"}),
    Package("marked", "18.2.1", {"lib/marked.esm.js": "marked.js"}),
    Package("dompurify", "3.4.18", {"dist/purify.es.mjs": "purify.js"}),
    Package(
        "@highlightjs/cdn-assets",
        "11.12.0",
        {
            "es/core.min.js": "highlight/core.js",
            **{f"es/languages/{name}.min.js": f"highlight/{name}.js" for name in LANGUAGES},
        },
    ),
)
PLACES = {"preact": "./preact.js"}


def main() -> None:
    shutil.rmtree(VENDOR, ignore_errors=True)
    notices = ["Files in this folder are others' work, unchanged but for the places of imports.\n"]
    with tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            notices.append(_bring(package, Path(folder)))
    (VENDOR / "LICENSE.txt").write_text("\n".join(notices))


def _bring(package: Package, folder: Path) -> str:
    """Its files, put into their places. Returns its licence under its name."""
    wanted = f"{package.name}@{package.version}"
    packing = ["npm", "pack", "--silent", wanted]
    archive = folder / subprocess.run(packing, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
    with tarfile.open(archive) as opened:
        for path, name in package.files.items():
            place = VENDOR / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(_placed(_text(opened, path)))
        return f"{'=' * 78}\n{wanted}: {', '.join(package.files.values())}\n\n{_text(opened, package.licence)}"


def _text(archive: tarfile.TarFile, path: str) -> str:
    file = archive.extractfile(f"package/{path}")
    assert file is not None
    return file.read().decode()


def _placed(source: str) -> str:
    for name, place in PLACES.items():
        source = re.sub(rf'from\s*"{name}"', f'from"{place}"', source)
    return re.sub(r"\n//# sourceMappingURL=\S+", "", source)


if __name__ == "__main__":
    main()
