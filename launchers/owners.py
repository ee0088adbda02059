"""Owners: whose a run or a session is. Nobody is told of what belongs to somebody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from ..streaming.queues import RunInfo
from .quotas import Quota

__all__ = ["ANYBODY", "Owner", "owner_of"]

KEY = "millrace.owner"
"""Where the ASGI scope of a request has its owner."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a run or a session is: the name of an API key; None where there are no keys. `sees_all`: what the others
    have used is told to it as well.

    Two owners' sessions of one name are two sessions: inside, the name has the owner's mark before it.
    """

    name: str | None = None
    quota: Quota = field(default_factory=Quota)
    sees_all: bool = False

    @property
    def mark(self) -> str:
        """What stands before the names of the owner's sessions."""
        return "" if self.name is None else sha256(self.name.encode()).hexdigest()[:16] + "."

    def session(self, name: str) -> str:
        """The id inside of the session that the owner calls `name`."""
        return self.mark + name

    def shown(self, session: str | None) -> str | None:
        """What the owner calls a session: the id inside without the mark."""
        return session if session is None else session.removeprefix(self.mark)

    def owns(self, info: RunInfo) -> bool:
        """Whether a run is the owner's."""
        return info.owner == self.name


ANYBODY = Owner()
"""Whoever comes, where there are no keys."""


def owner_of(scope: Mapping[str, Any]) -> Owner:
    """Whose request it is."""
    owner: Owner = scope.get(KEY, ANYBODY)
    return owner
