"""Measures the web page: how soon it can be used, and how smoothly it shows an answer of 5,000 tokens.

Prints tables and the lines `RESULT page-interactive ratio` (1 s ÷ the time until a model can be searched for) and
`RESULT page-frames ratio` (frames drawn per second while 500 tokens per second arrive ÷ 30). A real browser without a
screen, on the same machine as the server and the provider.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks import figures, gateway_plan, page_upstream
from benchmarks.figures import Ratio, Samples
from benchmarks.gateway_peers import KEY, Gateway, free_port, launch
from benchmarks.processes import BenchmarkError, Process
from hodios.machine import cpu_model

LEAST_FRAMES = 30.0
MOST_S = 1.0
DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
SUBJECT = "page"
INTERACTIVE, FRAMES, LONGEST = "until a model can be searched for", "frames while 5,000 tokens come", "longest frame"
_PATIENCE_MS = 300_000
_WATCH = """
    new MutationObserver((_, observer) => {
        if (window.usable === undefined && document.querySelector("main input[type=search]")) {
            window.usable = performance.now();
            observer.disconnect();
        }
    }).observe(document, {childList: true, subtree: true});
"""
"""Since the navigation began, in ms."""
_COUNT_FRAMES = """() => {
    window.frames = [];
    const tick = (at) => { window.frames.push(at); requestAnimationFrame(tick); };
    requestAnimationFrame(tick);
}"""
UNITS = {INTERACTIVE: "ms", FRAMES: "/s", LONGEST: "ms"}
RATIOS = (
    Ratio("page-interactive", (SUBJECT, "interactive"), None, target=1.0),
    Ratio("page-frames", (SUBJECT, "frames"), None, target=1.0),
)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="each measures everything once (default: 3)")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser (default: Debian's)")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {DOCUMENT.name}")
    chosen = parser.parse_args(arguments)
    samples = Samples()
    try:
        with tempfile.TemporaryDirectory(prefix="hodios-benchmark-") as folder, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chosen.chromium, args=["--no-sandbox"])
            version = browser.version
            _measure(Path(folder), browser, chosen.rounds, samples)
            browser.close()
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 1
    report = _report(samples, chosen.rounds, version)
    print("\n".join(report) + "\n")
    print("\n".join(figures.result_lines(figures.results(samples, RATIOS))))
    if chosen.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        section = f"The web page on {cpu_model()}"
        DOCUMENT.write_text(figures.replace_section(text, section, report, by="benchmarks.page"), encoding="utf-8")
    return 0


def _report(samples: Samples, num_rounds: int, version: str) -> list[str]:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    rows = [["", "best", "median", "worst"]]
    for figure, unit in UNITS.items():
        values = sorted(samples.of(SUBJECT, figure), reverse=figure == FRAMES)
        shown = (values[0], median(values), values[-1])
        rows.append([f"{figure}, {unit}", *(f"{value:,.0f}" for value in shown)])
    return [
        f"{datetime.now(UTC):%Y-%m-%d}, {cpu_model()}, {os.cpu_count()} CPUs for browser, server and provider "
        f"together, Chromium {version}; {num_rounds} rounds; load average at the end {load}.",
        "",
        *figures.markdown_table(rows),
        "",
        *figures.results_table(figures.results(samples, RATIOS)),
    ]


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
                _note(samples, _interactive_ms(page, port), *_frames(page, port))
                context.close()
        finally:
            server.close()
    finally:
        upstream.close()


def _note(samples: Samples, interactive_ms: float, frames_per_s: float, longest_ms: float) -> None:
    for figure, value in zip(UNITS, (interactive_ms, frames_per_s, longest_ms), strict=True):
        samples.add(SUBJECT, figure, value)
    samples.add(SUBJECT, "interactive", MOST_S * 1000 / interactive_ms)
    samples.add(SUBJECT, "frames", frames_per_s / LEAST_FRAMES)


def _interactive_ms(page: Page, port: int) -> float:
    """From the navigation until the gallery's search can be typed into. Nothing is in the browser's cache."""
    page.add_init_script(_WATCH)
    page.goto(f"http://127.0.0.1:{port}/ui/models", wait_until="commit")
    page.get_by_label("Search").wait_for()
    shown_ms: float = page.evaluate("window.usable")
    return shown_ms


def _frames(page: Page, port: int) -> tuple[float, float]:
    """Frames per second while the answer grows, and the longest time between two of them, in ms."""
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
    gaps = [after - before for before, after in pairwise(times)]
    return len(gaps) * 1000 / sum(gaps), max(gaps)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
