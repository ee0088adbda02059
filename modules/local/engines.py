"""Engine: a local model that many callers share."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakSet, ref

from ...streaming.errors import ModelError
from ...streaming.limits import Limits
from .generations import Generation
from .memory import KV
from .processes import ProcessWorker
from .processes.wires import travels
from .requests import Request
from .sources import EngineSettings, Source
from .statuses import EngineStatus
from .workers import EngineRetired, EngineWorker

__all__ = ["Engine"]

log = logging.getLogger("millrace.local")

EXIT_GRACE = 10.0
"""Seconds that closing waits for the forward at hand."""

MOMENT = 0.05
"""Seconds between two looks at an engine that is about to be idle."""

ProgressListener = Callable[[float, str], None]
_running: WeakSet[Engine] = WeakSet()


class Engine:
    """Runs requests on a local model, many at once, in a continuous batch.

    Making one is cheap and loads nothing; `start`, or the first request, does. All methods may be called from any
    thread and any event loop.

    Args:
        source: a directory with weights (safetensors), `org/name` from the local cache of the model hub, or a
            function that returns `(model, tokenizer)`; the engine then owns that model.
        device: `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"`.
        dtype: `"auto"` (the weights' own; float32 for float16 weights on a CPU) or a torch dtype's name.
        quantization: a quantisation config of transformers, handed to its library.
        kv: how much memory is reserved for keys and values.
        limits: how many requests run and wait, and how long.
        chat_template: Jinja source; the tokenizer's own by default.
        adapter: the directory of a LoRA adapter, merged into the weights when they load.
        idle: seconds without any request after which the model is unloaded; the next request loads it again. None:
            never.
        process: whether the engine runs in a process of its own, which a busy Python thread here cannot slow, and
            whose crash ends its requests and nothing else (another one is started at once). By default a thread,
            unless a launcher has asked for a process before it starts.
        progress: called with `(fraction, stage)` while the model loads, in the engine's thread.
    """

    def __init__(
        self,
        source: Source,
        *,
        device: str = "auto",
        dtype: str = "auto",
        quantization: Any = None,
        kv: KV | None = None,
        limits: Limits | None = None,
        chat_template: str | None = None,
        adapter: str | os.PathLike[str] | None = None,
        idle: float | None = None,
        process: bool | None = None,
        progress: ProgressListener | None = None,
    ) -> None:
        for name, value, kind in (("kv", kv, KV), ("limits", limits, Limits)):
            if value is not None and not isinstance(value, kind):
                raise TypeError(f"Engine({name}={value!r}): give a {kind.__name__}(...)")
        self.settings = EngineSettings(
            source,
            device,
            dtype,
            quantization,
            kv or KV(),
            limits or Limits(),
            chat_template,
            os.fspath(adapter) if adapter is not None else None,
        )
        check_idle(idle)
        if process and not travels(source):
            raise ModelError(
                f"Engine(process=True): {source!r} cannot be found by another process; give a directory, a name or "
                "a function of a module"
            )
        self.process = process
        self.idle = idle
        self._lock = threading.Lock()
        self._worker: EngineWorker | ProcessWorker | None = None
        self._listeners: list[ProgressListener] = [] if progress is None else [progress]

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Begins to load, unless that has been done; an engine that was closed or has failed loads again."""
        with self._lock:
            if self._worker is None or self._worker.over or self._worker.retired:
                kind = ProcessWorker if self.process else EngineWorker
                self._worker = kind(self.settings, self._tell)
                _close_at_exit(self)
                self._worker.start()
                if self.idle is not None:
                    threading.Thread(
                        target=_retire_when_idle,
                        args=(ref(self), self._worker, self.idle),
                        daemon=True,
                        name="millrace-idle",
                    ).start()

    @property
    def pid(self) -> int | None:
        """The process that runs the engine; None where that is a thread, or nothing runs."""
        return self._worker.pid if isinstance(self._worker, ProcessWorker) else None

    def prefer_process(self) -> None:
        """Lets the engine run in a process of its own when it starts, unless its maker has decided."""
        if self.process is None and travels(self.settings.source):
            self.process = True

    async def ready(self) -> None:
        """Waits until a token can be produced; starts the engine if nobody has.

        Raises:
            ModelError: the model could not be loaded.
        """
        await asyncio.shield(asyncio.wrap_future(self._started_worker().ready))

    def wait_ready(self, timeout: float | None = None) -> None:
        """`ready` for callers without an event loop; `timeout` in seconds.

        Raises:
            ModelError: the model could not be loaded.
            TimeoutError: it is not ready yet.
        """
        self._started_worker().ready.result(timeout)

    def status(self) -> EngineStatus:
        """How the engine is, at once."""
        worker = self._worker
        if worker is None or worker.retired:
            return EngineStatus(model=str(self.settings.source))
        return worker.status()

    def close(self) -> None:
        """Ends all requests as cancelled and gives the memory back; again and again.

        Waits for the forward at hand, at most 10 seconds.
        """
        worker = self._worker
        if worker is not None:
            worker.close(EXIT_GRACE)

    async def aclose(self) -> None:
        """`close` for coroutines: the event loop goes on while it waits."""
        await asyncio.to_thread(self.close)

    def add_progress_listener(self, listener: ProgressListener) -> Callable[[], None]:
        """Calls `listener(fraction, stage)` while the model loads, in the engine's thread; returns the undoing."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    # ------------------------------------------------------------ requests

    def submit(self, request: Request) -> Generation:
        """Takes a request in; cheap, from any thread; starts the engine if it is cold.

        Raises:
            Overloaded: as many run and wait as `limits` allow; nothing was done for this one.
            ModelError: the engine has failed, or was closed.
            TypeError: it is no Request.
        """
        if not isinstance(request, Request):
            raise TypeError(f"submit takes a Request, not {type(request).__name__}: Request(prompt=...)")
        worker = self._started_worker()
        try:
            return worker.submit(request)
        except EngineRetired:
            return self._started_worker().submit(request)

    def _started_worker(self) -> EngineWorker | ProcessWorker:
        if self._worker is None or self._worker.retired:
            self.start()
        assert self._worker is not None
        return self._worker

    def _tell(self, fraction: float, stage: str) -> None:
        for listener in list(self._listeners):
            try:
                listener(fraction, stage)
            except Exception:
                log.exception("a progress listener failed at %r", stage)


def check_idle(idle: object) -> None:
    """Refuses what is no time to wait before the weights are unloaded.

    Raises:
        ValueError: it is neither None nor a number of seconds above 0.
    """
    if idle is not None and (isinstance(idle, bool) or not isinstance(idle, (int, float)) or not idle > 0):
        raise ValueError(f"idle={idle!r}: give a number of seconds above 0, or None for never")


def _retire_when_idle(engine: ref[Engine], worker: EngineWorker | ProcessWorker, idle: float) -> None:
    """Ends a worker that has had nothing to do for `idle` seconds."""
    while not worker.over and engine() is not None:
        left = idle - worker.idle_for()
        if left <= 0 and worker.retire(idle):
            log.info("%s is unloaded after %g s without a request", worker.settings.source, idle)
            worker.close(EXIT_GRACE)
            return
        worker.wait_over(max(left, MOMENT))


def _close_at_exit(engine: Engine) -> None:
    """Sees to it that no thread is inside of torch when the interpreter ends."""
    if not _running:
        atexit.unregister(_close_all)
        atexit.register(_close_all)
    _running.add(engine)


def _close_all() -> None:
    for engine in list(_running):
        engine.close()
