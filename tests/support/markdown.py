"""Markdown files as tests see them: fenced blocks, links and headings; and a runner for their Python.

`python -m tests.support.markdown FILE` runs the Python blocks of a file in order, in one namespace:
- `<!-- no-run: reason -->` above a block: it is only compiled;
- `<!-- output -->` and a `text` block after it: what the block prints must be that text;
- `await`, `async for` and `async with` may stand at a block's top level.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import linecache
import re
import sys
import textwrap
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^\s*(`{3,})\s*([\w+-]*)[^`]*$")
NO_RUN = re.compile(r"<!--\s*no-run:\s*(\S.*?)\s*-->")
OUTPUT = re.compile(r"<!--\s*output\s*-->")
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
SOURCE = re.compile(r"""<(?:img|a|source)\b[^>]*?\b(?:src|href|srcset)=["']([^"']+)["']""")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")


@dataclass(frozen=True)
class Block:
    """A fenced block. `line` is the number of its first line, `above` the last line of text over it."""

    language: str
    text: str
    line: int
    above: str

    @property
    def only_compiled(self) -> bool:
        return NO_RUN.search(self.above) is not None

    @property
    def is_output(self) -> bool:
        return self.language == "text" and OUTPUT.search(self.above) is not None


def blocks(markdown: str) -> list[Block]:
    """The fenced blocks of a file, in order, without the indentation they share."""
    found: list[Block] = []
    above = fence = language = ""
    lines: list[str] = []
    start = 0
    for number, line in enumerate(markdown.splitlines(), 1):
        match = FENCE.match(line)
        if not fence and match:
            fence, language, start, lines = match[1], match[2], number + 1, []
        elif fence and line.strip().startswith(fence) and not line.strip().strip("`"):
            found.append(Block(language, textwrap.dedent("\n".join(lines)) + "\n", start, above))
            above = fence = ""
        elif fence:
            lines.append(line)
        elif line.strip():
            above = line
    if fence:
        raise ValueError(f"the block that begins at line {start - 1} has no end")
    return found


def prose(markdown: str) -> list[str]:
    """The lines outside of fenced blocks, with `code` blanked out."""
    kept, fence = [], ""
    for line in markdown.splitlines():
        match = FENCE.match(line)
        if not fence and match:
            fence = match[1]
        elif fence and line.strip().startswith(fence) and not line.strip().strip("`"):
            fence = ""
        elif not fence:
            kept.append(re.sub(r"`[^`]*`", "``", line))
    return kept


def links(markdown: str) -> list[str]:
    """The targets of links and images, in Markdown or in HTML."""
    text = "\n".join(prose(markdown))
    return LINK.findall(text) + SOURCE.findall(text)


def anchors(markdown: str) -> set[str]:
    """The anchors of the headings, formed as code hosts do it."""
    found: set[str] = set()
    fence = ""
    for line in markdown.splitlines():
        match = FENCE.match(line)
        if match and (not fence or line.strip().startswith(fence)):
            fence = "" if fence else match[1]
        heading = None if fence else HEADING.match(line)
        if heading:
            slug = re.sub(r"[^\w\- ]", "", heading[1].lower()).replace(" ", "-")
            numbered = (f"{slug}-{count}" for count in range(1, 100))
            found.add(slug if slug not in found else next(name for name in numbered if name not in found))
    return found


def run(path: Path) -> str:
    """Runs a file's Python blocks; returns what went wrong, with file and line, or an empty text."""
    all_blocks = blocks(path.read_text(encoding="utf-8"))
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with asyncio.Runner() as runner:
        for block, after in zip(all_blocks, [*all_blocks[1:], None], strict=True):
            if block.language == "python":
                expected = after.text if after is not None and after.is_output else None
                fault = _run_block(block, f"{path.name}:{block.line}", namespace, runner, expected)
                if fault:
                    return f"{path.name}, the block at line {block.line}:\n{fault}"
    return ""


def _run_block(
    block: Block, name: str, namespace: dict[str, Any], runner: asyncio.Runner, expected: str | None
) -> str:
    linecache.cache[name] = (len(block.text), None, block.text.splitlines(keepends=True), name)
    try:
        code = compile(block.text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if block.only_compiled:
            return ""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            if code.co_flags & inspect.CO_COROUTINE:
                runner.run(eval(code, namespace))
            else:
                exec(code, namespace)
    except BaseException:
        return traceback.format_exc()
    if expected is not None and _stripped(printed.getvalue()) != _stripped(expected):
        return f"printed:\n{printed.getvalue()}\nand not, as the page says:\n{expected}"
    return ""


def _stripped(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def python_blocks(path: Path) -> Iterator[Block]:
    """The Python blocks of a file."""
    return (block for block in blocks(path.read_text(encoding="utf-8")) if block.language == "python")


if __name__ == "__main__":
    problem = run(Path(sys.argv[1]))
    if problem:
        sys.exit(problem)
