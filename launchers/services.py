"""The HTTP service: a flow behind OpenAI's routes, in a script's block or as a process of its own."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import cached_property
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from ..flow.steps import Step
from ..streaming.errors import FlowCallError, MillraceError, require
from ..streaming.file_queues import FileQueue
from ..streaming.limits import Limits
from ..streaming.queues import Queue, open_queue
from ..streaming.registries import MEMORY, MemoryQueue
from ..streaming.runs import HOOKS
from .admission import Admission
from .endings import ending_words
from .file_inputs import MAX_UPLOAD
from .garbage import collected_seldom, leave_alone_what_is_there
from .inputs import answering_flow
from .listeners import bind, check_exposure, url_of
from .targets import load_target

if TYPE_CHECKING:
    from fastapi import FastAPI

    from .api.desks import OnDisconnect, Visible
    from .api.last_words import LastWords
    from .api.patience import Timings
    from .api.servers import Server
    from .api.siblings import Siblings

__all__ = ["Service", "ServiceOptions", "serve"]

logger = logging.getLogger("millrace.service")

MAX_BODY = 4 * 2**20


class ServiceOptions(TypedDict, total=False):
    """What `serve()` passes on; see Service."""

    host: str
    port: int
    api_keys: str | PathLike[str] | Sequence[str] | None
    limits: Limits
    on_disconnect: OnDisconnect
    events: Visible
    queue: Queue | str
    chat: bool
    conversations: str | PathLike[str] | None
    max_upload: int
    debug: bool
    default_timeout: float
    title: str | None
    insecure: bool
    max_body: int
    timings: Timings | None


class Service:
    """A flow behind HTTP, as OpenAI's clients expect it: `async with Service(flow, port=0) as service: service.url`.

    Leaving the block ends it: no new connections, what is going on has `timings.drain` seconds, then it is
    cancelled; the flow's modules are ended last.

    Args:
        flow: a step, or anything that can be one.
        host: the address to listen on. Others than loopback need `api_keys`, or `insecure=True`.
        port: 0 takes one that is free.
        api_keys: a file with one key a line, `"env:NAME"`, or the keys; without them there is no login. See
            `millrace.launchers.api.keys`.
        limits: how many requests run at once, how many wait, and how long.
        on_disconnect: what becomes of the run of a client that leaves: `"cancel"`, it is stopped; `"continue"`, it
            goes on, and is stopped only where nobody comes back to it within `timings.resume` seconds.
        events: what clients may see of a run: `"output"`, its answer; `"all"`, what every step says.
        queue: where runs are kept for clients that come back, by URL or object; by default in memory.
        chat: serve the web chat at `/` as well, under the same limits.
        conversations: the directory that the chat keeps them in; by default they end with the service.
        max_upload: the largest file that goes with a question in the chat, in bytes.
        debug: put the tracebacks of errors into answers. By default a client sees an error's type only.
        default_timeout: deadline of a run in seconds, and the longest that a request may ask for.
        title: of the chat page, and the model's name where the flow has none.
        insecure: serve other hosts without keys, and accept any Host header.
        max_body: the largest request body, in bytes.
        timings: how long the service waits for what.

    Raises:
        MillraceError: an unsafe or impossible setting; when it is entered, a port that cannot be had.
        FlowBuildError: a flow that no request could call, such as a function of two values.
        MissingExtra: the extra `serve` (or, for `chat`, `chat`) is not installed.
    """

    def __init__(
        self,
        flow: Step[Any, Any] | Callable[..., Any],
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        api_keys: str | PathLike[str] | Sequence[str] | None = None,
        limits: Limits | None = None,
        on_disconnect: OnDisconnect = "cancel",
        events: Visible = "output",
        queue: Queue | str = "memory://",
        chat: bool = False,
        conversations: str | PathLike[str] | None = None,
        max_upload: int = MAX_UPLOAD,
        debug: bool = False,
        default_timeout: float = 600.0,
        title: str | None = None,
        insecure: bool = False,
        max_body: int = MAX_BODY,
        timings: Timings | None = None,
    ) -> None:
        require("uvicorn", "serve")
        require("fastapi", "serve")
        from .api.desks import Desk
        from .api.figures import figures_of
        from .api.guards import Keys
        from .api.patience import Timings
        from .api.readiness import Readiness

        _check(on_disconnect, events, default_timeout)
        check_exposure(host, api_keys, insecure)
        self.flow = answering_flow(flow)
        self.host, self.port, self.chat = host, port, chat
        self.title, self.default_timeout, self.debug = title, default_timeout, debug
        self.conversations, self.max_upload = conversations, max_upload
        self.model = model_name(self.flow, title)
        self.admission = Admission(limits or Limits(running=4, waiting=16))
        self.timings = timings or Timings()
        self.readiness = Readiness(self.flow)
        self.siblings: Siblings | None = None
        """The other workers, where the service is one of several processes."""
        self._keys = None if api_keys is None else Keys(api_keys)
        self._hosts = (host,) if api_keys is None and not insecure else None
        self._desk = Desk(
            self.flow,
            self.model,
            self.admission,
            self.timings,
            max_body,
            default_timeout,
            debug,
            _queue_of_its_own(queue),
            on_disconnect,
            events,
        )
        self.own_figures = figures_of(self._desk, self.readiness)
        self.tell: Callable[[str], object] = logger.info
        """Called with what the user should know."""
        self._given: socket.socket | None = None
        self._at_once = True
        self._listener: socket.socket | None = None
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @cached_property
    def app(self) -> FastAPI:
        """The ASGI application, for mounting into another one."""
        from .api.applications import make_app

        title = self.title or "millrace"
        if not self.chat:
            return make_app(self._desk, self.readiness, title, self._keys, self._hosts, self._figures)
        from .chats import mount_chat
        from .web.archives import open_archives
        from .web.logins import Login
        from .web.welcomes import welcome_for

        archives = open_archives(self.conversations)
        login = (
            None
            if self._keys is None
            else Login(self._keys, archives.secret, welcome_for(self.flow, self.title).title)
        )
        app = make_app(self._desk, self.readiness, title, self._keys, self._hosts, self._figures, login)
        return mount_chat(
            app,
            self.flow,
            admission=self.admission,
            title=self.title,
            timeout=self.default_timeout,
            debug=self.debug,
            conversations=archives,
            login=login is not None,
            max_upload=self.max_upload,
            resume=self.timings.resume if self._desk.on_disconnect == "continue" else None,
            queue=None if isinstance(self._desk.queue, MemoryQueue) else self._desk.queue,
        )

    async def _figures(self) -> dict[str, Any]:
        """How the whole service is: this process, or all that serve together."""
        own = self.own_figures()
        return own if self.siblings is None else await self.siblings.figures(own)

    def leave_words_with(self, last_words: LastWords) -> None:
        """From now on `last_words` ends the streams of this process, should it die."""
        self._desk.last_words = last_words

    @property
    def url(self) -> str:
        """Where it can be reached from this machine, without a trailing slash.

        Raises:
            FlowCallError: it has not been entered.
        """
        if self._listener is None:
            raise FlowCallError("the service is not up; enter its block: async with Service(flow) as service")
        return self._url

    # ------------------------------------------------------------ as a block

    async def __aenter__(self) -> Self:
        await self._start(signals=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        await self._ended()

    # ------------------------------------------------------------ its life

    def listen_on(self, listener: socket.socket, at_once: bool = True) -> None:
        """Has it serve on a socket that listens already, in place of one of its own; before it is entered.

        Unless `at_once`, nothing is accepted from it before `accept_from(listener)`.
        """
        self._given, self._at_once = listener, at_once

    async def accept_from(self, listener: socket.socket) -> asyncio.Server:
        """Has it take connections from one more listener, until what this returns is closed."""
        assert self._server is not None
        return await self._server.accept_from(listener)

    def stop(self) -> None:
        """Begins to end it, as a signal does; again and again."""
        if self._server is not None:
            self._server.should_exit = True

    def reload_keys(self) -> None:
        """Reads the file of API keys again, if they come from one; the log tells what came of it."""
        if self._keys is not None:
            self._keys.reload()

    async def _start(self, signals: bool) -> None:
        """Listens, then builds the application; the flow loads in the background."""
        from .api.servers import Server

        self._listener = self._given or bind(self.host, self.port)
        self._url = url_of(self._listener)
        try:
            reload = None if self._keys is None or self._keys.path is None else self.reload_keys
            self._server = Server(self.app, self.timings, self._drain, self._cut_off, signals, reload)
            # An empty context: requests must not find the session, or the run, that the service was started in.
            context = Context()
            context.run(HOOKS.set, HOOKS.get())
            sockets = [self._listener] if self._at_once else []
            self._serving = asyncio.get_running_loop().create_task(
                self._server.serve(sockets=sockets), context=context
            )
            up = self._server.listening
            await asyncio.wait([self._serving, up], return_when=asyncio.FIRST_COMPLETED)
            if not up.done():
                await self._ended()
        except BaseException:
            if self._serving is not None:
                self.stop()
                await asyncio.wait([self._serving])
            self._listener.close()
            raise
        logger.info("serving %s as %r", self._url, self.model)

    def _drain(self) -> None:
        """The server has begun to end: pages that only stay open are let go."""
        if going_on := self.admission.running + self.admission.waiting:
            self.tell(ending_words(going_on, self.timings.drain))
        self._desk.drain()
        if self.chat:
            self.app.state.chat.close()

    def _cut_off(self) -> None:
        """What has not ended by itself is cancelled."""
        self._desk.close()
        if self.chat:
            from .api.refusals import SHUTTING_DOWN

            self.app.state.chat.cancel_all(SHUTTING_DOWN)

    async def _ended(self) -> None:
        """Waits for the server's end; when this wait is cancelled, the server goes on ending."""
        assert self._serving is not None
        await asyncio.wait([self._serving])
        self._serving.result()

    async def serve(self, announce: Callable[[str], object] | None = None, signals: bool = True) -> None:
        """Serves until a signal or `stop()`, or until it is known that the flow cannot be loaded; raises why."""
        await self._start(signals)
        assert self._serving is not None
        if announce is not None:
            announce(self.url)
        loading = self.readiness.begin()
        with collected_seldom():
            await asyncio.wait([self._serving, loading], return_when=asyncio.FIRST_COMPLETED)
            failed = self.readiness.error
            if failed is not None:
                self.stop()
            else:
                leave_alone_what_is_there()
            await self._ended()
        if failed is not None:
            raise failed


