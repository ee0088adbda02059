"""The web chat as its user sees it, in Chromium on this machine: how soon, how smoothly, how long until it is there.

Clocks of the page and of the server are the same machine's.
"""

from __future__ import annotations

import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .chat_programs import PIECES, RATE

QUESTIONS = 15
WAIT = 60_000.0
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
BOX = "#mr-box textarea"
ANSWER = "#mr-chat .bot.message .message-content"
SEEN = """() => {
  window.seen = [];
  const answer = () => [...document.querySelectorAll("#mr-chat .bot.message .message-content")].pop();
  let before = "";
  new MutationObserver(() => {
    const text = answer()?.querySelector(".mr-status") ? "" : answer()?.innerText.trim() ?? "";
    if (text && !before) window.seen.push(Date.now());
    before = text;
  }).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""
FRAMES = """() => {
  window.frames_ = 0; window.longest = 0; window.began = performance.now();
  const count = () => { window.frames_++; requestAnimationFrame(count); };
  requestAnimationFrame(count);
  new PerformanceObserver((list) => {
    for (const task of list.getEntries()) window.longest = Math.max(window.longest, task.duration);
  }).observe({entryTypes: ["longtask"]});
}"""


def run() -> list[dict[str, Any]]:
    """The figures of a chat with the demo model, of one that says 100 pieces a second, and of the command's start."""
    executable = shutil.which("chromium")
    if executable is None:
        raise RuntimeError("chromium is not installed; scripts/chromium.sh installs it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        try:
            return [*first_tokens(browser), *steadiness(browser), *start(browser)]
        finally:
            browser.close()


def row(
    name: str, value: float, unit: str, goal: str | None = None, ok: bool | None = None
) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "floor": None,
        "ratio": None,
        "goal": goal,
        "ok": ok,
    }


def first_tokens(browser: Any) -> list[dict[str, Any]]:
    """From the engine's first piece to the page's; each question in a page of its own conversation."""
    waits = []
    with chat("model") as (process, port):
        page = opened(browser, port)
        page.evaluate(SEEN)
        for i in range(QUESTIONS):
            page.fill(BOX, "What is a Warp?")
            page.press(BOX, "Enter")
            assert process.stdout is not None
            made = float(process.stdout.readline())
            page.wait_for_function(f"window.seen.length > {i}", timeout=WAIT)
            waits.append(page.evaluate("window.seen.at(-1)") - made * 1e3)
            page.locator("#mr-chat .mr-note").nth(i).wait_for(timeout=WAIT)
        page.context.close()
    middle, worst = statistics.median(waits), max(waits)
    return [
        row("first token shown after the engine's, median", middle, "ms", "< 150 ms", middle < 150),
        row("the same, the slowest of 15", worst, "ms"),
    ]


def steadiness(browser: Any) -> list[dict[str, Any]]:
    with chat("steady") as (_, port):
        page = opened(browser, port)
        page.fill(BOX, "go")
        page.evaluate(FRAMES)
        began = time.perf_counter()
        page.press(BOX, "Enter")
        page.wait_for_function(
            f"[...document.querySelectorAll('{ANSWER}')].pop()?.innerText.includes('done')", timeout=WAIT
        )
        seconds = time.perf_counter() - began
        frames = page.evaluate("window.frames_ / (performance.now() - window.began) * 1e3")
        longest = page.evaluate("window.longest")
        page.context.close()
    late = (seconds - PIECES / RATE) * 1e3
    return [
        row(f"{RATE} pieces a second: frames a second meanwhile", frames, "/s", "> 30 /s", frames > 30),
        row("the same, the longest task of the page", longest, "ms"),
        row("the same, all is shown so long after it was said", late, "ms", "< 500 ms", late < 500),
    ]


def start(browser: Any) -> list[dict[str, Any]]:
    """From the command to a box that can be written in, and what of it is the import of modules."""
    command = [sys.executable, "-m", "millrace", "chat", "--port", "0", "--conversations", "none"]
    with tempfile.TemporaryDirectory() as folder:
        whole = usable(browser, command, Path(folder) / "plain")
        timed = Path(folder) / "timed"
        usable(browser, [sys.executable, "-X", "importtime", *command[1:]], timed)
        found = re.findall(r"import time:\s+(\d+) \|", timed.read_text(encoding="utf-8"))
        imports = sum(map(int, found)) / 1e6
    return [
        row("`millrace chat` to a page that can be used", whole, "s"),
        row("the same, spent on imports", imports, "s"),
    ]


def usable(browser: Any, command: list[str], log: Path) -> float:
    """Seconds from the command to the page."""
    began = time.perf_counter()
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            while not (there := re.search(rb"http://127\.0\.0\.1:(\d+)", log.read_bytes())):
                if process.poll() is not None:
                    raise RuntimeError(f"millrace chat ended with {process.returncode}")
                time.sleep(0.02)
            page = opened(browser, int(there[1]))
            seconds = time.perf_counter() - began
            page.context.close()
            return seconds
        finally:
            process.send_signal(signal.SIGTERM)


def opened(browser: Any, port: int) -> Any:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.goto(f"http://127.0.0.1:{port}/", timeout=WAIT)
    page.locator(BOX).wait_for(timeout=WAIT)
    return page


@contextmanager
def chat(name: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "benchmarks.chat_programs", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.terminate()
