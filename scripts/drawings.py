"""Writes the drawing in docs/images: the flow of docs/flow/draw.md.

python -m scripts.drawings [folder]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.support.markdown import python_blocks

DOCS = Path(__file__).resolve().parent.parent / "docs"


def flow() -> Any:
    """The flow that the page writes in its first block."""
    block = next(python_blocks(DOCS / "flow" / "draw.md"))
    namespace: dict[str, Any] = {"__name__": "page"}
    exec(block.text, namespace)
    return namespace["flow"]


def main(folder: Path = DOCS / "images") -> None:
    (folder / "flow.svg").write_text(flow().draw("svg"), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
