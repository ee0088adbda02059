"""Starting runs that go on without a listener, and those of a listener who is there already."""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from functools import partial

from .kept import KeptLog
from .loops import framework_loop
from .options import NO_OPTIONS, Options
from .runs import Body, Run
from .streams import AsyncEventReader

__all__ = ["listen", "start"]


def start(
    body: Body,
    options: Options = NO_OPTIONS,
    name: str | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
) -> Run:
    """Starts a run that nobody has to listen to, in a copy of this context, and returns it.

    It keeps what it says, up to 16 MiB, or all of it where it is given a queue on disk.

    Args:
        body: the work: given the run, it returns a coroutine, whose value is the run's result.
        options: its session, deadline, queue and the like.
        name: what it is called, in notes on errors and in lists of runs.
        loop: where it runs; the framework's own by default.

    Raises:
        QueueError: the queue cannot take the run.
    """
    run = Run()
    run.name = name
    run.adopt(options)
    if run.log is None:
        run.log = KeptLog()
    here = run.loop = framework_loop() if loop is None else loop
    here.call_soon_threadsafe(partial(run.open, body, here, copy_context(), options.timeout))
    return run


def listen(body: Body, options: Options = NO_OPTIONS, name: str | None = None) -> AsyncEventReader:
    """Starts a run on the loop of this code, which is its listener's; as `start` else. Dropping the reader stops it.

    Should it go on for longer than a turn of the loop, call `reader.run.set_clock()`: its deadline is not heard else.
    """
    loop = asyncio.get_running_loop()
    run = Run()
    run.name, run.loop, run.patient = name, loop, True
    run.adopt(options, None, loop)
    reader = AsyncEventReader(run, entered=False)
    run.open(body, loop, copy_context(), options.timeout)
    return reader
