"""The supervisor: binds the port once, keeps workers, replaces those that die, and leaves none behind."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...streaming.errors import MillraceError
from ...streaming.file_queues import FileQueue
from ..api.patience import Timings
from ..api.siblings import added, remains
from ..endings import ending_words
from ..listeners import bind_each, url_of
from .folders import Folder
from .lost_runs import write_down_lost
from .orders import Orders, longest_end, options_to
from .workers import Worker, cause

__all__ = ["StartFailed", "Supervisor"]

logger = logging.getLogger("millrace.service")

TRIES = 5
"""Processes that may end one after another in one place without having become ready; then the service ends."""

PAUSE = 0.25
"""Seconds before the second try; each further one waits twice as long."""

ENDS = (signal.SIGINT, signal.SIGTERM)

PATIENCE = 0.5
"""Seconds that a worker has to tell its figures to another."""

SOON = 1.0
"""Seconds after which an end is one that is waited for."""


class StartFailed(MillraceError):
    """No worker can serve; in the worker's words. `mistaken`: the target names no flow."""

    def __init__(self, message: str, mistaken: bool = False) -> None:
        super().__init__(message)
        self.mistaken = mistaken


@dataclass(frozen=True, slots=True)
class End:
    """How a worker has ended; `told` where `why` is in its own words."""

    why: str
    name: str = ""
    was_ready: bool = False
    told: bool = False
    mistaken: bool = False


