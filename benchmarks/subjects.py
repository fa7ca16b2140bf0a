"""Who takes part: sets everybody up, starts them one after the other, and leaves them standing still."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from msgspec import structs

from benchmarks import hf_folder, llamacpp, plan, prompts, vllm
from benchmarks.hodios_subject import HodiosSubject
from benchmarks.processes import BenchmarkError
from benchmarks.tasks import Prompt, Subject
from hodios.config import Config
from hodios.dialog.tokenizer import Tokenizer
from hodios.engine.gguf import open_model
from hodios.engine.options import WorkerOptions
from hodios.providers.installed import find, installed
from hodios.providers.prepare import prepare
from hodios.providers.prepared import Prepared, worker_options
from hodios.providers.starter import STARTER_ID, fetch_starter


class Crew:
    """The subjects of one run by name, all of them with one model file and the same number of threads."""

    def __init__(self, stack: contextlib.ExitStack, *, cache: Path, env: dict[str, str], threads: int) -> None:
        """`env` may name HODIOS_HOME and, with a ready environment, BENCH_LLAMACPP_VENV; children get neither."""
        self.subjects: dict[str, Subject] = {}
        self._stack = stack
        self._cache = cache
        self._venv = Path(env.get("BENCH_LLAMACPP_VENV") or cache / "llamacpp")
        home = Path(env.get("HODIOS_HOME") or cache / "home").resolve()
        self._env = {name: value for name, value in env.items() if not name.startswith(("HODIOS_", "BENCH_"))}
        self._config = Config(home=home, threads=threads)
        self._threads = threads
        self._prepared = _prepared(self._config)
        self._tokenizer = Tokenizer.load(self._prepared.tokenizer_path)
        self.model_name = f"{self._prepared.card.id} ({Path(self._prepared.model_file).name})"
        self.vocab_size = self._tokenizer.vocab_size

    def corpus(self, repository: Path) -> dict[str, Prompt]:
        text = (repository / "tests" / "engine" / "data" / "corpus.txt").read_text(encoding="utf-8")
        return {"corpus": self._tokenizer.encode(text), "request": self._tokenizer.encode(prompts.REQUEST)}

    def open(self, *, with_best: bool, with_vllm: bool, only: list[str]) -> None:
        """Start who takes part. `only` leaves out those whose names are not in it. Raises BenchmarkError."""
        options = worker_options(self._prepared, self._config)
        variants = {
            plan.OURS: options,
            plan.EXACT: structs.replace(options, is_exact=True),
            plan.PLAIN: structs.replace(options, speculates=False),
        }
        for name, variant in variants.items():
            if not only or name in only:
                self._join(self._hodios(name, variant))
        peers = [plan.LLAMACPP, *([plan.BEST] if with_best else [])]
        for name in peers:
            if not only or name in only:
                self._join(self._llamacpp(name))
        if with_vllm and (not only or plan.VLLM in only):
            self._join(self._vllm())
        if not self.subjects:
            raise BenchmarkError(f"nobody is called {', '.join(only)}; there are {', '.join((*variants, *peers))}")

    def _join(self, subject: Subject) -> None:
        self._stack.callback(subject.close)
        print(f"{subject.name}: {subject.describe()}", file=sys.stderr, flush=True)
        subject.pause()
        self.subjects[subject.name] = subject

    def _log(self, name: str) -> Path:
        return self._cache / "benchmarks" / f"{name.replace(' ', '-').replace(',', '')}.log"

    def _hodios(self, name: str, options: WorkerOptions) -> Subject:
        return HodiosSubject(name, options, self._log(name), self._env)

    def _vllm(self) -> Subject:
        python = vllm.install(self._cache / "vllm", self._env)
        folder = self._cache / "benchmarks" / f"{Path(self._prepared.model_file).stem}.hub"
        hf_folder.write(open_model(Path(self._prepared.model_file)), folder)
        return vllm.start(plan.VLLM, python, folder, self._threads, self._log(plan.VLLM), self._env)

    def _llamacpp(self, name: str) -> Subject:
        python = llamacpp.install(self._venv, self._env)
        model = Path(self._prepared.model_file)
        if name == plan.BEST:
            model = llamacpp.requantize(python, model, self._cache / "benchmarks", "BF16")
        return llamacpp.start(name, python, model, self._threads, self._log(name), self._env)


def _prepared(config: Config) -> Prepared:
    fetch_starter(config.home, lambda name, done, total: None)
    model = find(installed(config.home), STARTER_ID)
    if model is None:
        raise BenchmarkError(f"the starter model is not found in {config.home}")
    return prepare(model, config)
