"""The cost of `import millrace`, over the start of a bare Python."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

PAIRS = 15
GOAL = 150.0


def run() -> list[dict[str, Any]]:
    """Starts pairs of processes in turn, so that both sides meet the same noise; the median difference."""
    seconds("import millrace")  # writes the bytecode
    pairs = [(seconds("pass"), seconds("import millrace")) for _ in range(PAIRS)]
    bare = statistics.median(without for without, _ in pairs) * 1e3
    cost = statistics.median(with_it - without for without, with_it in pairs) * 1e3
    return [
        {
            "name": "import millrace, over bare Python",
            "value": cost,
            "unit": "ms",
            "floor": bare,
            "ratio": (bare + cost) / bare,
            "goal": f"< {GOAL:g} ms",
            "ok": cost < GOAL,
        }
    ]


def seconds(code: str) -> float:
    """The time from the start of a Python that runs `code` to its end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started
