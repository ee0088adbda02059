"""README and docs: their Python runs, their links lead somewhere, their commands exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.markdown import anchors, blocks, links, python_blocks, run

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("README.md")), *sorted((ROOT / "docs").rglob("*.md"))]
ALL = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
TIMEOUT = 240


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT + 30)
@pytest.mark.parametrize("path", [page for page in PAGES if any(python_blocks(page))], ids=name)
def test_python_runs(path: Path, tmp_path: Path) -> None:
    # The process's folder is empty: an example may write files, and may not lean on those of the checkout.
    command = [sys.executable, "-W", "error", "-m", "tests.support.markdown", str(path)]
    child = subprocess.run(
        command,
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        stdin=subprocess.DEVNULL,
    )
    assert child.returncode == 0, child.stderr or child.stdout


@pytest.mark.parametrize("path", ALL, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    broken = []
    for link in links(text):
        if re.match(r"[a-z]+:", link):
            continue  # another site's; checks need no network
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        there = file.exists() and file.is_relative_to(ROOT)
        if there and anchor and file.suffix == ".md":
            there = anchor in anchors(file.read_text(encoding="utf-8"))
        if not there:
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", ALL, ids=name)
def test_links_name_make_targets_that_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shell = [
        block.text for block in blocks(path.read_text(encoding="utf-8")) if block.language in ("bash", "sh")
    ]
    named = {
        target for text in shell for target in re.findall(r"^\s*(?:\$ )?make ([a-z-]+)", text, re.MULTILINE)
    }
    assert named <= targets


PAGE = """
# A page

```python
x = 1
print("one")
```
<!-- output -->
```text
one
```

<!-- no-run: needs a network -->
```python
raise RuntimeError(x)
```

```python
import asyncio
await asyncio.sleep(0)
assert x == 1
```
"""


def test_a_right_page_passes(tmp_path: Path) -> None:
    assert run_text(PAGE, tmp_path) == ""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('print("one")', 'print("two")', "printed:\ntwo"),
        ("assert x == 1", "assert x == 2", "AssertionError"),
        ("raise RuntimeError(x)", "raise (", "SyntaxError"),
    ],
)
def test_a_wrong_page_is_told_with_its_line(old: str, new: str, fault: str, tmp_path: Path) -> None:
    problem = run_text(PAGE.replace(old, new), tmp_path)
    assert fault in problem
    assert problem.startswith("page.md, the block at line ")


def run_text(text: str, tmp_path: Path) -> str:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return run(page)


def test_anchors_are_those_of_code_hosts() -> None:
    assert anchors("# A `b`, c\n## Two\n## Two\n```\n# no heading\n```\n") == {"a-b-c", "two", "two-1"}


def clean_environment() -> dict[str, str]:
    """This process's environment, with the checkout's root as the place of `tests`."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
