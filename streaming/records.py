"""Records: events as JSON, for queues that outlive the process, and back.

One event is one JSON object in UTF-8: `kind`, `seq`, `path`, `time`, then the event's own fields. An error is
`{"type", "message", "notes"}`. Written once, a record is never changed: whoever reads it gets the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from json.encoder import encode_basestring
from typing import Any

from . import errors
from .errors import MillraceError, QueueError, RemoteError
from .events import (
    Data,
    Event,
    Logprobs,
    Path,
    Progress,
    ReasoningDelta,
    RunFinished,
    RunStarted,
    StatusChanged,
    StepFinished,
    StepStarted,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from .usage import TokenUsage

__all__ = ["decode", "decode_all", "encode", "event_of", "in_words", "without_traceback"]

KINDS: Mapping[str, type[Event]] = {
    kind.kind: kind
    for kind in (
        RunStarted,
        StepStarted,
        TextDelta,
        ReasoningDelta,
        Data,
        Logprobs,
        ToolCallDelta,
        ToolCall,
        ToolResult,
        Progress,
        Usage,
        StatusChanged,
        StepFinished,
        RunFinished,
    )
}

_FIELDS = {name: [field.name for field in fields(kind)] for name, kind in KINDS.items()}  # type: ignore[arg-type]

_paths: dict[Path, str] = {}
_PATHS = 1024
"""How many paths are remembered as JSON: most events of a run come from a few steps."""

_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_from_json = json.JSONDecoder().raw_decode
_to_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


# ---------------------------------------------------------------- writing


def encode(event: Event) -> bytes:
    """A stamped event as a record.

    Raises:
        QueueError: a value in it is no JSON; names the step that said it.
    """
    if type(event) is TextDelta:
        try:
            return (
                f'{{"kind":"text_delta","seq":{event.seq},"path":{_paths.get(event.path) or _path(event.path)},'
                f'"time":{event.time!r},"text":{encode_basestring(event.text)},'
                f'"output":{"true" if event.output else "false"}}}'
            ).encode()
        except UnicodeEncodeError:
            pass  # half a surrogate pair, which can only be escaped
    told = {"kind": event.kind, "seq": event.seq, "path": event.path, "time": event.time}
    for name, value in event.payload().items():
        told[name] = _plain(value)
    try:
        try:
            return _to_json(told).encode()
        except UnicodeEncodeError:
            return _to_ascii(told).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise QueueError(_refusal(event, error)) from error


def _path(path: Path) -> str:
    if len(_paths) >= _PATHS:
        _paths.clear()
    made = _paths[path] = _to_ascii(path)
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, BaseException):
        return _describe(value)
    if isinstance(value, TokenUsage):
        return value.as_dict()
    return value


def _refusal(event: Event, error: Exception) -> str:
    step = f"the step {'/'.join(map(str, event.path))!r}" if event.path else "the flow"
    if isinstance(event, RunFinished):
        what = f"the run's result is a {type(event.result).__name__} that is no JSON"
    else:
        value = getattr(event, "value", getattr(event, "result", event))
        what = f"{step} said a {type(value).__name__} that is no JSON"
    return (
        f"{what} ({error}), and a queue on disk keeps nothing else; make it text, numbers, lists and dicts "
        "of them, or leave out queue="
    )


def _describe(error: BaseException) -> dict[str, Any]:
    """An error as JSON: of our own, with what it knows; of others, type and message."""
    described: dict[str, Any] = {"type": type(error).__name__, "message": in_words(error)}
    notes = getattr(error, "__notes__", None)
    if notes and isinstance(notes, (list, tuple)):
        described["notes"] = [in_words(note) for note in notes]
    if type(error).__name__ in errors.__all__ and isinstance(error, MillraceError):
        known = {
            name: value for name, value in vars(error).items() if not name.startswith("_") and _is_json(value)
        }
        if known:
            described["known"] = known
    return described


def in_words(value: object) -> str:
    """`str(value)`; where that fails, what it is: a value's own fault must not stop what is said about it."""
    try:
        return str(value)
    except Exception:
        return f"(a {type(value).__name__} that cannot be shown)"


def _is_json(value: Any) -> bool:
    try:
        _to_ascii(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


# ---------------------------------------------------------------- reading


def decode(record: bytes) -> Event:
    """The event of a record; one of a kind that is not known here becomes Data with all its fields.

    Raises:
        QueueError: it is no record at all.
    """
    try:
        text = record.decode()
        given, end = _from_json(text)
        if end != len(text):
            raise ValueError("something stands behind it")
        return _made(given)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise QueueError(f"this is no record of an event: {record[:60]!r}") from error


def decode_all(records: Sequence[bytes]) -> list[Event]:
    """The events of records that follow each other; the same as `decode`, and faster."""
    if len(records) > 1:
        try:
            given = json.loads(b"[%b]" % b",".join(records))
            if len(given) == len(records):
                return [_made(each) for each in given]
        except (ValueError, TypeError, KeyError, AttributeError):
            pass  # one of them is none; `decode` says which
    return [decode(record) for record in records]


def _made(given: dict[str, Any]) -> Event:
    kind, seq, path, time = given.pop("kind"), given.pop("seq"), given.pop("path"), given.pop("time")
    is_text = kind == "text_delta" and len(given) == 2
    event = TextDelta(**given) if is_text else event_of(kind, given)
    event.seq, event.path, event.time = seq, tuple(path), time
    return event


def event_of(kind: str, given: dict[str, Any]) -> Event:
    """An event without its stamps, from its fields; one of a kind that is not known here becomes Data."""
    known = {name: _revived(name, given[name]) for name in _FIELDS.get(kind, ()) if name in given}
    try:
        return KINDS[kind](**known)
    except (KeyError, TypeError):  # of another version: unknown here, or with fewer fields than are needed
        return Data({"kind": kind, **given}, output=False)


def _revived(name: str, value: Any) -> Any:
    if name == "error" and isinstance(value, dict):
        return _error(value)
    if name == "usage" and isinstance(value, dict):
        return TokenUsage(value.get("prompt_tokens", 0), value.get("completion_tokens", 0))
    return value


def _error(described: Mapping[str, Any]) -> BaseException:
    """One of our own as itself; what a user's step raised as a RemoteError that says what it was."""
    name, message = str(described.get("type")), str(described.get("message"))
    kind = getattr(errors, name, None) if name in errors.__all__ else None
    error: BaseException
    if isinstance(kind, type) and issubclass(kind, MillraceError):
        error = kind.__new__(kind, message)
        vars(error).update(described.get("known") or {})
    else:
        error = RemoteError(f"{name}: {message}" if message else name, kind=name)
    for note in described.get("notes") or ():
        error.add_note(str(note))
    return error


def without_traceback(event: Event) -> Event:
    """The event, or a copy of it with an error that holds no frames, for keeping it longer than its run."""
    error = getattr(event, "error", None)
    if error is None:
        return event
    twin = KINDS[event.kind](**{**event.payload(), "error": _error(_describe(error))})
    twin.seq, twin.path, twin.time = event.seq, event.path, event.time
    return twin
