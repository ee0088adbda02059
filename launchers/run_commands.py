"""`millrace runs`: look into a queue on disk from a terminal, draw what went on in it, and stop what goes on."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from ..streaming.attachments import Attachment, attach
from ..streaming.errors import MillraceError, RunUnknown
from ..streaming.events import RunFinished, TextDelta
from ..streaming.queues import Queue, RunInfo, open_queue
from ..streaming.readers import outcome_of
from .exits import MISTAKEN, complain, errors
from .run_tables import facts_of, table_of

__all__ = ["named_queue", "runs"]

runs = typer.Typer(
    name="runs", help="Look into a queue: its runs, what they say, and a stop.", no_args_is_help=True
)

SHORTEST = 4
"""Characters of an id that are enough to name a run, where only one begins so."""

BLOCKS = "\N{FULL BLOCK}"
"""A character that timelines are drawn with."""

PATIENCE = 10.0
"""Seconds that a stopped run is waited for."""

Where = Annotated[
    str, typer.Option("--queue", help="The queue, as file:///a/directory.", envvar="MILLRACE_QUEUE")
]
Which = Annotated[str, typer.Argument(metavar="ID", help="Id of a run, or the beginning of one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@runs.command("list")
def list_runs(
    queue: Where,
    live: Annotated[bool, typer.Option("--live", help="Only those that go on.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on looking, until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the runs of a queue, the latest first."""
    with errors():
        there = _open(queue)
        if watch:
            from .run_tables import watch_runs

            watch_runs(lambda: _found(there, live))
        elif as_json:
            for info in _found(there, live):
                _print(json.dumps(info.as_dict(), ensure_ascii=False))
        else:
            for line in table_of(_found(there, live), time.time()):
                _print(line)


@runs.command()
def show(run: Which, queue: Where, as_json: AsJson = False) -> None:
    """Show one run: how it is, and what it has answered so far."""
    with errors():
        reader = _attach(_open(queue), run)
        text, finished = _read_what_is_there(reader)
        info = reader.info
        result = finished.result if finished is not None else None
        if as_json:
            _print(json.dumps({**info.as_dict(), "text": text, "result": result}, ensure_ascii=False))
            return
        for line in facts_of(info, time.time(), finished.error if finished is not None else None):
            _print(line)
        answer = text or ("" if result is None else str(result))
        if answer:
            _print("")
            _print(answer)


@runs.command()
def tail(
    run: Which,
    queue: Where,
    after: Annotated[int, typer.Option(help="Begin behind the event of this number.", min=0)] = 0,
    events: Annotated[bool, typer.Option("--events", help="Print all events, as JSON lines.")] = False,
) -> None:
    """Follow what a run says, from its start, until it ends. Ctrl-C leaves it alone."""
    from .terminals import Answer, EventLines

    with errors():
        reader = _attach(_open(queue), run, after)
        output = EventLines() if events else Answer()
        with output, reader:
            for event in reader:
                output.show(event)
        if reader.finished is not None:
            outcome_of(reader.finished)


@runs.command()
def explain(
    run: Which,
    queue: Where,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write: .svg or .txt.")
    ] = None,
    ascii: Annotated[bool, typer.Option("--ascii", help="Draw with nothing but ASCII.")] = False,
) -> None:
    """Draw a run: which steps were at work when, first pieces, tokens, errors, and where it stopped."""
    from ..flow.timelines import explain as explained

    with errors():
        ending = ".txt" if output is None else output.suffix.lower()
        if ending not in (".svg", ".txt"):
            raise typer.BadParameter(f"what is {output} to be? end it in .svg or .txt")
        timeline = explained(_attach(_open(queue), run))
        drawn = timeline.svg() if ending == ".svg" else timeline.text(ascii=ascii or not _can_say(BLOCKS))
        if output is None:
            _print(drawn.rstrip("\n"))
            return
        try:
            output.write_text(drawn, encoding="utf-8")
        except OSError as error:
            raise MillraceError(f"{output} cannot be written: {error.strerror}") from None


@runs.command()
def cancel(
    run: Annotated[list[str], typer.Argument(metavar="ID", help="Ids of runs, or their beginnings.")],
    queue: Where,
    reason: Annotated[
        str, typer.Option(help="What the run's readers are told.")
    ] = "cancelled from a terminal",
) -> None:
    """Stop runs, wherever they go on."""
    with errors():
        there = _open(queue)
        readers = [_attach(there, one) for one in run]
        over = [reader.info.over for reader in readers]
        for reader, was_over in zip(readers, over, strict=True):
            if not was_over:
                reader.cancel(reason)
        for reader, was_over in zip(readers, over, strict=True):
            status = f"is over already: {reader.info.status}" if was_over else _ended(reader)
            _print(f"{reader.run_id}  {status}")


# ---------------------------------------------------------------- helpers


def named_queue(url: str) -> Queue:
    """The queue; what is wrong with its name is a mistake in the command, so it ends with 2."""
    try:
        return open_queue(url)
    except MillraceError as error:
        complain(error)
        raise typer.Exit(MISTAKEN) from None


def _open(url: str) -> Queue:
    """A queue on disk that is there; anything else is a mistake in the command too."""
    queue = named_queue(url)
    try:
        if not url.lower().startswith("file:"):
            raise MillraceError(
                f"{url} is in the memory of its own process; only a queue on disk can be looked into"
            )
        path = getattr(queue, "path", "/")
        if not os.path.isdir(path):
            missing = "it is no directory" if os.path.exists(path) else "no such directory"
            raise MillraceError(f"there is no queue in {path}: {missing}")
    except MillraceError as error:
        complain(error)
        raise typer.Exit(MISTAKEN) from None
    return queue


def _found(queue: Queue, live: bool) -> list[RunInfo]:
    return [info for info in queue.runs() if not (live and info.over)]


def _attach(queue: Queue, run: str, after: int = 0) -> Attachment:
    """The run with this id, or the only one whose id begins so."""
    try:
        return attach(run, queue, after)
    except RunUnknown:
        if len(run) < SHORTEST:
            raise
        found = [info.id for info in queue.runs() if info.id.startswith(run)]
        if not found:
            raise
    if len(found) > 1:
        raise MillraceError(
            f"{len(found)} runs begin with {run}: {', '.join(found[:5])}; write more of the id"
        )
    return attach(found[0], queue, after)


def _read_what_is_there(reader: Attachment) -> tuple[str, RunFinished | None]:
    """The output text so far, and the run's end where it has one; without waiting."""
    pieces: list[str] = []
    with reader:
        while reader.finished is None and (event := reader.next_within(0)) is not None:
            if type(event) is TextDelta and event.output:
                pieces.append(event.text)
    return "".join(pieces), reader.finished


def _ended(reader: Attachment) -> str:
    before = reader.info  # it may have come to its end by itself meanwhile
    if before.over and before.ended is not None and before.status != "cancelled":
        return f"is over already: {before.status}"
    try:
        reader.result(PATIENCE)
    except TimeoutError:
        return "was told, and has not ended yet"
    except Exception:
        pass
    return reader.status


def _can_say(text: str) -> bool:
    """Whether standard output can take the characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
