"""The recent runs of whoever looks: each a small picture, and behind a click all of it, with what the run said."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable

from ...flow.timelines import STYLE, bars_of, find, span
from ...streaming.errors import QueueError
from ...streaming.queues import Queue, RunInfo
from ..owners import Owner
from .markup import escaped, inert
from .run_records import LINES, Line, Record, Shelves

__all__ = ["RunsView"]

SHOWN = 12
"""Runs that are shown."""

DRAWN, WIDTH = 8, 320
"""Rows of a small picture, and its width in its own units."""

WIDE = 760
"""Pixels of the whole picture of a run."""

LOOKED_AT = 200
"""Runs of a queue that are looked through for those of one owner."""

EVERY = 3.0
"""Seconds between two looks into a queue for the same owner."""

LOOKS = 500
"""Owners whose runs in the queue are remembered."""

TITLE = 120
"""Characters of a question that a card shows."""

STATES = {"done": "done", "error": "failed", "lost": "failed", "cancelled": "stopped", "timeout": "stopped"}


class RunsView:
    """The runs of each owner: those of the chat itself, and those of the same owner that a queue has besides.

    Args:
        shelves: where the chat's own runs are.
        queue: where others may be, such as those of the API, or of this chat before the server was started anew.
    """

    def __init__(self, shelves: Shelves, queue: Queue | None = None) -> None:
        self.shelves = shelves
        self.queue = queue
        self._cards: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._old: OrderedDict[str | None, tuple[float, list[Record]]] = OrderedDict()

    # ------------------------------------------------------------ which

    def look(self, owner: Owner) -> None:
        """Looks into the queue for the owner's runs, now and then; to be called in a thread, since it reads files."""
        if self.queue is None:
            return
        looked, before = self._old.get(owner.name, (0.0, []))
        if looked and time.monotonic() - looked < EVERY:
            return
        over = {record.key: record for record in before if record.over}
        found = [over.get(info.id) or _recorded(info, self.queue) for info in self._owned(owner, self.queue)]
        self._old[owner.name] = time.monotonic(), found
        self._old.move_to_end(owner.name)
        while len(self._old) > LOOKS:
            self._old.popitem(last=False)

    def runs(self, owner: Owner) -> list[Record]:
        """The owner's runs, the latest first."""
        own = self.shelves.of(owner)
        known = {record.run_id for record in own}
        _, old = self._old.get(owner.name, (0.0, []))
        found = [*own, *(record for record in old if record.run_id not in known)]
        return sorted(found, key=lambda record: -record.asked)[:SHOWN]

    @staticmethod
    def _owned(owner: Owner, queue: Queue) -> Iterable[RunInfo]:
        found: list[RunInfo] = []
        for looked, info in enumerate(queue.runs()):
            if looked >= LOOKED_AT or len(found) >= SHOWN:
                break
            if owner.owns(info):
                found.append(info)
        return found

    # ------------------------------------------------------------ the cards

    def cards(self, owner: Owner, chosen: str = "") -> str:
        """The owner's runs as a list of pictures, the latest first; `chosen` is the key of the one that is open."""
        records = self.runs(owner)
        if not records:
            return '<div class="mr-runs" data-seen="none"><p class="mr-line">No runs yet.</p></div>'
        cards = "".join(self._card(record, record.key == chosen) for record in records)
        live = " data-live" if any(not record.over for record in records) else ""
        return f'<div data-seen="{self.mark(owner)}"{live}><style>{STYLE}</style><ol class="mr-runs">{cards}</ol></div>'

    def mark(self, owner: Owner) -> str:
        """Another one whenever the cards have changed."""
        records = self.runs(owner)
        newest = records[0].mark if records else "none"
        live = [_mark(record) for record in records if not record.over]
        return ".".join((newest, str(len(records)), *live))

    def _card(self, record: Record, chosen: bool) -> str:
        known = self._cards.get(record.key)
        mark = f"{_mark(record)}.{chosen}"
        if known is not None and known[0] == mark and record.over:
            return known[1]
        card = _card(record, chosen)
        self._cards[record.key] = (mark, card)
        while len(self._cards) > 100 * SHOWN:
            self._cards.popitem(last=False)
        return card

    # ------------------------------------------------------------ one run

    def run(self, owner: Owner, key: str) -> str:
        """The whole picture of one of the owner's runs, and what it said; of anybody else's nothing."""
        record = self._find(owner, key)
        if record is None:
            return '<div class="mr-run-open" data-seen=""></div>'
        timeline = record.timeline()
        live = "" if record.over else " data-live"
        title = f"<h2>{inert(escaped(_short(record.title)))}</h2>" if record.title else ""
        return (
            f'<section class="mr-run-open" aria-label="The run" data-key="{record.key}" '
            f'data-seen="{_mark(record)}"{live}>'
            f'{title}<div class="mr-drawing" role="region" aria-label="Timeline" tabindex="0">'
            f"{inert(timeline.svg(WIDE))}</div>{_said(record)}</section>"
        )

    def mark_of(self, owner: Owner, key: str) -> str:
        """Another one whenever there is something new to see of one run."""
        record = self._find(owner, key)
        return "" if record is None else _mark(record)

    def _find(self, owner: Owner, key: str) -> Record | None:
        return next((record for record in self.runs(owner) if record.key == key), None)


