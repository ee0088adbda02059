"""A conversation as lines of JSON: what the list shows of it, then a line for each turn."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ...streaming.usage import TokenUsage
from .settings import UNSAID, Settings
from .shelves import StoredFile
from .turns import Failure, Part, Turn

__all__ = ["Heading", "as_bytes", "heading_of", "settings_of", "turn_as_dict", "turn_from_dict", "turns_of"]

VERSION = 1


@dataclass(frozen=True, slots=True)
class Heading:
    """What the list shows of a conversation. `session` is that of its runs; times in seconds since the epoch."""

    id: str
    title: str
    session: str
    created: float
    updated: float


def as_bytes(heading: Heading, turns: Iterable[Turn], settings: Settings = UNSAID) -> bytes:
    """The whole file."""
    told = settings.as_dict()
    lines = [
        {"version": VERSION, **asdict(heading)},
        *([{"settings": told}] if told else []),
        *map(turn_as_dict, turns),
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return text.encode("utf-8", "surrogatepass")


def heading_of(content: bytes) -> Heading | None:
    """From the first line; None where it is none."""
    kept = _parsed(content.partition(b"\n")[0])
    try:
        if kept["version"] != VERSION:
            return None
        return Heading(
            _text(kept["id"]),
            _text(kept["title"]),
            _text(kept["session"]),
            float(kept["created"]),
            float(kept["updated"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def settings_of(content: bytes) -> Settings:
    """The settings, of which the second line tells where there are any."""
    told = _parsed(b"".join(content.splitlines()[1:2]))
    found = told.get("settings") if isinstance(told, dict) else None
    return Settings.of(found if isinstance(found, dict) else {})


def turns_of(content: bytes) -> list[Turn]:
    """The turns, without those that cannot be read."""
    turns = (turn_from_dict(_parsed(line)) for line in content.splitlines()[1:])
    return [turn for turn in turns if turn is not None]


def turn_as_dict(turn: Turn) -> dict[str, Any]:
    """All that is shown of a turn."""
    return {
        "question": turn.question,
        "files": [file.as_dict() for file in turn.files],
        "made": [file.as_dict() for file in turn.made],
        "asked": turn.asked,
        "state": turn.state,
        "parts": [
            {"path": part.path, "reasoning": part.reasoning, "text": part.text, "seconds": part.seconds}
            for part in turn.parts
        ],
        "text": turn.text,
        "failure": None if turn.failure is None else asdict(turn.failure),
        "usage": turn.usage.as_dict(),
        "first": turn.first,
    }


def turn_from_dict(kept: Any) -> Turn | None:
    """The turn again; one that went on when it was kept was stopped, with the process that it was in."""
    try:
        turn = Turn(_text(kept["question"]), map(StoredFile.from_dict, kept.get("files", ())))
        turn.made = [StoredFile.from_dict(file) for file in kept.get("made", ())]
        turn.asked = float(kept["asked"])
        turn.parts = [_part(part) for part in kept["parts"]]
        turn.add(_text(kept["text"]))
        failure, usage, first = kept["failure"], kept["usage"], kept["first"]
        if failure is not None:
            turn.failure = Failure(_text(failure["what"]), _text(failure["advice"]))
        turn.usage = TokenUsage(int(usage["prompt_tokens"]), int(usage["completion_tokens"]))
        turn.first = None if first is None else float(first)
        state = kept["state"]
        turn.state = state if state in ("done", "failed") else "stopped"
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    return turn


def _part(kept: Any) -> Part:
    path = tuple(name if isinstance(name, int) else _text(name) for name in kept["path"])
    part = Part(path, bool(kept["reasoning"]))
    part.add(_text(kept["text"]))
    part.seconds = float(kept["seconds"] or 0.0)
    return part


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError):
        return None
