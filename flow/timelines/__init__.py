"""Timelines of runs: which steps were at work when, drawn for a terminal and as SVG. Nothing here needs a network.

The events of a run are found (`sources`), summed up (`stories`), given rows (`rows`), and drawn (`texts`, `pictures`).
"""

from .axes import span
from .pictures import bars_of
from .sources import find
from .stories import Story, Track
from .styles import STYLE
from .timelines import Timeline, explain

__all__ = ["STYLE", "Story", "Timeline", "Track", "bars_of", "explain", "find", "span"]
