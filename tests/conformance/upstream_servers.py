"""Real servers of others behind a live Hodios that starts them itself: what each is started with, and what it can."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from live_server import LiveServer, until

from benchmarks import hf_folder
from benchmarks import llamacpp as llamacpp_peer
from benchmarks import vllm as vllm_peer
from hodios.config import Config
from hodios.engine.gguf import open_model
from hodios.providers.catalog import read_rows, shipped_folder
from hodios.providers.installed import find, installed
from hodios.providers.prepare import prepare
from hodios.providers.remote import RemoteProvider
from hodios.remotes import Remote, RemoteModel

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""What all of them serve, under this name."""
CONTEXT = 2048
START_S = 1200.0
"""More than `start_timeout_s`, after which Hodios gives a start up: vLLM compiles for minutes where others compute."""
SECOND_KEY = "second-key-0123456789abcdef0123456789"


@dataclass(frozen=True)
class Upstream:
    """One `[[launch]]` section."""

    section: Mapping[str, Any]
    features: frozenset[str]
    """Those that Hodios shall find it to have, of `logprobs` and `json_schema`; the latter is told by nobody."""
    word: str
    """In the command line of its main process, and of no other one's."""
    tells_load: bool = True
    """Whether it has metrics that say how busy it is."""
    counts_tokens: bool = True
    """Whether its streams tell usage; else it is estimated."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Of Hodios, which hands them on."""

    @property
    def name(self) -> str:
        name: str = self.section["name"]
        return name


def llamacpp(model: Path) -> Upstream:
    """llama.cpp's server out of `xllamacpp`. It is to say itself what it has."""
    command = [
        *("{python}", "-m", "hodios.providers.llama_server", "--model", str(model), "--alias", MODEL),
        *("--port", "{port}", "--context", str(CONTEXT), "--parallel", "2", "--threads", "1"),
    ]
    section = {"name": "llamacpp", "kind": "llama_server", "command": command}
    return Upstream(section, frozenset({"logprobs", "json_schema"}), "hodios.providers.llama_server")


def second_hodios(home: Path) -> Upstream:
    """As `docs/launch.md` has it."""
    settings = {"HODIOS_HOME": str(home), "HODIOS_ADMIN_KEY": SECOND_KEY, "HODIOS_MODELS": MODEL}
    section = {
        "name": "second",
        "kind": "hodios",
        "command": ["{python}", "-m", "hodios.cli.main", "serve", "--port", "{port}", "--threads", "1"],
        "env": {**settings, "HODIOS_CONTEXT_LENGTH": str(CONTEXT)},
        "api_key_env": "SECOND_API_KEY",
        "ready": "/health/ready",
    }
    features = frozenset({"logprobs", "json_schema"})
    # Ready, it is no longer the program that was started.
    return Upstream(section, features, "hodios.cli.parent", variables={"SECOND_API_KEY": SECOND_KEY})


def llama_cpp_python(cache: Path, model: Path) -> Upstream:
    """`llama_cpp.server`, in the environment where the benchmarks build llama.cpp. It tells nobody what it can."""
    python = llamacpp_peer.install(cache / "llamacpp", dict(os.environ))
    requirement = llamacpp_peer.REQUIREMENT.replace("==", "[server]==")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]
    subprocess.run(pip, check=True)
    command = [
        *(str(python), "-m", "llama_cpp.server", "--model", str(model), "--model_alias", MODEL),
        *("--port", "{port}", "--n_ctx", str(CONTEXT), "--n_threads", "1", "--interrupt_requests", "false"),
    ]
    section = {"name": "llama_cpp_python", "kind": "llama_cpp_python", "command": command, "context_length": CONTEXT}
    return Upstream(section, frozenset(), "llama_cpp.server", tells_load=False, counts_tokens=False)


def vllm(cache: Path, home: Path) -> Upstream:
    """vLLM's build for processors, in the environment of the benchmarks."""
    python = vllm_peer.install(cache / "vllm", dict(os.environ))
    folder = hub_folder(cache / "upstreams", home)
    command = [
        *(
            str(python),
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            str(folder),
            "--served-model-name",
            MODEL,
        ),
        *("--port", "{port}", "--host", "127.0.0.1", "--max-model-len", str(CONTEXT), "--dtype", "bfloat16"),
    ]
    env = vllm_peer.variables(python, 1, os.environ.get("PATH", ""))
    section = {"name": "vllm", "kind": "vllm", "command": command, "env": env, "cwd": str(folder)}
    return Upstream(section, frozenset({"logprobs", "json_schema"}), "vllm.entrypoints.openai.api_server")


