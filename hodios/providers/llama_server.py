"""llama.cpp's own server as a program: `python -m hodios.providers.llama_server --model FILE --port N`.

Needs the extra `llamacpp`, and nothing else of Hodios, so that any interpreter which has `xllamacpp` can run this file.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

_REFUSED = 78
"""Exit code of a program that cannot work as things are; it is not started again."""


def main(arguments: list[str]) -> int:
    """Serves until a signal ends it. Otherwise the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        import xllamacpp
    except ImportError as error:
        sys.stderr.write(f"llama.cpp is missing ({error}). Run: {sys.executable} -m pip install 'hodios[llamacpp]'\n")
        return _REFUSED
    if not Path(parsed.model).is_file():
        sys.stderr.write(f"{parsed.model} is not a file.\n")
        return _REFUSED
    # A server that is told to end before it has begun waits forever, and no handler of Python's runs while it loads: so
    # signals end the process as it stands. It has nothing to put in order.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    params = xllamacpp.CommonParams()
    params.model.path = parsed.model
    params.hostnames = [parsed.host]
    params.port = parsed.port
    # The router asks how busy it is.
    params.endpoint_metrics = True
    params.n_parallel = parsed.parallel
    # llama.cpp divides its context among the slots.
    params.n_ctx = parsed.context * parsed.parallel
    params.model_alias = {parsed.alias or Path(parsed.model).stem}
    if parsed.threads:
        params.cpuparams.n_threads = parsed.threads
    server = xllamacpp.Server(params)
    sys.stderr.write(f"{params.model_alias} at {server.listening_address}\n")
    while True:
        signal.pause()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hodios.providers.llama_server", description="Serve a GGUF file by llama.cpp."
    )
    parser.add_argument("--model", required=True, help="the GGUF file")
    parser.add_argument("--alias", help="the model's id [the file's name without .gguf]")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--context", type=int, default=0, help="tokens of each answer and its prompt [the model's own]")
    parser.add_argument("--parallel", type=int, default=4, help="answers at the same time")
    parser.add_argument("--threads", type=int, help="[all physical cores]")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
