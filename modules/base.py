"""Modules: steps that own a resource, made ready before their first use and given back at the end."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, ClassVar, TypeVar

from ..flow.functions import FunctionStep, Show
from ..flow.steps import Step
from ..flow.taps import close
from ..streaming.errors import FlowBuildError
from ..streaming.events import Path
from ..streaming.forks import after_fork
from ..streaming.loops import framework_loop
from ..streaming.runs import Run

__all__ = ["Module"]

In = TypeVar("In")
Out = TypeVar("Out")

_lock = threading.Lock()
_to_close: set[Module[Any, Any]] = set()
_starting: set[asyncio.Task[None]] = set()

EXIT_GRACE = 5.0
"""Seconds that interpreter exit gives the modules to close."""


class Module(FunctionStep[In, Out]):
    """A step that owns a resource.

    A subclass writes what the step does as `__call__`, in any of the forms that a step can have, and where it
    needs to, `setup()`, `aclose()` and `status()`::

        class Search(Module):
            async def setup(self):
                self.index = await load_index()

            async def __call__(self, question: str) -> list[str]:
                return self.index.find(question)

    Such a step is used inside of a flow, or through `acall` and `stream`; calling it directly is calling what was
    written. `setup` runs once, before the first use, however many runs wait for it; when it fails, those runs
    fail with its error and the next one tries again. A module with an `aclose` is kept alive from its setup until
    `release()`, which launchers call at their end, or the interpreter's exit.
    """

    body: ClassVar[str] = "__call__"
    """The method that does the work."""

    sees_history = False
    """Whether what it gives depends on the run's history and sampling; the keys of a cache then have them."""

    inline = False
    show: Show | None = None
    resolve = None
    _pending: Future[bool] | None = None
    _is_ready = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__dict__.get("name") is None:
            cls.name = cls.__name__
        for name in ("setup", "aclose"):
            if not inspect.iscoroutinefunction(getattr(cls, name)):
                raise FlowBuildError(
                    f"{cls.__name__}.{name} is not asynchronous; write: async def {name}(self)"
                )
        call = getattr(cls, cls.body)
        if call is not Step.__call__:
            _inspect(cls, call)

    def __init__(self, *, name: str | None = None, show: Show | None = None) -> None:
        if name is not None:
            self.name = name
        if show is not None:
            self.show = show

    @property
    def function(self) -> Callable[..., Any]:  # type: ignore[override]
        method: Callable[..., Any] = getattr(self, self.body)
        return method

    # ------------------------------------------------------------ for subclasses

    async def setup(self) -> None:
        """Gets the resource; called once, before the first use."""

    async def aclose(self) -> None:
        """Gives the resource back; called at the end of a launcher, or of the interpreter."""

    def configuration(self) -> dict[str, Any]:
        """What tells it from another one of its class: a cache on disk knows its values by it.

        By default the attributes whose names have no leading underscore, as they are when the cache is given.
        """
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def status(self) -> Any:
        """How the resource is; of any form."""
        return None

    # ------------------------------------------------------------ its life

    async def ready(self) -> None:
        """Runs `setup` if nobody has, or waits for whoever is at it; from any loop."""
        while not self._is_ready:
            with _lock:
                pending = self._pending
                if pending is None:
                    pending = self._pending = Future()
                    mine = True
                else:
                    mine = False
            if mine:
                task = asyncio.get_running_loop().create_task(self._set_up(pending))
                _starting.add(task)
                task.add_done_callback(partial(self._set_up_ended, pending))
            if not await _outcome(pending):
                continue  # whoever was at it has lost its loop

    async def _set_up(self, pending: Future[bool]) -> None:
        try:
            await self.setup()
        except BaseException as error:
            self._pending = None
            if isinstance(error, asyncio.CancelledError):
                pending.set_result(False)
                raise
            pending.set_exception(error)
        else:
            if type(self).aclose is not Module.aclose:
                _close_at_exit(self)
            self._is_ready = True
            self._pending = None
            pending.set_result(True)

    def _set_up_ended(self, pending: Future[bool], task: asyncio.Task[None]) -> None:
        _starting.discard(task)
        if not pending.done():  # cancelled before it had begun
            self._pending = None
            pending.set_result(False)

    async def release(self) -> None:
        """Calls `aclose` if the module is set up; it can be set up again."""
        with _lock:
            was_ready, self._is_ready = self._is_ready, False
        _to_close.discard(self)
        if was_ready:
            await self.aclose()

    # ------------------------------------------------------------ as a step

    async def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Any:
        if not self._is_ready:
            await self.ready()
        return await super().execute(x, run, path, output)

    def pieces(self, x: Any, run: Run) -> Any:
        return super().pieces(x, run) if self._is_ready else self._pieces_when_ready(x, run)

    async def _pieces_when_ready(self, x: Any, run: Run) -> AsyncIterator[Any]:
        await self.ready()
        stream = super().pieces(x, run)
        try:
            async for item in stream:
                yield item
        finally:
            await close(stream)


def _inspect(cls: type[Module[Any, Any]], call: Callable[..., Any]) -> None:
    """Reads from the method what kind of step the class makes."""
    probe: FunctionStep[Any, Any] = FunctionStep(call)
    cls.kind, cls.live, cls.streams, cls.says_text = probe.kind, probe.live, probe.streams, probe.says_text
    cls.plain = False


async def _outcome(pending: Future[bool]) -> bool:
    return await asyncio.shield(asyncio.wrap_future(pending))


_registered = False


def _close_at_exit(module: Module[Any, Any]) -> None:
    global _registered
    if not _registered:
        _registered = True
        framework_loop()  # its own exit handler must come after ours
        atexit.register(_close_all)
        after_fork(_to_close.clear)
    _to_close.add(module)


def _close_all() -> None:
    async def close_all() -> None:
        await asyncio.gather(*(module.release() for module in list(_to_close)), return_exceptions=True)

    if _to_close:
        closed = asyncio.run_coroutine_threadsafe(close_all(), framework_loop())
        try:
            closed.result(EXIT_GRACE)
        except TimeoutError:
            pass