def serve(
    flow: Step[Any, Any] | Callable[..., Any] | str,
    *,
    workers: int = 1,
    reload: bool = False,
    announce: Callable[[str], object] | None = None,
    tell: Callable[[str], object] = logger.info,
    **options: Unpack[ServiceOptions],
) -> None:
    """Serves a flow until SIGINT or SIGTERM; a second signal ends everything at once.

    Args:
        flow: the flow, or its name, `"app:flow"`.
        workers: how many processes serve it; more than one need its name. `limits` hold for each.
        reload: serve with one worker, which another one replaces whenever a file of the flow's has changed.
        announce: called with the URL once the port is open.
        tell: called with what the user should know: that the end has begun, and what it still waits for.
        options: as Service takes them.

    Raises:
        MillraceError: an unsafe setting, a port in use, what cannot be served by several processes.
        Exception: what loading the flow raised; a service that can never serve ends.
    """
    from .processes.children import is_worker

    if is_worker():
        raise MillraceError(
            "serve() was called while a worker imported the flow; put it under if __name__ == '__main__':"
        )
    if workers < 1:
        raise ValueError(f"workers={workers}: at least one must serve")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise FlowCallError(
            "serve() blocks, and this thread runs an event loop; use: async with Service(flow) as service"
        )
    if workers > 1 or reload:
        from .processes.choices import supervisor_for

        supervisor_for(flow, workers, reload, options).run(announce)
        return
    service = Service(load_target(flow) if isinstance(flow, str) else flow, **options)
    from .api.servers import loop_factory

    service.tell = tell
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            runner.run(service.serve(announce))
        except KeyboardInterrupt:
            pass


def _check(on_disconnect: str, events: str, default_timeout: float) -> None:
    if on_disconnect not in ("cancel", "continue"):
        raise MillraceError(f"on_disconnect={on_disconnect!r}: there are 'cancel' and 'continue'")
    if events not in ("output", "all"):
        raise MillraceError(f"events={events!r}: there are 'output' and 'all'")
    if not default_timeout > 0:
        raise ValueError(f"default_timeout={default_timeout}: give a number of seconds above 0")


def _queue_of_its_own(queue: Queue | str) -> Queue:
    """The queue for a service's runs. In memory it is one of its own: what else runs in this process, such as the runs
    that steps start, is not for its clients.
    """
    opened = open_queue(queue)
    if isinstance(opened, FileQueue):
        opened.make()
    return MemoryQueue() if opened is MEMORY else opened


def model_name(flow: Step[Any, Any], title: str | None) -> str:
    """What clients call the flow."""
    return "-".join((flow.name or title or "millrace").split())
