"""Runs every part of the benchmarks, or those named: `python -m benchmarks imports spine`.

A part is a file here with `run() -> list[dict]`; the keys are the fields of `tables.Row`. The table goes to
the terminal; figures and a chart go to `benchmarks/results/<date>.json` and `.svg`.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from .tables import Row, chart, table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


def main(wanted: list[str]) -> int:
    """Returns 0 when every part ran, 1 when one failed, 2 when there is no such part.

    A busy machine misses goals: they are figures to look at, no verdict.
    """
    names = parts()
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        say(f"no such part: {', '.join(unknown)}; there are {', '.join(names)}")
        return 2
    measured: list[tuple[str, list[Row]]] = []
    failed: dict[str, str] = {}
    for name in wanted or names:
        started = time.perf_counter()
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        try:
            measured.append((name, measure(name)))
        except Exception as error:  # one part's failure must not cost the others their figures
            failed[name] = f"{type(error).__name__}: {error}"
        say(failed.get(name, f"{time.perf_counter() - started:.1f} s"))
    rows = [row for _, part in measured for row in part]
    if rows:
        lines: list[Row | str] = []
        for name, part in measured:
            lines += [name, *part]
        print(f"\n{table(lines)}\n")
        say(f"written: {write(measured, failed)}")
    missed = [row.name for row in rows if row.ok is False]
    if missed:
        say(f"goals missed: {', '.join(missed)}")
    return 1 if failed else 0


def parts() -> list[str]:
    """The names of the files here that define `run`."""
    files = (path for path in sorted(HERE.glob("*.py")) if not path.stem.startswith("__"))
    return [path.stem for path in files if "\ndef run(" in path.read_text(encoding="utf-8")]


def measure(name: str) -> list[Row]:
    """Imports one part and runs it."""
    return [Row.of(entry) for entry in importlib.import_module(f"benchmarks.{name}").run()]


def write(measured: list[tuple[str, list[Row]]], failed: dict[str, str]) -> Path:
    """Writes figures and chart; returns the JSON file's path, relative to the checkout."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now()
    path = RESULTS / f"{now:%Y-%m-%d-%H%M%S}.json"
    report = {
        "time": now.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "parts": {name: [asdict(row) for row in rows] for name, rows in measured},
        "failed": failed,
    }
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    rows = [row for _, part in measured for row in part]
    path.with_suffix(".svg").write_text(chart(rows, f"millrace, {now:%Y-%m-%d %H:%M}"), encoding="utf-8")
    return path.relative_to(HERE.parent)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
