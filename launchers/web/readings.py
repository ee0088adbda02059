"""A turn that is on its way, as the queue of its run has it: for pages that come to it later, as after a reload."""

from __future__ import annotations

from ...streaming.events import RunFinished
from ...streaming.readers import Reader
from .turns import Turn

__all__ = ["Reading"]


class Reading:
    """Reads a run from its first event on, and makes of it what the page shows.

    Args:
        original: the turn of that run; of it come the question and the files, which are in no event.
        reader: of the run, by its id, at its first event.
    """

    def __init__(self, original: Turn, reader: Reader) -> None:
        self._original = original
        self._reader = reader
        self._turn = Turn(original.question, original.files)
        self._turn.asked = original.asked
        self._turn.begin()

    def turn(self) -> Turn:
        """The turn as of now. It does not end: how a run has ended is shown by the turn itself.

        Raises:
            QueueError: what comes next is not kept any more.
        """
        turn = self._turn
        while (event := self._reader.take()) is not None:
            if type(event) is not RunFinished:
                turn.take(event)
        turn.made = self._original.made
        if turn.silent:
            turn.status = self._original.status  # of a model that is loading
        return turn

    def close(self) -> None:
        """Gives back what reading has taken."""
        self._reader.close()
