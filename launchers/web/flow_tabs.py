"""The diagram of a chat's flow, whose steps light up while a run is at work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from itertools import zip_longest
from typing import Literal

from ...flow.drawing.diagrams import ANY, cells
from ...flow.steps import Step
from ...flow.timelines import Story, Timeline, Track, span
from ...streaming.events import Path
from .markup import escaped, inert
from .run_records import Record

__all__ = ["FlowView"]

State = Literal["idle", "running", "done", "failed", "stopped"]

GROUP = re.compile(r'<g class="(?P<kind>[^"]*)" data-path=(?P<path>"[^"]*"|\'[^\']*\')>')
RECT = re.compile(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"')

SMALL = 6.7
"""Width of a character of a badge, in pixels."""

INVITATION = "Ask something in the chat: its steps light up here as they run."

NAMED = 4
"""Steps at work that are named in words."""


@dataclass(frozen=True, slots=True)
class Place:
    """A step or flow in the diagram: its group up to the path, what follows, and its rectangle."""

    path: str
    head: str
    body: str
    x: float
    y: float
    width: float
    height: float
    framed: bool


@dataclass(slots=True)
class Standing:
    """How one place of the diagram stands: all turns and items of it together."""

    state: State = "idle"
    going: int = 0
    many: int = 0
    took: float = 0.0
    error: str = ""


class FlowView:
    """Draws a flow once, and then how its steps stand in a run.

    Everything is made here, in this process; the page runs no script of the drawing's.
    """

    def __init__(self, flow: Step[object, object]) -> None:
        self.name = flow.name or ""
        svg = inert(flow.draw("svg"))
        self._start, self._parts = svg, list[tuple[Place, str]]()
        matches = list(GROUP.finditer(svg))
        if matches:
            self._start = svg[: matches[0].start()]
        for match, following in zip_longest(matches, matches[1:]):
            end = len(svg) if following is None else following.start()
            close = svg.index("</g>", match.end())
            self._parts.append((_place(match, svg[match.end() : close]), svg[close:end]))
        self._paths = {place.path for place, _ in self._parts}
        self._resolved: dict[Path, str | None] = {}

    def html(self, record: Record | None = None) -> str:
        """The diagram, and a line in words above it; with a run, as that stands."""
        story = None if record is None else record.story
        standings = {} if story is None else self._standings(story)
        live = story is not None and not story.over
        whole = "idle" if story is None else _state_of(story)
        drawn = [self._start]
        for place, after in self._parts:
            drawn += (_drawn(place, standings.get(place.path), story is not None), after)
        seen = "" if record is None else record.mark
        return (
            f'<div class="mr-flow" data-seen="{seen}"{" data-live" if live else ""} data-state="{whole}"'
            f"{'' if self._parts else ' data-alone'}>"
            f'<p class="mr-line" role="status"><span class="mr-dot" data-state="{whole}"></span>'
            f"{inert(escaped(self._words(record)))}</p>"
            '<div class="mr-drawing" role="region" aria-label="Diagram of the flow" tabindex="0">'
            f"{''.join(drawn)}</div></div>"
        )

    def _words(self, record: Record | None) -> str:
        """How the run stands, in words."""
        if record is None:
            return INVITATION
        story = record.story
        if story.over:
            timeline = Timeline(story)
            outcome = timeline.outcome
            return " · ".join((outcome[:1].upper() + outcome[1:], *timeline.facts))
        if story.began is None:
            return "Waiting for a free place"
        many: dict[tuple[str, ...], int] = {}
        for track in story.tracks:
            if track.going and not any(inner.going for inner in _inner(track)):
                names = tuple(part for part in track.path if isinstance(part, str))
                many[names] = many.get(names, 0) + len(track.going)
        if not many:
            return "Running"
        said = [
            " › ".join(names[-2:] or ("the flow",)) + (f" ×{count}" if count > 1 else "")
            for names, count in many.items()
        ]
        more = f" and {len(said) - NAMED} more" if len(said) > NAMED else ""
        return f"At work: {', '.join(said[:NAMED])}{more}"

    # ------------------------------------------------------------ from paths to places

    def _standings(self, story: Story) -> dict[str, Standing]:
        found: dict[str, Standing] = {}
        for track in story.tracks:
            path = self.resolve(track.path)
            if path is not None and track.bouts:
                _add(found.setdefault(path, Standing()), track)
        return found

    def resolve(self, path: Path) -> str | None:
        """Which path of the diagram a step of a run stands at; there turns and items are `*`."""
        if path not in self._resolved:
            if len(self._resolved) > 10_000:  # long loops: each turn has a path
                self._resolved.clear()
            self._resolved[path] = next((one for one in _spelt(path) if one in self._paths), None)
        return self._resolved[path]


def _place(match: re.Match[str], body: str) -> Place:
    rects = RECT.findall(body)
    x, y, width, height = map(float, rects[-1]) if rects else (0.0, 0.0, 0.0, 0.0)
    path = unescape(match["path"][1:-1])
    return Place(path, match[0][:-1], body, x, y, width, height, match["kind"] == "group")


def _spelt(path: Path) -> Iterator[str]:
    """The ways in which a diagram may spell a path: numbers as they are, where branches have them, or as `*`."""
    spelt = [""]
    for part in path:
        ways = [str(part), ANY] if isinstance(part, int) else [str(part)]
        spelt = [f"{one}/{way}" if one else way for one in spelt[:16] for way in ways]
    yield from spelt


def _inner(track: Track) -> Iterator[Track]:
    for child in track.children.values():
        yield child
        yield from _inner(child)


# ---------------------------------------------------------------- how a place stands


def _add(standing: Standing, track: Track) -> None:
    standing.many += len(track.bouts)
    for bout in track.bouts:
        state: State = "done"
        if bout.ended is None:
            state = "running"
            standing.going += 1
        elif bout.error is not None:
            state, standing.error = "failed", bout.error
        elif bout.stopped:
            state = "stopped"
        if RANKS.index(state) > RANKS.index(standing.state):
            standing.state = state
        if bout.began is not None and bout.ended is not None:
            standing.took += bout.ended - bout.began


RANKS: list[State] = ["idle", "done", "stopped", "failed", "running"]
"""Of several turns or items, the last of these that any is in counts."""


def _state_of(story: Story) -> State:
    if not story.over:
        return "running"
    return {"done": "done", "error": "failed", "lost": "failed"}.get(story.status, "stopped")  # type: ignore[return-value]


def _drawn(place: Place, standing: Standing | None, told: bool) -> str:
    if not told:
        return f"{place.head}>{place.body}"
    if standing is None:
        return f'{place.head} data-state="idle">{place.body}'
    return f'{place.head} data-state="{standing.state}">{place.body}{_badge(place, standing)}'


def _badge(place: Place, standing: Standing) -> str:
    """A small word on the edge of a box: how long it took, how often it was at work, or what went wrong."""
    many = f"×{standing.many}" if standing.many > 1 else ""
    if standing.state == "running":
        words = many
    elif standing.state == "failed":
        words = standing.error
    elif standing.state == "stopped":
        words = "stopped"
    else:
        words = many or span(standing.took)
    if not words or not place.width:
        return ""
    width = cells(words) * SMALL + 8
    x = place.x + place.width - 6 - width
    y = place.y if place.framed else place.y + place.height
    return (
        f'<g class="badge"><rect x="{x:g}" y="{y - 8:g}" width="{width:g}" height="16" rx="8"/>'
        f'<text x="{x + width / 2:g}" y="{y + 4:g}">{inert(escaped(words))}</text></g>'
    )
