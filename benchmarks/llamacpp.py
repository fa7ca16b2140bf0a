"""llama.cpp as a peer: built from source in an environment of its own, its model made anew in another type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.processes import BenchmarkError, Peer

REQUIREMENT = "llama-cpp-python==0.3.36"
DRIVER = Path(__file__).with_name("llamacpp_driver.py")
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
"""Its kernels for Intel's matrix units end in a segmentation fault on the first batch of a Q4_1 file (seen on a Xeon of
model 167), so they are left out where the processor has such units; the AVX-512 ones then serve, repacking included."""
FTYPES = {"BF16": 32, "F16": 1, "Q8_0": 7, "Q4_0": 2}
"""llama.cpp's own numbers of file types (`llama_ftype`)."""


def install(venv: Path, env: dict[str, str]) -> Path:
    """The environment's interpreter; where it lacks llama.cpp, that is compiled for this very processor, in minutes."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    if subprocess.run([str(python), "-c", "import llama_cpp"], capture_output=True, check=False).returncode == 0:
        return python
    print(f"Building {REQUIREMENT} in {venv} (about 4 minutes, once; needs a C++ compiler and CMake)", file=sys.stderr)
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    result = subprocess.run(
        [*command, "--no-cache-dir", "--no-binary", "llama-cpp-python", REQUIREMENT],
        env=env | {"CMAKE_ARGS": "-DGGML_NATIVE=ON", "CFLAGS": NO_AMX, "CXXFLAGS": NO_AMX},
        check=False,
    )
    if result.returncode:
        raise BenchmarkError(
            f"{REQUIREMENT} could not be built; pip's own words stand above. "
            "On Debian: apt-get install build-essential. Then run it again."
        )
    return python


def requantize(python: Path, source: Path, folder: Path, kind: str) -> Path:
    """The model in another type, made by llama.cpp itself; kept between runs."""
    target = folder / f"{source.stem}.{kind}.gguf"
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        subprocess.run(
            [str(python), str(DRIVER), "--quantize", str(source), str(partial), str(FTYPES[kind])], check=True
        )
        partial.replace(target)
    return target


def start(name: str, python: Path, model: Path, threads: int, log_path: Path, env: dict[str, str]) -> Peer:
    return Peer(name, python, DRIVER, [str(model), str(threads)], log_path, env)
