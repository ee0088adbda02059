"""Turns as Gradio's messages: the question, the parts on the way, the answer, how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from gradio.components.chatbot import Message as Drawn

from .file_lists import listed
from .markup import escaped, shown
from .turns import Failure, Part, Turn
from .words import said

__all__ = ["Drawer", "View", "turn_at"]


@dataclass(frozen=True, slots=True)
class View:
    """For whom turns are drawn: their `language`, and `files`, the path under which the files are."""

    language: str = "en"
    files: str = "files"


class Drawer:
    """Draws conversations; finished turns are drawn once for each view."""

    def __init__(self) -> None:
        self._finished: WeakKeyDictionary[Turn, dict[View, list[Any]]] = WeakKeyDictionary()

    def messages(self, turns: Sequence[Turn], view: View = View()) -> list[Any]:
        """All that the page shows."""
        drawn: list[Any] = []
        for turn in turns:
            messages = self._finished.get(turn, {}).get(view)
            if messages is None:
                messages = draw(turn, view)
                if turn.over:
                    self._finished.setdefault(turn, {})[view] = messages
            drawn += messages
        return drawn


def turn_at(turns: Sequence[Turn], message: int) -> int:
    """The place of the turn that a message, counted from 0, belongs to; -1 where there is none."""
    end = 0
    for place, turn in enumerate(turns):
        end += len(draw(turn, View()))
        if message < end:
            return place
    return -1


def draw(turn: Turn, view: View) -> list[Any]:
    language = view.language
    drawn = [_text("user", shown(turn.question))] if turn.question else []
    if turn.files:
        drawn.append(_html(listed(turn.files, view.files, language), "user"))
    drawn += [_part(part, language) for part in turn.parts]
    if turn.text:
        drawn.append(_text("assistant", shown(turn.text)))
    if turn.made:
        drawn.append(_html(listed(turn.made, view.files, language)))
    if not turn.over and (turn.status or not (turn.text or turn.made)):
        status = escaped(said(turn.status, language))
        drawn.append(_text("assistant", f'<span class="mr-status" role="status">{status}</span>'))
    if turn.failure is not None:
        drawn.append(_html(_failure(turn.failure, language)))
    if turn.note:
        drawn.append(_html(f'<div class="mr-note">{escaped(said(turn.note, language))}</div>'))
    return drawn


def _text(role: str, text: str, metadata: dict[str, Any] | None = None) -> Any:
    return Drawn(role=role, content=[{"type": "text", "text": text}], metadata=metadata)


def _part(part: Part, language: str) -> Any:
    metadata: dict[str, Any] = {"title": escaped(said(part.title, language)), "status": "pending"}
    if part.seconds is not None:
        metadata |= {"status": "done", "duration": round(part.seconds, 1)}
    return _text("assistant", shown(part.text), metadata)


def _html(content: str, role: str = "assistant") -> Any:
    component = {
        "component": "html",
        "value": content,
        "constructor_args": {},
        "props": {"value": content, "visible": True},
    }
    return Drawn(role=role, content=[{"type": "component", **component}])


def _failure(failure: Failure, language: str) -> str:
    what, advice = said(failure.what, language), said(failure.advice, language)
    rest = f" <span>{escaped(advice)}</span>" if advice else ""
    stop = "。" if language == "zh" else "."
    return f'<div class="mr-failure" role="alert"><strong>{escaped(what)}{stop}</strong>{rest}</div>'
