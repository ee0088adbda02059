"""The events of a run, described: each as JSON, and their stream as an example."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .answers import COUNT, TEXT
from .components import Components, Schema

__all__ = ["EVENT_NAMES", "example_stream", "run_event"]

ANYTHING: Schema = {}
MAYBE: Schema = {"type": ["string", "null"]}
OUTPUT: Schema = {
    "type": "boolean",
    "description": "Whether it belongs to the answer, not to a step on the way",
}

KINDS: Mapping[str, tuple[str, Mapping[str, Schema]]] = {
    "run_started": ("The first of every run", {}),
    "text_delta": ("A piece of text", {"text": TEXT, "output": OUTPUT}),
    "data": ("An item that is no text", {"value": ANYTHING, "output": OUTPUT}),
    "reasoning_delta": ("A piece of a model's reasoning", {"text": TEXT}),
    "tool_call_delta": (
        "A piece of a tool call's arguments",
        {"index": COUNT, "id": MAYBE, "name": MAYBE, "arguments": TEXT},
    ),
    "tool_call": ("A whole tool call", {"id": TEXT, "name": TEXT, "arguments": TEXT}),
    "tool_result": ("What a tool call gave", {"id": TEXT, "result": ANYTHING, "error": MAYBE}),
    "step_started": ("The step at `path` begins", {}),
    "step_finished": (
        "The step at `path` is over; `error` is the type of what it failed with",
        {"error": MAYBE},
    ),
    "progress": (
        "How far something slow has come",
        {"fraction": {"type": "number", "minimum": 0, "maximum": 1}, "message": TEXT},
    ),
    "usage": ("Tokens that a step has cost", {"prompt_tokens": COUNT, "completion_tokens": COUNT}),
    "status_changed": ("The run waits for something outside, or goes on", {"status": TEXT}),
}
"""The kinds of events but the last, with the fields of their own."""

LAST = "run_finished"

PATH: Schema = {
    "type": "array",
    "items": {"type": ["string", "integer"]},
    "description": "Names of steps and indices of turns and items, outermost first",
}


def _class_of(kind: str) -> str:
    return "".join(word.capitalize() for word in kind.split("_"))


EVENT_NAMES = ("RunEvent", *map(_class_of, (*KINDS, LAST)))
"""What the schemas are called."""


def run_event(components: Components, finished: Mapping[str, Schema]) -> Schema:
    """Any event of a run; `finished` has the fields of the last one."""
    told = {
        kind: components.name(_class_of(kind), _event(kind, words, fields))
        for kind, (words, fields) in KINDS.items()
    }
    last = _event(LAST, "The last of every run: a stream that ends without it is broken", finished)
    last["required"].remove("seq")  # there is none where the process that ran it has died
    told[LAST] = components.name(_class_of(LAST), last)
    mapping = {kind: ref["$ref"] for kind, ref in told.items()}
    either = {"oneOf": list(told.values()), "discriminator": {"propertyName": "kind", "mapping": mapping}}
    return components.name("RunEvent", either)


def _event(kind: str, words: str, fields: Mapping[str, Schema]) -> Schema:
    properties = {
        "kind": {"enum": [kind]},
        "seq": {"type": "integer", "minimum": 1, "description": "Its number in the run, from 1"},
        "path": PATH,
        "time": {"type": "number", "description": "Seconds since the epoch"},
        **fields,
    }
    return {"type": "object", "description": words, "required": list(properties), "properties": properties}


def example_stream(result: Any) -> str:
    """The stream of a run that has said one thing."""
    text = result if isinstance(result, str) else None
    said = ("text_delta", {"text": text}) if text is not None else ("data", {"value": result})
    usage = {"prompt_tokens": 0, "completion_tokens": 0}
    finished = {"status": "done", "reason": None, "result": result, "error": None, "usage": usage}
    events: list[tuple[str, list[str], dict[str, Any]]] = [
        ("run_started", [], {}),
        (said[0], ["answer"], {**said[1], "output": True}),
        (LAST, [], finished),
    ]
    frames = []
    for seq, (kind, path, fields) in enumerate(events, 1):
        told = {"kind": kind, "seq": seq, "path": path, "time": 1793534400.0 + seq, **fields}
        frames.append(f"id: {seq}\nevent: {kind}\ndata: {json.dumps(told)}\n\n")
    return "".join(frames)