def hub_folder(parent: Path, home: Path) -> Path:
    """The installed model as it would lie on the hub, with its tokenizer and its template."""
    model = find(installed(home), MODEL)
    assert model is not None
    prepared = prepare(model, Config(home=home))
    file = open_model(Path(prepared.model_file))
    folder = parent / f"{Path(prepared.model_file).stem}.hub"
    hf_folder.write(file, folder)
    tokens = file.metadata["tokenizer.ggml.tokens"]
    special = {f"{kind}_token": tokens[file.metadata[f"tokenizer.ggml.{kind}_token_id"]] for kind in ("bos", "eos")}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": file.metadata["tokenizer.chat_template"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | special), encoding="utf-8")
    shutil.copyfile(prepared.grammar_tokenizer_path, folder / "tokenizer.json")
    return folder


def settings_of(upstreams: Sequence[Upstream]) -> dict[str, str]:
    """The settings of a Hodios that has nothing but these."""
    sections = [upstream.section for upstream in upstreams]
    variables = {name: value for upstream in upstreams for name, value in upstream.variables.items()}
    return {"HODIOS_MODELS": "", "HODIOS_LAUNCH": json.dumps(sections), **variables}


@dataclass
class Upstreams:
    """All of them, behind one Hodios."""

    server: LiveServer
    by_name: Mapping[str, Upstream]

    def health(self, name: str) -> dict[str, Any]:
        _, report = self.server.get("/health")
        found = [model for model in report.get("models", ()) if model["provider"] == name]
        return found[0] if found else {"state": "unknown", "restarts": 0}

    def until_ready(self, name: str, num_restarts: int = 0) -> None:
        def is_ready() -> bool:
            health = self.health(name)
            return health["state"] == "ready" and health["restarts"] >= num_restarts

        def told() -> str:
            return f"{name} does not become ready: {self.health(name)}\n{self.server.told()}"

        until(is_ready, told, every_s=0.1, patience_s=START_S)

    def main_pid(self, name: str) -> int:
        """The server's own process."""
        (pid,) = (pid for pid in self._below_keepers(name) if is_alive(pid))
        return pid

    def asked_directly(self, name: str) -> RemoteProvider:
        """The server as a provider of this process, of its kind in the catalog."""
        upstream = self.by_name[name]
        row = read_rows([shipped_folder()]).providers[upstream.section["kind"]]
        model = RemoteModel(id=MODEL, context_length=CONTEXT)
        base_url = f"http://127.0.0.1:{port_of(self.main_pid(name))}/v1"
        remote = Remote(name=name, base_url=base_url, models=(model,), load=row.load)
        return RemoteProvider(remote, upstream.variables.get(upstream.section.get("api_key_env", "")))

    def all_pids(self) -> set[int]:
        """Hodios, its children, and all that these have started."""
        return {self.server.process.pid, *descendants(self.server.process.pid)}

    def _below_keepers(self, name: str) -> list[int]:
        """The child of each keeper which is this server."""
        word = self.by_name[name].word.encode()
        keepers = [pid for pid in children_of(self.server.process.pid) if b"hodios.providers.keeper" in command_of(pid)]
        return [pid for keeper in keepers for pid in children_of(keeper) if word in command_of(pid)]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in _text(path).split()]


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for child in children_of(pid):
        found |= {child, *descendants(child)}
    return found


def command_of(pid: int) -> list[bytes]:
    """Its words; none where it has ended."""
    return _text(Path(f"/proc/{pid}/cmdline")).encode().split(b"\0")


def port_of(pid: int) -> int:
    """Which a server was told, by its command line or, as Hodios' parent process, by its environment."""
    words = command_of(pid)
    if b"--port" in words:
        return int(words[words.index(b"--port") + 1])
    variables = dict(each.partition("=")[::2] for each in _text(Path(f"/proc/{pid}/environ")).split("\0"))
    return int(variables["HODIOS_PORT"])


def is_alive(pid: int) -> bool:
    status = _text(Path(f"/proc/{pid}/stat"))
    return bool(status) and status.rpartition(")")[2].split()[0] != "Z"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
