"""The desk: what all endpoints of a service share, and a request's work from its place in line to its end.

The work is done in the run's own task. The request's task only reads what the run says and sends it on. When the
client leaves, the run is cancelled, and the request waits for its cleanup, holding its permit until then; or, where
runs may go on without their clients, the run keeps the permit until its own end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from starlette.types import Receive, Scope

from ...flow.calls import start_body
from ...flow.steps import Step
from ...streaming.endings import LEFT
from ...streaming.errors import EventsExpired, Overloaded, QueueError, RunUnknown
from ...streaming.file_queues import FileQueue
from ...streaming.kept import KeptLog
from ...streaming.messages import Message
from ...streaming.options import Options
from ...streaming.paces import Pace
from ...streaming.queues import Queue
from ...streaming.recording import StoredLog
from ...streaming.registries import MemoryQueue
from ...streaming.runs import Body, Run
from ...streaming.starting import listen, start
from ..admission import Admission
from ..owners import Owner
from .bodies import read_object
from .feeds import Events, Feed, Paced
from .last_words import LastWords
from .patience import AFTER_DRAIN, Timings
from .refusals import SHUTTING_DOWN, Refusal, log_failure, overloaded, shutting_down
from .values import plain

__all__ = ["Asked", "Desk", "Work"]

logger = logging.getLogger("millrace.service")

CLIENT_LEFT = "client left"
UNATTENDED = "client left and did not come back"

T = TypeVar("T")

OnDisconnect = Literal["cancel", "continue"]
Visible = Literal["output", "all"]


@dataclass(slots=True)
class Asked:
    """What a request asks of the flow: the value that goes in, and what goes along with it.

    `timeout` in seconds; `run_id` where the client has chosen it. `body` is the run's work, where it is another than
    the flow on `x`. With `background` nobody listens; `on_disconnect` says what becomes of the run of a client that
    leaves, by default what the service says.
    """

    x: Any
    timeout: float | None = None
    session: str | None = None
    history: Sequence[Message] | None = None
    sampling: Mapping[str, Any] | None = None
    tools: Sequence[Mapping[str, Any]] | None = None
    tool_choice: str | Mapping[str, Any] | None = None
    run_id: str | None = None
    body: Body | None = None
    background: bool = False
    on_disconnect: OnDisconnect | None = None


@dataclass
class Desk:
    """What the endpoints of one service share: its flow, known to clients as `model`, and all that goes on.

    `max_body` in bytes, `default_timeout` in seconds; `debug` puts tracebacks into answers; `events` is what clients
    may see of a run.
    """

    flow: Step[Any, Any]
    model: str
    admission: Admission
    timings: Timings
    max_body: int
    default_timeout: float
    debug: bool = False
    queue: Queue = field(default_factory=MemoryQueue)
    on_disconnect: OnDisconnect = "cancel"
    events: Visible = "output"
    works: dict[str, Work] = field(default_factory=dict)
    followers: int = 0
    closing: bool = False
    last_words: LastWords | None = None
    """Who ends streams that this process cannot end any more, where others serve beside it."""
    _drained_by: float | None = None

    def check(self, owner: Owner, endpoint: str) -> None:
        """Refuses where there is no place left, before anything is read.

        Raises:
            Refusal: 503 where the service ends, 429 where it is full.
        """
        self._check_open(owner, endpoint)
        try:
            self.admission.check(owner)
        except Overloaded as error:
            refusal = overloaded(error)
            self.admission.tally.reject(owner.name, endpoint, refusal.code)
            raise refusal from None

    def _check_open(self, owner: Owner, endpoint: str) -> None:
        if self.closing:
            self.admission.tally.reject(owner.name, endpoint, SHUTTING_DOWN)
            raise shutting_down()

    def read(self, scope: Scope, receive: Receive) -> Awaitable[dict[str, Any]]:
        """The JSON object that a request carries; see `read_object`."""
        return read_object(scope, receive, self.max_body, self.timings.body)

    def accept(self, owner: Owner, asked: Asked, endpoint: str) -> Work:
        """A place in line for what is asked, with its run, which waits there; to be entered at once.

        Raises:
            Refusal: there is no place, or the run's id is taken.
        """
        self._check_open(owner, endpoint)  # again: the body may have come slowly
        if asked.run_id is not None:
            self._check_free(asked.run_id)
        try:
            return Work(self, owner, asked, endpoint)
        except Overloaded as error:
            refusal = overloaded(error)
            self.admission.tally.reject(owner.name, endpoint, refusal.code)
            raise refusal from None

    def _check_free(self, run_id: str) -> None:
        try:
            if run_id not in self.works:
                self.queue.info(run_id)
        except RunUnknown:
            return
        except EventsExpired:
            pass
        raise Refusal(409, "there was a run of this id before; choose another x-run-id", "run_exists")

    async def look(self, into: Callable[[], T]) -> T:
        """Looks into the queue: beside the loop, where that is a directory whose files have to be read."""
        return await asyncio.to_thread(into) if isinstance(self.queue, FileQueue) else into()

    def drain(self) -> None:
        """The server begins to end: what goes on has `timings.drain` seconds from now."""
        if self._drained_by is None:
            self._drained_by = asyncio.get_running_loop().time() + self.timings.drain

    async def end(self) -> None:
        """Waits for what goes on without a connection as well, stops it when its time is over, and waits for its
        cleanup.
        """
        self.drain()
        assert self._drained_by is not None
        await self._idle(self._drained_by - asyncio.get_running_loop().time())
        self.close()
        await self._idle(AFTER_DRAIN)

    async def _idle(self, seconds: float) -> None:
        """Until nothing goes on, for so many seconds at most."""
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                while self.works:
                    await asyncio.wait([work.over for work in self.works.values()])
        except TimeoutError:
            pass

    def close(self) -> None:
        """Ends what is going on, with an error to each client; new requests are refused."""
        self.closing = True
        for work in list(self.works.values()):
            work.run.cancel(SHUTTING_DOWN)

    @contextmanager
    def attending(self, run_id: str) -> Iterator[None]:
        """Around a client's reading of a run that may be left alone otherwise, here or in another process."""
        work = self.works.get(run_id)
        told = None
        if work is not None:
            work.attend(1)
        elif isinstance(self.queue, FileQueue):
            told = asyncio.get_running_loop().create_task(self._attend_elsewhere(self.queue, run_id))
        try:
            yield
        finally:
            if work is not None:
                work.attend(-1)
            if told is not None:
                told.cancel()

    async def _attend_elsewhere(self, queue: FileQueue, run_id: str) -> None:
        """Has the process of a run hear again and again that it is followed."""
        while True:
            try:
                queue.attend(run_id)
            except (RunUnknown, EventsExpired):
                return  # it is not kept any more
            except QueueError as error:
                logger.warning("a run may be stopped although it is followed: %s", error)
            await asyncio.sleep(self.timings.resume / 3)


