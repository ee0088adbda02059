"""Pieces: text as it lies in the in-memory queue, and events as they lie behind the listener."""

from __future__ import annotations

from collections import deque
from collections.abc import Reversible, Sequence
from itertools import islice
from typing import Any

from .events import Event, Path, TextDelta

__all__ = ["FIELDS", "Piece", "as_event", "flat", "newer", "seq_of", "unflat"]

Piece = tuple[int, Path, float, str, bool]
"""A TextDelta as it lies in the queue: `seq`, `path`, `time`, `text`, `output`.

The event is made where somebody asks for events: of most runs only the text is heard.
"""

FIELDS = 5
"""How many places one event takes in `behind`: those of a Piece, or `seq`, the event and three times None.

Each event is laid out flat, so that nothing is kept for it that the garbage collector would look at: with a thousand
runs in memory, what it had to look at for their text cost as much as a sixth of all the work.
"""


def newer(events: Reversible[Event | Piece], after: int) -> list[Event | Piece]:
    """Those with a higher sequence number than `after`, from the end of what is in order."""
    found: list[Event | Piece] = []
    for event in reversed(events):
        if seq_of(event) <= after:
            break
        found.append(event)
    found.reverse()
    return found


def seq_of(event: Event | Piece) -> int:
    """The sequence number of what lies in the queue."""
    return event[0] if isinstance(event, tuple) else event.seq


def flat(event: Event) -> tuple[Any, ...]:
    """An event that is no text, for `behind`."""
    return event.seq, event, None, None, None


def unflat(behind: deque[Any], after: int) -> Sequence[Event | Piece]:
    """What lies in `behind` with a higher sequence number than `after`, and perhaps more before that.

    Raises:
        RuntimeError: it has changed meanwhile.
    """
    many = behind[-FIELDS] - after if behind else 0
    if many <= 0:
        return ()
    found = list(islice(reversed(behind), many * FIELDS))
    found.reverse()
    pieces = zip(*(found[at::FIELDS] for at in range(FIELDS)), strict=True)
    return [piece if piece[2] is not None else piece[1] for piece in pieces]


def as_event(queued: Event | Piece) -> Event:
    """What lies in the queue, as an event."""
    if not isinstance(queued, tuple):
        return queued
    event = _new(TextDelta)
    event.seq, event.path, event.time, event.text, event.output = queued  # type: ignore[misc]
    return event


_new = object.__new__
