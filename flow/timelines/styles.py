"""How timelines look as SVG: their colours, by daylight and in the dark."""

from __future__ import annotations

__all__ = ["STYLE", "color_of"]

STYLE = """
.millrace-run { --ground: #ffffff; --ink: #1f2430; --dim: #636b78; --grid: #e6e8ec; --busy: #8b93a1;
  --busy-soft: #d9dde3; --live: #0b7285; --live-soft: #c5e3e8; --good: #2b8a3e; --bad: #c92a2a; --cut: #b35c00;
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace; }
@media (prefers-color-scheme: dark) { .millrace-run { --ground: #16181d; --ink: #e6e8ee; --dim: #9aa3b2;
  --grid: #2a2e37; --busy: #7d8797; --busy-soft: #3a404c; --live: #3bc9db; --live-soft: #17434b; --good: #69db7c;
  --bad: #ff8787; --cut: #ffa94d; } }
.millrace-run .ground { fill: var(--ground); }
.millrace-run text { fill: var(--ink); font-size: 12px; }
.millrace-run .dim { fill: var(--dim); font-size: 11px; }
.millrace-run .right { text-anchor: end; }
.millrace-run .middle { text-anchor: middle; }
.millrace-run .heading { font-size: 13px; font-weight: 600; }
.millrace-run .grid { stroke: var(--grid); stroke-width: 1; fill: none; }
.millrace-run .busy { fill: var(--busy); }
.millrace-run .soft, .millrace-run .wait { fill: var(--busy-soft); }
.millrace-run .speaking { fill: var(--live-soft); }
.millrace-run .pieces, .millrace-run .first { fill: var(--live); }
.millrace-run .around { fill: none; stroke: var(--busy); stroke-width: 1.4; }
.millrace-run .tool { fill: var(--cut); }
.millrace-run .bad { fill: var(--bad); }
.millrace-run .cut { fill: var(--cut); }
.millrace-run .good { fill: var(--good); }
.millrace-run .going { fill: var(--live); }
.millrace-run .end { stroke-width: 1.4; stroke-dasharray: 3 3; fill: none; }
.millrace-run .end.cut { stroke: var(--cut); }
.millrace-run .end.bad { stroke: var(--bad); }
.millrace-run .end.going { stroke: var(--live); }
.millrace-run .sign { stroke-width: 2; fill: none; stroke-linecap: round; }
.millrace-run .sign.bad { stroke: var(--bad); }
"""

COLORS = {"done": "good", "error": "bad", "lost": "bad", "cancelled": "cut", "timeout": "cut"}


def color_of(status: str) -> str:
    """The class of what is drawn in the colour of a run's status."""
    return COLORS.get(status, "going")