class Work:
    """One request that was accepted, as a block: its ticket, its place in the tally, and its run.

    Leaving the block stops the run, unless it may go on without its client. The work is over when both the run and
    the block are.
    """

    def __init__(self, desk: Desk, owner: Owner, asked: Asked, endpoint: str) -> None:
        self.desk, self.owner, self.endpoint = desk, owner, endpoint
        self.background = asked.background
        self.goes_on = asked.background or (asked.on_disconnect or desk.on_disconnect) == "continue"
        self._ticket = desk.admission.enter(owner)
        self._counted = desk.admission.tally.begin(owner.name, endpoint)
        # What the answer's pieces are told to, and its end; without a call between, as they are many.
        self.heard, self.concluded = self._counted.hear, self._counted.conclude
        if self._ticket.admitted:
            self._counted.admit()
        self._pace: Pace | None = None
        self._over: asyncio.Future[None] | None = None
        self._readers = 0
        self._absence: asyncio.TimerHandle | None = None
        try:
            self.run, self.feed = self._begin(asked)
        except BaseException as error:
            self._ticket.leave()
            self._counted.end(error)
            raise
        self.run_id = self.run.id
        self._counted.run, self._counted.id = self.run, self.run_id
        desk.works[self.run_id] = self

    def _begin(self, asked: Asked) -> tuple[Run, Feed]:
        desk = self.desk
        body = asked.body or partial(start_body, desk.flow, asked.x)
        options = Options(
            session=None if asked.session is None else self.owner.session(asked.session),
            history=asked.history,
            timeout=asked.timeout or desk.default_timeout,
            sampling=asked.sampling,
            tools=asked.tools,
            tool_choice=asked.tool_choice,
            queue=desk.queue,
            admission=None if self._ticket.admitted else self._admitted,
            owner=self.owner.name,
            run_id=asked.run_id,
        )
        if not isinstance(desk.queue, MemoryQueue):
            body = partial(_plain_body, body)
        name = desk.flow.name
        events: Events
        if self.goes_on:
            run = start(body, options, name, asyncio.get_running_loop())
            events = run.events()
            if not asked.background and isinstance(run.log, KeptLog | StoredLog):
                self._pace = run.log.pace = Pace()
                events = Paced(events, self._pace)
        else:
            reader = listen(body, options, name)
            run, events = reader.run, reader
        return run, Feed(events)

    async def _admitted(self) -> None:
        if not await self._ticket.wait():
            raise asyncio.CancelledError
        self._counted.admit()

    @property
    def over(self) -> asyncio.Future[None]:
        """Done when the work is; for one of the desk's works."""
        if self._over is None:
            self._over = asyncio.get_running_loop().create_future()
        return self._over

    # ------------------------------------------------------------ its client

    def left(self) -> None:
        """The client has left."""
        self.lost(CLIENT_LEFT)
        self.feed.nudge()

    def lost(self, reason: str) -> None:
        """There is nobody to answer any more; where runs do not go on without their clients, this one stops."""
        if not self.goes_on:
            self.run.cancel(reason)
        elif self._pace is not None:
            self._pace.let_go()

    def attend(self, change: int) -> None:
        """One client more, or less, reads the run. Left alone for `timings.resume` seconds, it is stopped."""
        self._readers += change
        if self._absence is not None:
            self._absence.cancel()
            self._absence = None
        if not self._readers and not self.background and not self.run.over:
            self._give_grace(self.desk.timings.resume)

    def _give_grace(self, seconds: float) -> None:
        self._absence = asyncio.get_running_loop().call_later(seconds, self._stop_unattended)

    def _stop_unattended(self) -> None:
        """Stops the run, unless somebody follows it in another process: its queue knows."""
        resume = self.desk.timings.resume
        queue, idle = self.desk.queue, resume
        if isinstance(queue, FileQueue):
            try:
                idle = queue.unattended(self.run.id)
            except QueueError:
                pass
        if idle < resume:
            self._give_grace(resume - idle)
        else:
            self.run.cancel(UNATTENDED)

    async def __aenter__(self) -> Self:
        self._readers += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.goes_on:
            if self._pace is not None:
                self._pace.let_go()
            self.attend(-1)
            if not self.run.over:
                self.run.watch(self._end)
                return
        elif not self.run.over:
            await self._leave()
        self._end()

    async def _leave(self) -> None:
        """Stops the run and waits for its cleanup, however this task is treated meanwhile."""
        self.run.cancel(LEFT)
        try:
            await self.run.wait()
        except asyncio.CancelledError:
            if not self.run.over:
                self.run.watch(self._end)
            else:
                self._end()
            raise

    def _end(self) -> None:
        if self.desk.works.pop(self.run_id, None) is not None:
            if self._absence is not None:
                self._absence.cancel()
            self.desk.admission.spent(self.owner, self.run.usage.total_tokens)
            self._ticket.leave()
            self._counted.end()
            if self._over is not None:
                self._over.set_result(None)
            if self.run.error is not None:
                log_failure(self.run.error, self.run.id)


async def _plain_body(body: Body, run: Run) -> Any:
    """The run's value as JSON has it, for a queue on disk, which keeps nothing else."""
    value = await body(run)
    return value if value is None or isinstance(value, str) else plain(value)
