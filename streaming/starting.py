"""Starting a run that goes on without a listener."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial

from .kept import KeptLog
from .loops import framework_loop
from .options import NO_OPTIONS, Options
from .runs import Body, Run

__all__ = ["start"]


def start(body: Body, options: Options = NO_OPTIONS, name: str | None = None) -> Run:
    """Starts a run on the framework's loop, in a copy of this context, and returns it.

    It keeps what it says, up to 16 MiB, or all of it where it is given a queue on disk.

    Args:
        body: the work: given the run, it returns a coroutine, whose value is the run's result.
        options: its session, deadline, queue and the like.
        name: what it is called, in notes on errors and in lists of runs.

    Raises:
        QueueError: the queue cannot take the run.
    """
    run = Run()
    run.name = name
    run.adopt(options)
    if run.log is None:
        run.log = KeptLog()
    loop = run.loop = framework_loop()
    loop.call_soon_threadsafe(partial(run.open, body, loop, copy_context(), options.timeout))
    return run
