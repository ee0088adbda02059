"""What /v1/responses answers: the events of a stream, or one response."""

from __future__ import annotations

from typing import Any

from ...streaming.events import Event, RunFinished
from .refusals import Refusal
from .response_items import MESSAGE, Item, Kind, Output, piece_of
from .response_objects import ResponseObject
from .values import as_json, as_text
from .wire import encode

__all__ = ["ResponseStream", "ResponseWhole", "ended", "rest_of"]


class ResponseWhole:
    """A WholeDialect: one response."""

    def __init__(self, about: ResponseObject) -> None:
        self._object = about
        self._output = Output(about.run_id)

    def hear(self, event: Event) -> bool:
        piece = piece_of(event)
        if piece is not None:
            self._output.add(*piece)
        return piece is not None

    def body(self, finished: RunFinished) -> bytes:
        if (text := rest_of(self._output, finished)) is not None:
            self._output.add(MESSAGE, text)
        return as_json(ended(self._object, self._output, finished)).encode()


class ResponseStream:
    """A StreamDialect: events whose `sequence_number` counts from 0 without gaps.

    A piece carries the `seq` of the run's event as the id of the server-sent event, from which /v1/runs/{id}/events
    goes on. It is written by hand around its text, as a chunk of chat completions is.
    """

    def __init__(self, about: ResponseObject) -> None:
        self._object = about
        self._output = Output(about.run_id)
        self._count = 0
        self._item: Item | None = None
        self._head = self._middle = self._tail = ""

    def begin(self) -> str:
        told = self._object.begun()
        return self._say("response.created", response=told) + self._say("response.in_progress", response=told)

    def piece(self, event: Event) -> str:
        piece = piece_of(event)
        if piece is None:
            return ""
        kind, text = piece
        before = self._before(kind)
        return f"{before}id: {event.seq}\n{self._delta(text)}"

    def end(self, finished: RunFinished) -> str:
        text = rest_of(self._output, finished)
        rest = "" if text is None else self._before(MESSAGE) + self._delta(text)
        told = ended(self._object, self._output, finished)
        return rest + self._close() + self._say(f"response.{told['status']}", response=told)

    def failure(self, finished: RunFinished, refusal: Refusal) -> str:
        return self._say("response.failed", response=ended(self._object, self._output, finished, refusal))

    def lost(self, finished: RunFinished, refusal: Refusal) -> str:
        """OpenAI's `error` event. What its number would be, and what was answered, nobody is left to know."""
        fields = {"code": refusal.code, "message": refusal.message, "param": None}
        told = as_json({"type": "error", "sequence_number": None, **fields})
        return f"event: error\ndata: {told}\n\n"

    # ------------------------------------------------------------ events

    def _say(self, kind: str, **fields: Any) -> str:
        """One event."""
        told = as_json({"type": kind, "sequence_number": self._count, **fields})
        self._count += 1
        return f"event: {kind}\ndata: {told}\n\n"

    def _before(self, kind: Kind) -> str:
        """What must be said before a piece: where an item of another kind was going on, or none."""
        if self._item is not None and self._item.kind is kind:
            return ""
        self._output.finish("completed")
        closing = self._close()
        self._item = self._output.begin(kind)
        return closing + self._open(self._item)

    def _delta(self, text: str) -> str:
        """A piece of the item that is going on."""
        assert self._item is not None
        self._item.texts.append(text)
        count = self._count
        self._count = count + 1
        return f"{self._head}{count}{self._middle}{encode(text)}{self._tail}"

    def _open(self, item: Item) -> str:
        """What is said of an item before its text."""
        name, place = f"{item.kind.events}.delta", {"item_id": item.id, "output_index": item.index}
        about = as_json({**place, "content_index": 0})[1:-1]
        more = as_json(item.kind.of_events)[1:-1]
        self._head = f'event: {name}\ndata: {{"type":"{name}","sequence_number":'
        self._middle = f',{about},"delta":'
        self._tail = f"{',' if more else ''}{more}}}\n\n"
        return self._say("response.output_item.added", output_index=item.index, item=item.told()) + self._say(
            "response.content_part.added", **place, content_index=0, part=item.part("")
        )

    def _close(self) -> str:
        """What is said of the last item after its text."""
        item = self._item
        if item is None:
            return ""
        place = {"item_id": item.id, "output_index": item.index, "content_index": 0}
        text, part = item.text, item.part()
        return (
            self._say(f"{item.kind.events}.done", **place, text=text, **item.kind.of_events)
            + self._say("response.content_part.done", **place, part=part)
            + self._say("response.output_item.done", output_index=item.index, item=item.told(part))
        )


def rest_of(output: Output, finished: RunFinished) -> str | None:
    """The result as the answer's text, where nothing of that was streamed; None where there is nothing to add."""
    text = as_text(finished.result) if output.silent else ""
    return text if text or not output.items else None


def ended(
    about: ResponseObject, output: Output, finished: RunFinished, refusal: Refusal | None = None
) -> dict[str, Any]:
    """The response of a run that is over, as JSON has it."""
    told = about.over(finished, refusal)
    output.finish("completed" if told["status"] == "completed" else "incomplete")
    told["output"] = output.told()
    return told
