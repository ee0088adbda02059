"""StopChecker: ends an answer at a stop string, without letting a part of it out."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["StopChecker"]


class StopChecker:
    """Lets text through up to the first stop string, however the text is cut into pieces.

    The first stop string is the one that is complete first; of several that end at the same character, the
    longest. Text is held back only while it may still become a stop string.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Takes the next piece; returns what may go out. After a stop string was found, nothing does."""
        if not self._stops or self.stopped:
            return "" if self.stopped else text
        text = self._held + text
        found = min(
            ((start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0),
            default=None,
        )
        if found is not None:
            self.stopped = True
            self._held = ""
            return text[: found[1]]
        hold = self._possible_start(text)
        self._held = text[hold:]
        return text[:hold]

    def flush(self) -> str:
        """The text held back, at an end that is no stop string."""
        held, self._held = self._held, ""
        return held

    def _possible_start(self, text: str) -> int:
        """Where the longest end of the text begins that is the beginning of a stop string."""
        longest = max(map(len, self._stops)) - 1
        for start in range(max(0, len(text) - longest), len(text)):
            end = text[start:]
            if any(stop.startswith(end) for stop in self._stops):
                return start
        return len(text)
