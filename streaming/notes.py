"""The one note (PEP 678) on an error that leaves a run: flow path, step, file:line, time since the start.

No ids and no values: notes end up in logs.
"""

from __future__ import annotations

import os
import time
import weakref
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .runs import Run

__all__ = ["also_failed", "annotate", "forget", "forget_origin", "trail"]

PACKAGE = str(FilePath(__file__).parent.parent) + os.sep
ENDS = 10
"""How many names at the beginning and at the end of a long way are told."""
STANDARD = str(FilePath(os.__file__).parent) + os.sep


@dataclass(slots=True)
class _Mark:
    """What millrace has noted on an error so far, and for whom."""

    root: weakref.ref[Run] | None
    names: list[str]
    note: str | None = None


class _Trail(list[str]):
    """The names of the steps that an error has left, in a run or what is below it."""

    root: weakref.ref[Run] | None = None


def trail(error: BaseException, name: str) -> None:
    """Notes that `error` came out of the step `name`; called from the inside out."""
    from .runs import FRAME

    frame = FRAME.get()
    root = _root(frame[0]) if frame is not None else None
    marks: _Trail | None = getattr(error, "_millrace_trail", None)
    if marks is None or (marks and marks.root is not None and marks.root() is not root):
        marks = _Trail()  # what an earlier run has noted, in which it was caught, is of no use here
        try:
            error._millrace_trail = marks  # type: ignore[attr-defined]
        except Exception:
            return
    if root is not None:
        marks.root = weakref.ref(root)
    marks.append(name)


def forget(error: BaseException) -> None:
    """Takes back what has been noted so far: the error was mended, and may be raised again from elsewhere."""
    marks: list[str] = getattr(error, "_millrace_trail", [])
    marks.clear()
    forget_origin(error)


def forget_origin(error: BaseException) -> None:
    """Takes back where the error came from, as `flow/taps.py` has noted it."""
    try:
        del error._millrace_origin  # type: ignore[attr-defined]
    except AttributeError:
        pass


def also_failed(error: BaseException, name: str, other: BaseException) -> None:
    """Notes that the sibling `name` failed as well; its type only, since notes end up in logs."""
    try:
        error._millrace_also = [*getattr(error, "_millrace_also", ()), f"{name} ({type(other).__name__})"]  # type: ignore[attr-defined]
    except Exception:
        pass


def annotate(error: BaseException, run: Run) -> None:
    """Writes the note; a child run's note becomes part of its parent's, an earlier run's is replaced."""
    names: list[str] = list(reversed(getattr(error, "_millrace_trail", ())))
    mark: _Mark | None = getattr(error, "_millrace_mark", None)
    root = _root(run)
    try:
        error._millrace_trail = _Trail()  # type: ignore[attr-defined]
        forget_origin(error)
        if mark is not None:
            if mark.note is not None and mark.note in getattr(error, "__notes__", ()):
                error.__notes__.remove(mark.note)
            if mark.root is not None and mark.root() is root:
                names += mark.names
        if run.name is not None:
            names.insert(0, run.name)
        elapsed = time.perf_counter() - run.born
        note = f"in {' > '.join(_shortened(names)) or 'the run'}{_place(error)} after {elapsed:.3f} s"
        also: list[str] = getattr(error, "_millrace_also", [])
        if also:
            note += f"; also failed: {', '.join(also)}"
            error._millrace_also = []  # type: ignore[attr-defined]
        error._millrace_mark = _Mark(weakref.ref(root), names, note)  # type: ignore[attr-defined]
    except (
        Exception
    ):  # an exception class with slots, or a frozen one: it can carry a note, but nothing of ours
        note = f"in the run{_place(error)} after {time.perf_counter() - run.born:.3f} s"
    try:
        error.add_note(note)
    except Exception:  # a frozen exception; it is raised as it is
        pass


def _root(run: Run) -> Run:
    while run.parent is not None:
        run = run.parent
    return run


def _shortened(names: list[str]) -> list[str]:
    if len(names) <= 2 * ENDS:
        return names
    return [*names[:ENDS], f"... ({len(names) - 2 * ENDS} more)", *names[-ENDS:]]


def _place(error: BaseException) -> str:
    """Where the error came from: the innermost line outside of millrace, and of what millrace itself calls."""
    place, inner, within, trace = "", "", True, error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name.startswith(PACKAGE):
            within = True
        else:
            inner = f" ({os.path.basename(name)}:{trace.tb_lineno})"
            if not (within and name.startswith(STANDARD) and "site-packages" not in name):
                place, within = inner, False
        trace = trace.tb_next
    if not place and isinstance(error.__cause__, StopIteration | StopAsyncIteration):
        return _place(error.__cause__)  # the error that Python makes of it knows no line
    return place or inner