class Supervisor:
    """Serves a flow with several processes.

    Each has a number, and a line of connections of its own (see listeners.py) that the supervisor keeps open: while
    nobody can serve it, another worker does.

    Args:
        target: the flow, as `module:attribute`; every worker imports it.
        workers: how many there are.
        options: as Service takes them; without `queue` runs are kept in a directory that is there as long as
            the supervisor, since a worker must find the runs of the others.
        tell: called with what the user should know; logged as a warning by default.
    """

    flags: tuple[str, ...] = ()
    """For the Python of the workers."""
    run_lines: str | None = None
    """The form in which workers tell of each run on stderr; None: they do not."""

    def __init__(
        self,
        target: str,
        workers: int,
        options: Mapping[str, Any],
        tell: Callable[[str], object] = logger.warning,
    ) -> None:
        self.target = target
        self.count = workers
        self.tell = tell
        self.longest_end = longest_end(options)
        self.drain = (options.get("timings") or Timings()).drain
        self._options = options_to(options)
        self._folder: str | None = None
        self._listeners: list[socket.socket] = []
        self._workers: dict[int, Worker] = {}
        self._covers: dict[int, Worker] = {}
        self._past: dict[str, Any] = {}
        self._doing: set[asyncio.Task[None]] = set()
        self._announce: Callable[[], object] | None = None
        self._signal: int | None = None
        self._ending = asyncio.Event()

    def run(self, announce: Callable[[str], object] | None = None) -> None:
        """Serves until SIGINT or SIGTERM; a second one kills everything at once.

        Args:
            announce: called with the URL once the first worker listens.

        Raises:
            MillraceError: a port in use; or a worker cannot serve, which is said in its own words.
        """
        asyncio.run(self.serve(announce))
        if self._signal is not None:
            signal.signal(self._signal, signal.SIG_DFL)
            signal.raise_signal(self._signal)

    async def serve(self, announce: Callable[[str], object] | None = None) -> None:
        """As `run`, without the last signal's usual effect."""
        self._began = time.monotonic()
        self._ending.clear()
        with ExitStack() as stack:
            host, port = self._options.get("host", "127.0.0.1"), self._options.get("port", 8000)
            self._listeners = bind_each(host, port, self.count)
            for listener in self._listeners:
                stack.callback(listener.close)
            if announce is not None:
                self._announce = partial(announce, url_of(self._listeners[0]))
            if "queue" not in self._options:
                self._folder = stack.enter_context(Folder()).path
                self._options["queue"] = FileQueue(self._folder).url
            stack.enter_context(self._signals())
            await self._keep_all()

    def stage(self) -> tuple[str, float] | None:
        """A word and a fraction about the workers that do not serve yet, or have not ended yet; None when all serve."""
        if self._ending.is_set():
            return "ending", 1 - len(self._workers) / self.count
        found = [self._workers.get(number) for number in range(1, self.count + 1)]
        waited = [worker for worker in found if worker is None or not worker.serves]
        if not waited:
            return None
        stages = [worker.stage for worker in waited if worker is not None and worker.stage]
        words = stages[0] if stages else "starting"
        if self.count > 1:
            words = f"{self.count - len(waited)} of {self.count} workers ready, {words}"
        done = sum(1.0 if worker.serves else worker.progress for worker in found if worker is not None)
        return words, done / self.count

    # ------------------------------------------------------------ all of them

    async def _keep_all(self) -> None:
        """Until a signal, or until one place cannot be filled; then ends all that there are."""
        loop = asyncio.get_running_loop()
        keepers = [loop.create_task(self._keep(number)) for number in range(1, self.count + 1)]
        ending = loop.create_task(self._ending.wait())
        try:
            await asyncio.wait([*keepers, ending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._end()
            _, late = await asyncio.wait(keepers, timeout=SOON)
            if late:
                self.tell(ending_words(None, self.drain))
                _, late = await asyncio.wait(late, timeout=self.longest_end)
            if late:
                logger.warning("workers did not end within %.0f s; killing them", self.longest_end)
                self._kill()
                await asyncio.wait(late)
            if self._doing:
                await asyncio.wait(self._doing, timeout=SOON)
            ending.cancel()
        failed = [error for keeper in keepers if (error := keeper.exception()) is not None]
        if failed:
            raise failed[0]

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        """Begins something that nobody waits for, but the end."""
        task = asyncio.get_running_loop().create_task(work)
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)

    def _end(self) -> None:
        """Nobody can connect any more once the workers have closed their ends of the listeners too."""
        self._ending.set()
        for listener in self._listeners:
            listener.close()
        for worker in self._workers.values():
            worker.end()

    def _kill(self) -> None:
        for worker in self._workers.values():
            worker.kill()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Only the main thread can be told of signals; in others the workers end with this process."""
        loop = asyncio.get_running_loop()
        wanted: dict[int, Callable[[int], object]] = dict.fromkeys(ENDS, self._on_signal)
        keys = self._options.get("api_keys")
        if isinstance(keys, str) and not keys.startswith(
            "env:"
        ):  # else it ends the process, as it always does
            wanted[signal.SIGHUP] = self._reload_keys
        try:
            for number, act in wanted.items():
                loop.add_signal_handler(number, act, number)
        except (RuntimeError, ValueError):
            yield
            return
        try:
            yield
        finally:
            for number in wanted:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: int) -> None:
        if not self._ending.is_set():
            self._end()
        else:
            self._signal = number
            self._kill()

    def _reload_keys(self, _: int) -> None:
        for worker in self._workers.values():
            worker.say("keys")

    # ------------------------------------------------------------ one place

    async def _keep(self, number: int) -> None:
        """Fills one place again and again."""
        failures, first = 0, True
        while not self._ending.is_set():
            end = await self._live(number)
            if self._ending.is_set():
                return
            failures = 0 if end.was_ready else failures + 1
            if (first and end.told) or failures >= TRIES:
                raise StartFailed(end.why if end.told else _unsaid(end.why), end.mistaken)
            first = first and not end.was_ready
            self.tell(f"worker {number} {end.name}has ended: {end.why}; starting another one")
            if failures:
                await self._pause(PAUSE * 2 ** (failures - 1))

    async def _live(self, number: int) -> End:
        """One life of a worker."""
        try:
            worker = await self._start(number)
        except OSError as error:
            return End(f"no process can be started, {error.strerror}")
        code = await self._over(worker)
        return End(
            worker.failure or cause(code),
            f"(process {worker.pid}) ",
            worker.was_ready,
            worker.failure is not None,
            worker.mistaken,
        )

    async def _start(self, number: int) -> Worker:
        orders = Orders(
            number,
            self.target,
            self._options,
            sys.path,
            logging.getLogger().getEffectiveLevel(),
            [listener.fileno() for listener in self._listeners],
            any(worker.serves for worker in self._workers.values()),
            self._folder,
            self.run_lines,
        )
        worker = await Worker.start(orders, self._told, *self.flags)
        self._workers[number] = worker
        if self._ending.is_set():
            worker.end()
        return worker

    async def _over(self, worker: Worker) -> int:
        """Waits for a worker's end."""
        code = await worker.over()
        if code:
            life = worker.pid, worker.began, time.time()
            self._do(asyncio.to_thread(write_down_lost, self._options["queue"], *life))
        del self._workers[worker.number]
        if worker.figures is not None:
            left = remains(worker.figures)
            self._past = added(self._past, left) if self._past else left
        self._cover()
        return code

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            pass

    # ------------------------------------------------------------ what they say

    def _told(self, worker: Worker, question: int | None) -> None:
        if question is not None:
            self._do(self._tell_of_others(worker, question))
            return
        if worker.state in ("loading", "ready") and self._announce is not None:
            announce, self._announce = self._announce, None
            announce()
        self._cover()

    def _cover(self) -> None:
        """Has lines that nobody can serve served by a worker that can."""
        able = [worker for worker in self._workers.values() if worker.serves]
        served = {worker.number for worker in able}
        for number in range(1, self.count + 1):
            cover = self._covers.get(number)
            if cover is not None and cover not in able:
                del self._covers[number]
            if number in served:
                if (cover := self._covers.pop(number, None)) is not None:
                    cover.say("uncover", number=number)
            elif number not in self._covers and able and not self._ending.is_set():
                self._covers[number] = able[0]
                able[0].say("cover", number=number)

    async def _tell_of_others(self, asking: Worker, question: int) -> None:
        others = [worker for worker in self._workers.values() if worker is not asking]
        await asyncio.gather(*(worker.look(PATIENCE) for worker in others if worker.state != "starting"))
        told = {
            "workers": {worker.number: worker.figures for worker in others if worker.figures is not None},
            "past": self._past,
            "uptime": round(time.monotonic() - self._began, 3),
        }
        asking.say("others", question=question, told=told)


def _unsaid(why: str) -> str:
    return f"{TRIES} workers ended while they started ({why}); what they printed says more"
