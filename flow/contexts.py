"""What a step sets in context variables travels with its pieces, where the next step is in another thread or task."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar, copy_context
from typing import Any

from .threads import changed

__all__ = ["Settings", "Watch"]


class Settings(list[tuple[ContextVar[Any], Any]]):
    """Context variables that were set, and to what; it stands among the items of a stream."""

    def take_over(self) -> None:
        """Sets them here as well."""
        for variable, value in self:
            variable.set(value)


class Watch:
    """Sees what is set in the context that it is asked in, after it was made there or asked before."""

    def __init__(self) -> None:
        self._known = copy_context()

    def news(self, last: bool = False) -> Settings | None:
        """What was set since; None: nothing. Another object that equals the one before is told with the `last` ones."""
        now = copy_context()
        try:
            if (
                not last and now == self._known
            ):  # nearly always one and the same inside: no values are compared
                return None
        except Exception:  # values that cannot be compared
            pass
        found = Settings(changed(now, self._known))
        self._known = now
        return found or None

    def learn(self, settings: Iterable[tuple[ContextVar[Any], Any]]) -> None:
        """These are no news: they are known from elsewhere."""
        for variable, value in settings:
            self._known.run(variable.set, value)
