"""A program that `[[launch]]` starts: a server of OpenAI's protocol with one model, and a process of its own beside it
that is deaf to SIGTERM. Told to wait, it begins to answer and says no more.

`python launched_server.py PORT`; it writes both process ids.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

MODEL = "mine/model"
ANSWER = "Grüezi from the server 🙂"
BEGINNING = "Just a mo"
WAIT = "Wait."


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer({})
        else:
            self._answer({"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": 512}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        log(f"asked {json.dumps(body['messages'][-1]['content'])}")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        if body["messages"][-1]["content"] == WAIT:
            self._say({"content": BEGINNING})
            threading.Event().wait()
        for at in range(0, len(ANSWER), 4):
            self._say({"content": ANSWER[at : at + 4]})
        self._say({}, "stop")
        counts = {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}
        self._write(json.dumps({"id": "x", "choices": [], "usage": counts}))
        self._write("[DONE]")

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _say(self, delta: dict[str, Any], finish: str | None = None) -> None:
        self._write(json.dumps({"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}))

    def _write(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()


def log(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(port: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    beside = subprocess.Popen(["sleep", "100000"])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    log(f"begun {os.getpid()} {beside.pid}")
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
