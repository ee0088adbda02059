"""Turns as Gradio's messages: the question, the parts on the way, the answer, how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from gradio.components.chatbot import Message as Drawn

from .markup import escaped, shown
from .turns import Failure, Part, Turn

__all__ = ["Drawer", "turn_at"]


class Drawer:
    """Draws conversations; finished turns are drawn once."""

    def __init__(self) -> None:
        self._finished: WeakKeyDictionary[Turn, list[Any]] = WeakKeyDictionary()

    def messages(self, turns: Sequence[Turn]) -> list[Any]:
        """All that the page shows."""
        drawn: list[Any] = []
        for turn in turns:
            messages = self._finished.get(turn)
            if messages is None:
                messages = draw(turn)
                if turn.over:
                    self._finished[turn] = messages
            drawn += messages
        return drawn


def turn_at(turns: Sequence[Turn], message: int) -> int:
    """The place of the turn that a message, counted from 0, belongs to; -1 where there is none."""
    end = 0
    for place, turn in enumerate(turns):
        end += len(draw(turn))
        if message < end:
            return place
    return -1


def draw(turn: Turn) -> list[Any]:
    drawn = [_text("user", shown(turn.question))]
    drawn += [_part(part) for part in turn.parts]
    if turn.text:
        drawn.append(_text("assistant", shown(turn.text)))
    if not turn.over and (turn.status or not turn.text):
        drawn.append(_text("assistant", f'<span class="mr-status">{escaped(turn.status)}</span>'))
    if turn.failure is not None:
        drawn.append(_html(_failure(turn.failure)))
    if turn.note:
        drawn.append(_html(f'<div class="mr-note">{escaped(turn.note)}</div>'))
    return drawn


def _text(role: str, text: str, metadata: dict[str, Any] | None = None) -> Any:
    return Drawn(role=role, content=[{"type": "text", "text": text}], metadata=metadata)


def _part(part: Part) -> Any:
    metadata: dict[str, Any] = {"title": escaped(part.title), "status": "pending"}
    if part.seconds is not None:
        metadata |= {"status": "done", "duration": round(part.seconds, 1)}
    return _text("assistant", shown(part.text), metadata)


def _html(content: str) -> Any:
    component = {
        "component": "html",
        "value": content,
        "constructor_args": {},
        "props": {"value": content, "visible": True},
    }
    return Drawn(role="assistant", content=[{"type": "component", **component}])


def _failure(failure: Failure) -> str:
    advice = f" <span>{escaped(failure.advice)}</span>" if failure.advice else ""
    return f'<div class="mr-failure" role="alert"><strong>{escaped(failure.what)}.</strong>{advice}</div>'
