"""Writes the drawings in docs/images: the flow of docs/flow/draw.md, and the run of docs/flow/timelines.md.

python -m scripts.drawings [folder]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from millrace.flow.timelines import Story, Timeline
from millrace.streaming import StepFinished, StepStarted
from millrace.streaming.usage import TokenUsage
from tests.flow.timelines.told import Told
from tests.support.markdown import python_blocks

DOCS = Path(__file__).resolve().parent.parent / "docs"


def flow() -> Any:
    """The flow that the page writes in its first block."""
    block = next(python_blocks(DOCS / "flow" / "draw.md"))
    namespace: dict[str, Any] = {"__name__": "page"}
    exec(block.text, namespace)
    return namespace["flow"]


def run() -> Timeline:
    """A run whose times are always the same."""
    told = Told().step(0, 0.04, "clean").say(0.04, StepStarted(), "notes").step(0.04, 0.52, "notes", "bm25")
    told.step(0.04, 0.86, "notes", "dense").say(0.86, StepFinished(), "notes").say(
        0.86, StepStarted(), "rate"
    )
    for i, seconds in enumerate((0.31, 0.22, 0.4, 0.27, 0.35, 0.18, 0.3, 0.24, 0.36)):
        begun = 0.86 + i // 3 * 0.36 + i % 3 * 0.03
        told.step(begun, begun + seconds, "rate", i)
    told.say(1.98, StepFinished(), "rate").say(1.98, StepStarted(), "sharper")
    for turn in range(3):
        told.step(1.98 + turn * 0.17, 2.15 + turn * 0.17, "sharper", turn)
    told.say(2.49, StepFinished(), "sharper").say(2.49, StepStarted(), "llm")
    told.pieces(3.1, 3.9, 70, "llm").pieces(4.3, 4.8, 26, "llm").pieces(4.83, 5.6, 84, "llm")
    told.end(5.62, "cancelled", "stopped in the chat", usage=TokenUsage(412, 180))
    return Timeline(Story.of(told.events), "desk")


def main(folder: Path = DOCS / "images") -> None:
    (folder / "flow.svg").write_text(flow().draw("svg"), encoding="utf-8")
    (folder / "timeline.svg").write_text(run().svg(), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
