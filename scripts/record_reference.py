"""Records what llama.cpp and plain float64 numpy answer, for the tests of the engine's numbers.

Writes into `tests/engine/data`:
`llamacpp_logits.npz`   logits of llama.cpp on the tiny F32 models of `gguf_factory`, one per architecture feature;
`perplexity.npz`        negative log-likelihoods and most likely tokens of the starter model on `corpus.txt`, in windows
                        of 512 tokens, by llama.cpp as it is and by `reference.py` (exact weights, no rounding).

Makes an environment of its own in `.cache/llamacpp` and builds llama-cpp-python there for this very machine, which
takes a compiler, CMake and some minutes; `--python` names an interpreter that has it already.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hodios.providers.starter import fetch_starter

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = REPOSITORY / "tests" / "engine" / "data"
LLAMACPP = "llama-cpp-python==0.3.36"
TINY_POSITIONS = (5, 20, 34, 47)
"""The rows of the tiny models' logits that are kept."""

sys.path.insert(0, str(REPOSITORY / "tests" / "engine"))
import gguf_factory  # noqa: E402
import reference  # noqa: E402


def llamacpp_python() -> Path:
    """An interpreter with llama.cpp built from source, so with every instruction that this processor has."""
    folder = REPOSITORY / ".cache" / "llamacpp"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-binary", "llama-cpp-python", LLAMACPP, "numpy"]
    subprocess.run(install, check=True)
    return python


def write_inputs(folder: Path, starter: Path) -> None:
    """The files that `evaluate_llamacpp.py` reads."""
    (folder / "starter.gguf").symlink_to(starter)
    (folder / "corpus.txt").symlink_to(DATA / "corpus.txt")
    np.save(folder / "tokens.npy", np.random.default_rng(3).integers(3, 320, 48))
    (folder / "tiny").mkdir()
    for name, model in gguf_factory.FEATURES.items():
        if "attention.sliding_window" in model.metadata:
            model = gguf_factory.windowed_twin(model)
        gguf_factory.write(model, folder / "tiny" / f"{name}.gguf")


def exact_likelihoods(
    starter: Path, windows: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """By `reference.py`: negative log-likelihoods, most likely tokens, and their lead over the second in logits."""
    model = reference.ReferenceModel(starter)
    nll, top, lead = [], [], []
    for row in windows:
        logits = model.forward(row.tolist())[:-1]
        best = logits.max(axis=1)
        total = np.log(np.exp(logits - best[:, None]).sum(axis=1)) + best
        nll.append(total - logits[np.arange(len(logits)), row[1:]])
        top.append(logits.argmax(axis=1))
        lead.append(best - np.partition(logits, -2, axis=1)[:, -2])
    return np.array(nll, np.float32), np.array(top, np.int32), np.array(lead, np.float32)


def record(folder: Path, starter: Path) -> None:
    """Turn what llama.cpp wrote into the files of the tests."""
    tiny = dict(np.load(folder / "tiny.npz"))
    tokens = np.load(folder / "tokens.npy")
    rows: Mapping[str, NDArray[np.float32]] = {name: logits[list(TINY_POSITIONS)] for name, logits in tiny.items()}
    np.savez_compressed(DATA / "llamacpp_logits.npz", tokens=tokens, positions=np.array(TINY_POSITIONS), **rows)
    corpus = dict(np.load(folder / "corpus.npz"))
    exact_nll, exact_top, exact_lead = exact_likelihoods(starter, corpus["tokens"])
    np.savez_compressed(
        DATA / "perplexity.npz",
        tokens=corpus["tokens"],
        llamacpp_nll=corpus["nll"],
        llamacpp_top=corpus["top"],
        exact_nll=exact_nll,
        exact_top=exact_top,
        exact_lead=exact_lead,
    )
    agreement = float((corpus["top"] == exact_top).mean())
    sys.stdout.write(
        f"{corpus['tokens'].size} tokens, perplexity: llama.cpp {np.exp(corpus['nll'].mean(dtype=np.float64)):.4f}, "
        f"float64 {np.exp(exact_nll.mean(dtype=np.float64)):.4f}, same most likely token {agreement:.2%}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, help="an interpreter with llama-cpp-python and numpy")
    options = parser.parse_args()
    starter = fetch_starter(REPOSITORY / ".cache" / "home", progress=lambda name, done, total: None)
    python = options.python or llamacpp_python()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, starter)
        evaluate = REPOSITORY / "scripts" / "evaluate_llamacpp.py"
        subprocess.run([str(python), str(evaluate), str(folder)], check=True)
        record(folder, starter)


if __name__ == "__main__":
    main()
