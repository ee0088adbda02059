"""What stands beside the chat: each panel is a tab of the page, named in its head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .handlers import Handlers

__all__ = ["Panel"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One tab: `build` is called inside of it, and makes its Gradio components and their events.

    The page's handlers say which flow it is, and whose a request is.
    """

    name: str
    build: Callable[[Handlers], object]
