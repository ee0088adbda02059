"""What a response consists of: items, such as a message or reasoning, which grow as the run speaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...streaming.events import Event, ReasoningDelta, TextDelta

__all__ = ["MESSAGE", "REASONING", "Item", "Kind", "Output", "piece_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of item that has one part, of text.

    `prefix` begins the ids, `part` is the part's type, `events` what the names of its events begin with. The others
    are further fields, of the item, of its part, and of the events about that.
    """

    type: str
    prefix: str
    part: str
    events: str
    of_item: Mapping[str, Any] = field(default_factory=dict)
    of_part: Mapping[str, Any] = field(default_factory=dict)
    of_events: Mapping[str, Any] = field(default_factory=dict)


MESSAGE = Kind(
    "message",
    "msg",
    "output_text",
    "response.output_text",
    {"role": "assistant"},
    {"annotations": [], "logprobs": []},
    {"logprobs": []},
)
REASONING = Kind("reasoning", "rs", "reasoning_text", "response.reasoning_text", {"summary": []})


def piece_of(event: Event) -> tuple[Kind, str] | None:
    """What an event adds to the response; None for all that is no part of the answer.

    Calls of tools would be a third kind: here, and with items of their own shape.
    """
    if type(event) is TextDelta:
        return (MESSAGE, event.text) if event.output and event.text else None
    if type(event) is ReasoningDelta:
        return (REASONING, event.text) if event.output and event.text else None
    return None


@dataclass(slots=True)
class Item:
    """One item; `index` is its place in the output."""

    kind: Kind
    id: str
    index: int
    status: str = "in_progress"
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def part(self, text: str | None = None) -> dict[str, Any]:
        """Its one part, as JSON has it; `text` where it is another than all there is."""
        return {"type": self.kind.part, "text": self.text if text is None else text, **self.kind.of_part}

    def told(self, *parts: dict[str, Any]) -> dict[str, Any]:
        """As JSON has it, with these parts."""
        head = {"id": self.id, "type": self.kind.type, "status": self.status}
        return {**head, **self.kind.of_item, "content": list(parts)}


class Output:
    """The items of one response."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self.items: list[Item] = []

    @property
    def last(self) -> Item | None:
        return self.items[-1] if self.items else None

    @property
    def silent(self) -> bool:
        """Whether there is no text of the answer yet."""
        return not any(item.kind is MESSAGE for item in self.items)

    def begin(self, kind: Kind) -> Item:
        """The next item; no more comes of the one before."""
        self.finish("completed")
        index = len(self.items)
        item = Item(kind, f"{kind.prefix}_{self._run_id}_{index}", index)
        self.items.append(item)
        return item

    def add(self, kind: Kind, text: str) -> None:
        """Adds a piece of the answer."""
        last = self.last
        item = last if last is not None and last.kind is kind else self.begin(kind)
        item.texts.append(text)

    def finish(self, status: str) -> None:
        """No more comes of the last item."""
        if self.last is not None:
            self.last.status = status

    def told(self) -> list[dict[str, Any]]:
        """As JSON has it."""
        return [item.told(item.part()) for item in self.items]
