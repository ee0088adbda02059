"""Timelines: a run as a picture, for a terminal and as SVG."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable

from ...streaming.attachments import Attachment
from ...streaming.events import Event
from ...streaming.queues import Queue
from ...streaming.runs import Run
from ...streaming.streams import Stream
from ...streaming.usage import TokenUsage
from ..drawing.diagrams import clean, shorten
from .axes import span
from .rows import rows_of
from .sources import find
from .stories import Story

__all__ = ["Timeline", "explain"]

AT_ONCE = 0.25
"""Seconds until a run begins, in which it need not have stood in line."""

WIDEST = 60
"""Columns that words which somebody has chosen may take."""

ENDS = {"cancelled": "stopped", "timeout": "timed out", "error": "failed"}
"""What a run's status is called, where that is another word."""


class Timeline:
    """Which steps of a run were at work when, as far as its events tell; made by `explain`.

    `print(timeline)` draws it for a terminal, a notebook shows its SVG. It is of one moment: of a run that goes on,
    make another one later.
    """

    def __init__(
        self, story: Story, name: str | None = None, now: float | None = None, born: float | None = None
    ) -> None:
        self.story = story
        self.name = shorten(clean(name or ""), WIDEST)
        self.rows, self.more = rows_of(story)
        known = [t for t in (born, story.asked, story.began, story.start) if t is not None]
        self.begin = min(known, default=now or 0.0)
        ends = [story.last, story.ended] if story.over else [story.last, now]
        self.end = max([self.begin, *(t for t in ends if t is not None)])

    @property
    def status(self) -> str:
        """The run's status: queued, running, waiting, done, cancelled, timeout, error or lost."""
        return self.story.status

    @property
    def took(self) -> float:
        """Seconds from its beginning, in line or not, to its end, or until now."""
        return self.end - self.begin

    @property
    def first(self) -> float | None:
        """Seconds until the first piece of the answer."""
        return None if self.story.first is None else self.story.first - self.begin

    @property
    def usage(self) -> TokenUsage:
        """Tokens spent so far."""
        return self.story.usage

    # ------------------------------------------------------------ in words

    @property
    def outcome(self) -> str:
        """How it is or how it has ended, and why; of an error, its type."""
        story = self.story
        words = ENDS.get(story.status, story.status)
        why = story.error if story.status == "error" else story.reason
        if not why or why in (story.status, "stop") or (story.status == "lost" and why == "lost"):
            return words
        why = shorten(clean(why), WIDEST)
        return f"{words} ({why})" if story.status == "done" else f"{words}: {why}"

    @property
    def facts(self) -> list[str]:
        """What is said of the run as a whole, besides its outcome."""
        found = [span(self.took) + ("" if self.story.over else " so far")]
        if self.first is not None:
            found.append(f"first piece after {span(self.first)}")
        if self.usage.total_tokens:
            found.append(f"{self.usage.prompt_tokens:,} + {self.usage.completion_tokens:,} tokens")
        return found

    @property
    def notes(self) -> list[str]:
        """What is not in the picture, and why."""
        story, found = self.story, []
        if not story.events and story.status != "queued":
            found.append("Nothing of what it said is kept any more.")
        elif not story.events:
            found.append("It has said nothing yet.")
        if story.missing:
            found.append(
                f"{_many(story.missing, 'event')} {'is' if story.missing == 1 else 'are'} not kept: what is drawn is "
                "what the others tell. A queue on disk keeps all."
            )
        if story.skipped:
            found.append(f"{_many(story.skipped, 'event')} before the stop came too late to be heard.")
        if story.left_out:
            found.append(f"{_many(story.left_out, 'event')} of further steps, more than are followed.")
        if self.more:
            found.append(f"{_many(self.more, 'more row')} not drawn.")
        return found

    # ------------------------------------------------------------ drawn

    def text(self, width: int | None = None, *, ascii: bool = False) -> str:
        """Lines for a terminal.

        Args:
            width: columns that they take, at least 40; without it the terminal's, or 100.
            ascii: nothing but ASCII.
        """
        from .texts import text_of

        return text_of(self, width or shutil.get_terminal_size((100, 24)).columns, ascii)

    def svg(self, width: int = 860) -> str:
        """One SVG element that asks for nothing else; light or dark as the page around it is.

        Args:
            width: pixels, at least 480.
        """
        from .pictures import picture_of

        return picture_of(self, width)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Timeline {' '.join(filter(None, (self.name, self.outcome)))}, {span(self.took)}>"

    def _repr_svg_(self) -> str:
        """For notebooks."""
        return self.svg()


def explain(
    run: Run | Stream | Attachment | str | Iterable[Event], queue: Queue | str | None = None
) -> Timeline:
    """A picture of a run: which steps were at work when, their first pieces, tokens, errors, and where it stopped.

    Of a run that goes on it shows how far it is, without waiting. In memory a stream keeps 256 events behind its
    listener, a detached run and a queue on disk all; what is missing is said.

    Args:
        run: a run, a stream, what `attach` returns, the id of a run, or the events of one.
        queue: where a run that is given by its id keeps its events; without it the runs of this process are meant.

    Raises:
        QueueError: there is no such run or queue, or nobody keeps what the run says.
        MillraceError: it is nothing of these.
    """
    found = find(run, queue)
    story, info = Story.of(found.events), found.info
    if info is None:
        return Timeline(story)
    enough = 0.0 if found.queued else AT_ONCE
    if info.status == "queued" or (story.began is not None and story.began - info.created > enough):
        story.asked = info.created
    if info.over and not story.over:  # its end is not kept
        story.end(info.ended or time.time(), info.status, info.reason, info.error)
        story.usage = info.usage
    elif not story.events:
        story.status = info.status
    return Timeline(story, info.name, time.time(), info.created if story.missing else None)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
