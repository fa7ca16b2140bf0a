"""Web pages of other loopback origins talk to the server from a real browser; pages of foreign origins cannot."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from live_server import KEY, MODEL, LiveServer, stream_events, until
from relay import Relay
from test_seeds import Run, check_answer, check_stream, streamed_output, text_of

FOREIGN = "evil.example"
PAGE_KINDS = {".html": "text/html", ".mjs": "text/javascript", ".js": "text/javascript"}
STREAMED = Run("novita.mjs", "/v3/openai", True)
WHOLE = Run("novita.mjs", "/v1", False)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-sync", "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"),
]

PROGRAM_PAGE = """<!doctype html><meta charset="utf-8"><title>%(name)s</title>
<script type="importmap">{"imports": {"openai": "/node_modules/openai/index.mjs"}}</script>
<script>
let line = 0;
const tell = text => fetch(`/told/%(name)s/${line++}`, {method: "POST", body: String(text)});
console.log = tell;
addEventListener("error", event => tell(`error: ${event.message}`));
addEventListener("unhandledrejection", event => tell(`error: ${event.reason}`));
</script>
<script type="module" src="/%(name)s.mjs"></script>
"""

FETCH_PROGRAM = """
const answer = await fetch("%(url)s/v1/chat/completions", {
    method: "POST",
    headers: {"Content-Type": "application/json", "Authorization": "Bearer %(key)s", "x-request-id": "from-a-page"},
    body: JSON.stringify({model: "%(model)s", stream: true, max_tokens: 20, unheard_of: 1,
                          messages: [{role: "user", content: "Hi there!"}]}),
});
const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
let text = "";
for (let part = await reader.read(); !part.done; part = await reader.read()) text += part.value;
const names = ["x-request-id", "x-hodios-ignored", "x-hodios-provider"];
console.log(JSON.stringify({status: answer.status, text, headers: names.map(name => answer.headers.get(name))}));
const refused = await fetch("%(url)s/v1/models");
console.log(JSON.stringify({status: refused.status, code: (await refused.json()).error.code}));
"""

FOREIGN_PROGRAM = """
for (const [path, options] of [
    ["/v1/models", {headers: {"Authorization": "Bearer %(key)s"}}],
    ["/health/live", {}],
]) {
    try {
        console.log(JSON.stringify({origin: location.origin, status: (await fetch("%(url)s" + path, options)).status}));
    } catch (error) {
        console.log(JSON.stringify({origin: location.origin, error: error.name}));
    }
}
"""


class Pages(ThreadingHTTPServer):
    """Serves `files` and OpenAI's client, and takes down what the pages tell, by page and line."""

    daemon_threads = True

    def __init__(self, files: dict[str, str], packages: Path) -> None:
        self.files = files
        self.packages = packages
        self.told: dict[str, dict[int, str]] = {}
        super().__init__(("127.0.0.1", 0), _PageHandler)

    def lines(self, name: str) -> list[str]:
        """As far as they came without a gap."""
        told = self.told.get(name, {})
        return [told[index] for index in range(len(told)) if index in told]


