"""The gateways: how each is installed, in an environment of its own, and how it is started in front of one upstream."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from msgspec import Struct

from benchmarks import gateway_plan as plan
from benchmarks.processes import BenchmarkError, Process
from benchmarks.resident import family_mib

PACKAGES = {
    plan.VLLM_ROUTER: "vllm-router==0.1.17",
    plan.SMG: "smg==1.13.0",
    plan.LITELLM: "litellm[proxy]==1.106.2",
    plan.PORTKEY: "@portkey-ai/gateway@1.15.2",
}
KEY = "sk-benchmark-0123456789abcdef0123456789abcdef"
GATEWAY_CPU, LOAD_CPU = 0, 1
_START_TIMEOUT_S = 300.0


class Launch(Struct, frozen=True):
    """How to start a gateway, and what to send to it."""

    argv: list[str]
    env: dict[str, str] = {}
    headers: dict[str, str] = {}


def install(name: str, folder: Path, env: dict[str, str]) -> None:
    """Makes the environment in `folder`, once. Raises BenchmarkError."""
    package = PACKAGES[name]
    ready = folder / ".ready"
    if ready.is_file() and ready.read_text() == package:
        return
    print(f"Installing {package} in {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if name == plan.PORTKEY:
        command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), package]
    else:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        command = [str(folder / "bin" / "pip"), "install", "--disable-pip-version-check", "--quiet", package]
    if shutil.which(command[0]) is None or subprocess.run(command, env=env, check=False).returncode:
        raise BenchmarkError(
            f"{package} could not be installed ({' '.join(command)}); Portkey needs Node.js and npm. "
            "--subjects leaves gateways out."
        )
    ready.write_text(package)


def launch(name: str, folder: Path, upstream_port: int, port: int) -> Launch:
    """`folder` is where the gateway is installed, or where Hodios keeps its files."""
    upstream = f"http://127.0.0.1:{upstream_port}"
    # Both of the Rust ones serve metrics, on the same port by default.
    listen = ["--worker-urls", upstream, "--host", "127.0.0.1", "--port", str(port), "--prometheus-port"]
    match name:
        case plan.OURS:
            return _hodios(folder, upstream, port)
        case plan.BARE:
            return Launch([sys.executable, "-m", "benchmarks.bare_gateway", str(port), upstream])
        case plan.VLLM_ROUTER:
            return Launch([str(folder / "bin" / "vllm-router"), *listen, str(free_port())])
        case plan.SMG:
            return Launch([str(folder / "bin" / "smg"), "launch", *listen, str(free_port())])
        case plan.PORTKEY:
            script = folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
            headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{upstream}/v1"}
            return Launch(["node", str(script), f"--port={port}", "--headless"], headers=headers)
        case plan.LITELLM:
            config = folder / f"config-{upstream_port}.json"
            parameters = {"model": f"openai/{plan.MODEL}", "api_base": f"{upstream}/v1", "api_key": "none"}
            rows = [{"model_name": plan.MODEL, "litellm_params": parameters}]
            config.write_text(json.dumps({"model_list": rows, "general_settings": {"master_key": KEY}}))
            argv = [str(folder / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
            own_path = f"{folder / 'bin'}:{os.environ.get('PATH', '')}"
            # It would look for a tokenizer and for prices on the network, and again for every answer.
            own = {"PATH": own_path, "HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
            return Launch([*argv, "--port", str(port), "--num_workers", "1"], own)
    raise BenchmarkError(f"nobody is called {name}; there are {', '.join(plan.GATEWAYS)}")


def _hodios(home: Path, upstream: str, port: int) -> Launch:
    """`hodios serve` as anybody runs it in front of another server, but for content filters: nobody else has any, and
    what they cost is measured by `benchmarks/guard_load.py`."""
    model = {"id": plan.MODEL, "context_length": 8192}
    settings = {
        "HODIOS_HOME": str(home),
        "HODIOS_PORT": str(port),
        "HODIOS_ADMIN_KEY": KEY,
        "HODIOS_MODELS": "",
        "HODIOS_GUARD": json.dumps({"embedded": False, "prompt": "off", "answer": "off"}),
        "HODIOS_REMOTE": json.dumps({"upstream": {"base_url": f"{upstream}/v1", "models": [model]}}),
    }
    return Launch([str(Path(sys.executable).with_name("hodios")), "serve"], settings)


class Gateway:
    """A gateway that runs on its own core, and stands still unless it is measured."""

    def __init__(
        self, name: str, launch: Launch, port: int, log_path: Path, env: dict[str, str], *, is_streamed: bool
    ) -> None:
        self.name = name
        self.port = port
        self.headers = {"Authorization": f"Bearer {KEY}", **launch.headers}
        self._process = Process(on_cpu(GATEWAY_CPU, launch.argv), log_path, env=env | launch.env)
        try:
            self._wait_ready(plan.body(is_streamed=is_streamed).encode())
        except BaseException:
            self.close()
            raise

    def _wait_ready(self, body: bytes) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        headers = {"Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/chat/completions", body, headers)
        while time.monotonic() < deadline_s:
            self._process.require_running()
            try:
                with urllib.request.urlopen(request, timeout=5) as response:
                    response.read()
                return
            except OSError:
                time.sleep(0.2)
        raise BenchmarkError(
            f"{self.name} did not answer within {_START_TIMEOUT_S:.0f} s: {self._process.last_words()}"
        )

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def last_words(self) -> str:
        return self._process.last_words()

    def close(self) -> None:
        self.resume()
        self._process.close()

    def _signal(self, number: int) -> None:
        for pid in tree(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def resident_mib(self) -> float:
        """Of all its processes together."""
        return family_mib(tree(self._process.pid))


def on_cpu(cpu: int, argv: list[str]) -> list[str]:
    return ["taskset", "--cpu-list", str(cpu), *argv]


def tree(pid: int) -> list[int]:
    """A process and all that descend from it; nobody where it has ended."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in tree(int(child)))]


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
