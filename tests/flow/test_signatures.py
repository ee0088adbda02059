"""mypy and pyright infer what flows take and give, and refuse what does not fit: both read `typed/cases.py`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "flow" / "typed" / "cases.py"
LINES = CASES.read_text(encoding="utf-8").splitlines()
REFUSED = {number for number, line in enumerate(LINES, 1) if line.endswith("# refused")}


def mypy(cache: Path) -> dict[int, str]:
    """Errors by line."""
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(cache), "--no-error-summary", str(CASES)]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert printed.stderr == ""
    found = re.findall(r"cases\.py:(\d+): error: (.*)", printed.stdout)
    return {int(line): text for line, text in reversed(found)}


def pyright(folder: Path) -> dict[int, str]:
    """Errors by line, of pyright as basedpyright brings it: with its own node, so that nothing is fetched."""
    settings = {
        "include": [str(CASES)],
        "extraPaths": [str(ROOT / "src")],
        "pythonVersion": "3.11",
        "typeCheckingMode": "standard",
    }
    project = folder / "pyrightconfig.json"
    project.write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--project", str(project)]
    command += ["--pythonpath", sys.executable, "--level", "error"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    report = json.loads(printed.stdout)
    assert report["summary"]["filesAnalyzed"] == 1
    return {
        one["range"]["start"]["line"] + 1: one["message"] for one in reversed(report["generalDiagnostics"])
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_types_are_inferred_and_mismatches_refused(checker: object, tmp_path: Path) -> None:
    assert callable(checker)
    errors = checker(tmp_path)
    assert {line: text for line, text in errors.items() if line not in REFUSED} == {}
    assert [LINES[line - 1].strip() for line in sorted(REFUSED - set(errors))] == []


def test_there_are_enough_cases() -> None:
    assert len(REFUSED) >= 25
    assert sum("assert_type(" in line for line in LINES) >= 50
