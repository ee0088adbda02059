"""Timelines of runs: which steps were at work when, drawn for a terminal and as SVG. Nothing here needs a network.

The events of a run are summed up (`stories`), given rows (`rows`), and drawn (`texts`, `pictures`).
"""

from .stories import Story
from .timelines import Timeline, explain

__all__ = ["Story", "Timeline", "explain"]
