"""Measures the web page: how soon it can be used, and how smoothly it shows an answer of 5,000 tokens.

Prints a table and the lines `RESULT page-interactive ratio` (1 s ÷ the time until a model can be searched for) and
`RESULT page-frames ratio` (frames drawn per second while 500 tokens per second arrive ÷ 30). A real browser without a
screen, on the same machine as the server.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks import figures, gateway_plan, page_upstream
from benchmarks.figures import Ratio, Samples
from benchmarks.gateway_peers import KEY, Gateway, free_port, launch
from benchmarks.processes import BenchmarkError, Process

LEAST_FRAMES = 30.0
MOST_S = 1.0
_PATIENCE_MS = 300_000
_COUNT_FRAMES = """() => {
    window.frames = [];
    const tick = (at) => { window.frames.push(at); requestAnimationFrame(tick); };
    requestAnimationFrame(tick);
}"""
RATIOS = (
    Ratio("page-interactive", ("page", "interactive"), None, target=1.0),
    Ratio("page-frames", ("page", "frames"), None, target=1.0),
)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="each measures everything once (default: 3)")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser (default: Debian's)")
    chosen = parser.parse_args(arguments)
    samples = Samples()
    try:
        with tempfile.TemporaryDirectory(prefix="hodios-benchmark-") as folder, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chosen.chromium, args=["--no-sandbox"])
            _measure(Path(folder), browser, chosen.rounds, samples)
            browser.close()
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    found = figures.results(samples, RATIOS)
    print("\n".join(figures.results_table(found)) + "\n")
    print("\n".join(figures.result_lines(found)))
    return 0


def _measure(folder: Path, browser: Browser, num_rounds: int, samples: Samples) -> None:
    upstream_port, port = free_port(), free_port()
    env = dict(os.environ)
    argv = [sys.executable, "-m", "benchmarks.page_upstream", str(upstream_port)]
    upstream = Process(argv, folder / "upstream.log", env=env)
    try:
        started = launch(gateway_plan.OURS, folder / "home", upstream_port, port)
        server = Gateway(gateway_plan.OURS, started, port, folder / "server.log", env, is_streamed=False)
        try:
            for _ in range(num_rounds):
                context = browser.new_context(viewport={"width": 1360, "height": 900})
                context.request.post(f"http://127.0.0.1:{port}/ui/session", data={"key": KEY})
                page = context.new_page()
                page.set_default_timeout(_PATIENCE_MS)
                samples.add("page", "interactive", MOST_S / _interactive_s(page, port))
                samples.add("page", "frames", _frames_per_s(page, port) / LEAST_FRAMES)
                context.close()
        finally:
            server.close()
    finally:
        upstream.close()


def _interactive_s(page: Page, port: int) -> float:
    """From the navigation until the gallery's search can be typed into. Nothing is in the browser's cache."""
    page.goto(f"http://127.0.0.1:{port}/ui/models", wait_until="commit")
    page.get_by_label("Search").wait_for()
    shown_ms: float = page.evaluate("performance.now()")
    return shown_ms / 1000


def _frames_per_s(page: Page, port: int) -> float:
    """While the answer grows."""
    page.goto(f"http://127.0.0.1:{port}/ui/models/{gateway_plan.MODEL}")
    page.get_by_label("Message", exact=True).fill("Tell me of roads.")
    page.get_by_role("button", name="Send", exact=True).click()
    page.locator(".turn.assistant .prose-block").first.wait_for()
    page.evaluate(_COUNT_FRAMES)
    page.locator(".turn.assistant[aria-busy=false]").wait_for()
    times: list[float] = page.evaluate("window.frames")
    shown = page.locator(".turn.assistant .prose pre").count()
    if shown < page_upstream.NUM_TOKENS // 100:
        raise BenchmarkError(f"the answer was not shown whole: it has {shown} pieces of code")
    return (len(times) - 1) * 1000 / (times[-1] - times[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
