"""What a command prints: an answer as it comes, progress while a model loads, the addresses of a service."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from ..streaming.events import Event, Progress, RunFinished, TextDelta
from .loading import stage_name

__all__ = ["Answer", "EventLines", "Loading"]

STEP = 0.25
"""How much further a fraction must have come for another plain line, where there is no terminal."""

POLL = 0.1


class ProgressLine:
    """Progress on stderr: a bar on a terminal, else a line now and then. `clear` takes the bar away."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar: Bar | None = None
        self._last = ("", -STEP)

    def show(self, message: str, fraction: float) -> None:
        message = stage_name(message)
        if self._console.is_terminal:
            if self._bar is None:
                columns = TextColumn("{task.description}"), BarColumn(bar_width=30), TaskProgressColumn()
                self._bar = Bar(*columns, console=self._console, transient=True)
                self._bar.add_task(message, total=1.0)
                self._bar.start()
            self._bar.update(self._bar.task_ids[0], description=message, completed=fraction)
        elif message != self._last[0] or fraction >= self._last[1] + STEP:
            self._last = (message, fraction)
            self._console.print(f"{message} {fraction:.0%}", highlight=False, markup=False)

    def clear(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Output:
    """Prints what a run says; to be left before the error of the run is told."""

    def show(self, event: Event) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the last line."""


class Answer(Output):
    """The answer's text, each piece as it comes; progress until the first."""

    def __init__(self) -> None:
        self._progress = ProgressLine()
        self._last = ""

    def show(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            if event.output and event.text:
                self._write(event.text)
        elif isinstance(event, Progress):
            if not self._last:
                self._progress.show(event.message, event.fraction)
        elif isinstance(event, RunFinished) and event.status == "done" and not self._last:
            self._write(str(event.result))

    def _write(self, text: str) -> None:
        self._progress.clear()
        sys.stdout.write(text)
        sys.stdout.flush()
        self._last = text

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.clear()
        if self._last and not self._last.endswith("\n") and not isinstance(error, BrokenPipeError):
            sys.stdout.write("\n")
            sys.stdout.flush()


class EventLines(Output):
    """Every event as a line of JSON."""

    def show(self, event: Event) -> None:
        sys.stdout.write(json.dumps(event.as_dict(), ensure_ascii=False, default=repr) + "\n")
        sys.stdout.flush()


class Loading:
    """Tells the addresses of a service once its port is open, and how far the loading of its models is.

    A context manager around the whole service: a terminal shows that it starts.

    Args:
        stage: a word and a fraction about what still loads; None when nothing does.
        chat: whether there is a web chat.
        ready: what to say when nothing loads any more.
    """

    def __init__(self, stage: Callable[[], tuple[str, float] | None], chat: bool, ready: str = "") -> None:
        self._stage = stage
        self._chat = chat
        self._ready = ready
        self._console = Console(stderr=True, highlight=False)
        self._starting = self._console.status("starting") if self._console.is_terminal else None
        self._progress = ProgressLine()
        self._watcher: asyncio.Task[None] | None = None

    def announce(self, url: str) -> None:
        """Called on the service's loop."""
        self._end_starting()
        if self._chat:
            self._console.print(f"Chat  [bold]{url}/[/bold]")
        self._console.print(f"API   [bold]{url}/v1[/bold]")
        self._console.print("Stop with Ctrl-C.", style="dim")
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    def tell(self, words: str) -> None:
        """Says what has happened meanwhile; called on the service's loop."""
        self._progress.clear()
        self._console.print(words, markup=False)
        if self._watcher is not None and self._watcher.done():
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    def __enter__(self) -> Self:
        if self._starting is not None:
            self._starting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_starting()

    def _end_starting(self) -> None:
        if self._starting is not None:
            self._starting.stop()

    async def _watch(self) -> None:
        try:
            while (stage := self._stage()) is not None:
                self._progress.show(*stage)
                await asyncio.sleep(POLL)
        finally:
            self._progress.clear()
        if self._ready:
            self._console.print(self._ready, style="dim")
