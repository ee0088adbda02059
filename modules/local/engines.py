"""Engine: a local model that many callers share."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from ...streaming.errors import ModelError
from ...streaming.limits import Limits
from .generations import Generation
from .memory import KV
from .processes import ProcessWorker
from .processes.wires import travels
from .requests import Request
from .sources import EngineSettings, Source
from .statuses import EngineStatus
from .workers import EngineWorker

__all__ = ["Engine"]

log = logging.getLogger("millrace.local")

EXIT_GRACE = 10.0
"""Seconds that closing waits for the forward at hand."""

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
        process: bool | None = None,
        progress: ProgressListener | None = None,
    ) -> None:
        self.settings = EngineSettings(
            source, device, dtype, quantization, kv or KV(), limits or Limits(), chat_template
        )
        if process and not travels(source):
            raise ModelError(
                f"Engine(process=True): {source!r} cannot be found by another process; give a directory, a name or "
                "a function of a module"
            )
        self.process = process
        self._lock = threading.Lock()
        self._worker: EngineWorker | ProcessWorker | None = None
        self._listeners: list[ProgressListener] = [] if progress is None else [progress]

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Begins to load, unless that has been done; an engine that was closed or has failed loads again."""
        with self._lock:
            if self._worker is None or self._worker.over:
                kind = ProcessWorker if self.process else EngineWorker
                self._worker = kind(self.settings, self._tell)
                _close_at_exit(self)
                self._worker.start()

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
        return EngineStatus(model=str(self.settings.source)) if worker is None else worker.status()

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
        """
        return self._started_worker().submit(request)

    def _started_worker(self) -> EngineWorker | ProcessWorker:
        if self._worker is None:
            self.start()
        assert self._worker is not None
        return self._worker

    def _tell(self, fraction: float, stage: str) -> None:
        for listener in list(self._listeners):
            try:
                listener(fraction, stage)
            except Exception:
                log.exception("a progress listener failed at %r", stage)


def _close_at_exit(engine: Engine) -> None:
    """Sees to it that no thread is inside of torch when the interpreter ends."""
    if not _running:
        atexit.unregister(_close_all)
        atexit.register(_close_all)
    _running.add(engine)


def _close_all() -> None:
    for engine in list(_running):
        engine.close()