class _PageHandler(BaseHTTPRequestHandler):
    server: Pages

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/node_modules/") and ".." not in path:
            file = self.server.packages / path.removeprefix("/node_modules/")
            text = file.read_text() if file.is_file() else None
        else:
            text = self.server.files.get(path)
        self._answer(
            404 if text is None else 200, (text or "").encode(), PAGE_KINDS.get(Path(path).suffix, "text/html")
        )

    def do_POST(self) -> None:
        _, _, name, index = self.path.split("/")
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.told.setdefault(name, {})[int(index)] = body.decode()
        self._answer(200, b"", "text/plain")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", f"{kind}; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is said of single requests."""


def for_browsers(text: str) -> str:
    """The client wants to be told that its key may be seen by whoever uses the page."""
    changed = text.replace("    apiKey:", "    dangerouslyAllowBrowser: true,\n    apiKey:")
    assert changed != text
    return changed


def page_files(urls: dict[str, str]) -> dict[str, str]:
    values = {"key": KEY, "model": MODEL}
    programs = {
        "streamed": for_browsers(text_of(STREAMED, urls["streamed"])),
        "whole": for_browsers(text_of(WHOLE, urls["whole"])),
        "fetched": FETCH_PROGRAM % {**values, "url": urls["fetched"]},
        "foreign": FOREIGN_PROGRAM % {**values, "url": urls["foreign"]},
    }
    files = {f"/{name}.mjs": text for name, text in programs.items()}
    files |= {f"/{name}.html": PROGRAM_PAGE % {"name": name} for name in programs}
    return files


@pytest.fixture(scope="module")
def relays(terse_server: LiveServer) -> Iterator[dict[str, Relay]]:
    with ExitStack() as stack:
        names = ("streamed", "whole", "fetched", "foreign")
        yield {name: stack.enter_context(Relay(terse_server.url)) for name in names}


@pytest.fixture(scope="module")
def pages(
    relays: dict[str, Relay],
    node_folder: Path,
    need: Callable[[str, str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pages]:
    """Open in a browser: a page with the others in frames, the foreign one from another origin's name."""
    files = page_files({name: relay.url for name, relay in relays.items()})
    pages = Pages(files, node_folder / "node_modules")
    port = pages.server_address[1]
    frames = [f"http://127.0.0.1:{port}/{name}.html" for name in ("streamed", "whole", "fetched")]
    frames.append(f"http://{FOREIGN}:{port}/foreign.html")
    files["/all.html"] = "<!doctype html>" + "".join(f'<iframe src="{url}"></iframe>' for url in frames)
    serving = threading.Thread(target=pages.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    folder = tmp_path_factory.mktemp("browser")
    with (folder / "log.txt").open("wb") as log:
        browser = subprocess.Popen(
            [
                *(need("chromium", "chromium"), *FLAGS),
                f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1",
                *(f"--user-data-dir={folder / 'profile'}", f"http://127.0.0.1:{port}/all.html"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    yield pages
    browser.terminate()
    browser.wait()
    pages.shutdown()
    serving.join()
    pages.server_close()


def told(pages: Pages, name: str, num_lines: Callable[[], int | None]) -> list[str]:
    """The page's lines, once there are as many as there shall be."""

    def look() -> list[str] | None:
        lines = pages.lines(name)
        wanted = num_lines()
        failed = [line for line in lines if line.startswith("error: ")]
        assert not failed, failed
        return lines if wanted is not None and len(lines) >= wanted else None

    lines: list[str] = until(look, lambda: f"{name}: {pages.lines(name)}")
    return lines


def test_the_streaming_program_in_a_page(pages: Pages, relays: dict[str, Relay]) -> None:
    def num_lines() -> int | None:
        answers = relays["streamed"].answers()
        return len(answers[1].chunks()) if len(answers) == 2 else None

    lines = told(pages, "streamed", num_lines)
    preflight, answer = relays["streamed"].answers()
    assert preflight.status == 204
    check_stream(answer.chunks())
    assert "".join(f"{line}\n" for line in lines) == streamed_output(STREAMED, answer.chunks(), answer)


def test_the_program_that_waits_for_its_answer_in_a_page(pages: Pages, relays: dict[str, Relay]) -> None:
    (line,) = told(pages, "whole", lambda: 1)
    _, answer = relays["whole"].answers()
    check_answer(json.loads(line))
    assert json.loads(line) == json.loads(answer.body)


def test_fetch_in_a_page(pages: Pages) -> None:
    """Answers, our own headers and errors can be read."""
    answer, refused = (json.loads(line) for line in told(pages, "fetched", lambda: 2))
    assert answer["status"] == 200
    assert answer["headers"] == ["from-a-page", "unheard_of", "local"]
    check_stream(stream_events(answer["text"]))
    assert refused == {"status": 401, "code": "invalid_api_key"}


def test_pages_of_other_origins_read_nothing(pages: Pages, relays: dict[str, Relay]) -> None:
    lines = [json.loads(line) for line in told(pages, "foreign", lambda: 2)]
    origin = f"http://{FOREIGN}:{pages.server_address[1]}"
    assert lines == [{"origin": origin, "error": "TypeError"}] * 2
    answers = relays["foreign"].answers()
    assert [answer.status for answer in answers] == [403, 200], "the preflight, and the simple request"
    assert not any("access-control-allow-origin" in answer.headers for answer in answers)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/v3/openai/models", "/tokenize"])
@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        *(("http://localhost:3000", True), ("https://127.0.0.1", True), ("http://[::1]:8080", True)),
        *(("http://evil.example", False), ("http://localhost.evil.example", False), ("null", False)),
        *(("http://127.0.0.1.evil.example:80", False), ("http://127.0.0.1:80@evil.example", False)),
    ],
)
def test_preflights(live_server: LiveServer, path: str, origin: str, is_allowed: bool) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    answer = httpx2.options(live_server.url + path, headers={"origin": origin, **asked})
    assert answer.status_code == (204 if is_allowed else 403)
    assert answer.headers.get("access-control-allow-origin") == (origin if is_allowed else None)
    if is_allowed:
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