def _mark(record: Record) -> str:
    return f"{record.mark}.{record.story.events}"


def _recorded(info: RunInfo, queue: Queue) -> Record:
    """The record of a run that the queue has."""
    record = Record(info.name or "", info.name, info.created)
    record.key = record.run_id = info.id
    try:
        for event in find(info.id, queue).events:
            record.take(event)
    except QueueError:
        pass  # it has expired meanwhile
    if info.over:
        record.end(info.status, info.reason, info.error, info.ended)
    return record


# ---------------------------------------------------------------- HTML


def _card(record: Record, chosen: bool) -> str:
    timeline, state = record.timeline(), _state(record)
    facts = " · ".join(filter(None, (timeline.outcome, span(timeline.took), _tokens(record))))
    first = "" if timeline.first is None else f", first piece after {span(timeline.first)}"
    clock = time.strftime("%H:%M", time.localtime(record.asked))
    title = inert(escaped(_short(record.title) or timeline.name or "Run"))
    return (
        f'<li><button type="button" class="mr-run" data-run="{record.key}" aria-pressed="{str(chosen).lower()}">'
        f'<span class="mr-run-title"><span class="mr-dot" data-state="{state}"></span><span>{title}</span>'
        f"<time>{clock}</time></span>{inert(bars_of(timeline, WIDTH, DRAWN))}"
        f'<span class="mr-run-facts">{inert(escaped(facts))}<span class="mr-unseen">{escaped(first)}</span></span>'
        "</button></li>"
    )


def _state(record: Record) -> str:
    return STATES.get(record.story.status, "stopped") if record.over else "running"


def _tokens(record: Record) -> str:
    tokens = record.story.usage.completion_tokens
    return f"{tokens:,} token{'' if tokens == 1 else 's'}" if tokens else ""


def _short(title: str) -> str:
    words = " ".join(title[: 4 * TITLE].split())
    return words if len(words) <= TITLE else words[: TITLE - 1] + "…"


def _said(record: Record) -> str:
    """All lines of what a run said."""
    if not record.lines:
        return ""
    start = record.asked
    lines = "".join(_line(line, start) for line in record.lines)
    more = (
        f'<p class="mr-line">{record.more:,} further events are not kept here: {LINES} lines are.</p>'
        if record.more
        else ""
    )
    events = f"{record.story.events:,} event{'' if record.story.events == 1 else 's'}"
    box = '<div class="mr-events" role="region" aria-label="Events" tabindex="0">'
    return f"<h3>{events}</h3>{box}<ol>{lines}</ol></div>{more}"


def _line(line: Line, start: float) -> str:
    number = str(line.seq) if line.many == 1 else f"{line.seq}–{line.until}"
    many = f" ×{line.many:,}" if line.many > 1 else ""
    cut = f" <em>… {line.cut:,} more characters are not shown</em>" if line.cut else ""
    text = f"<q>{escaped(line.text)}{cut}</q>" if line.text else ""
    path = " › ".join(map(str, line.path))
    after = f"+{span(line.time - start)}"
    return inert(
        f'<li class="{line.kind}"><span>{number}</span><span>{escaped(after)}</span>'
        f"<b>{line.kind.replace('_', ' ')}{many}</b><i>{escaped(path)}</i>{text}</li>"
    )
