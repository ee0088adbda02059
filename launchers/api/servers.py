"""uvicorn, as the service runs it: on a socket of its own, in one process, ending as it is told to."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType
from typing import Any

import uvicorn

from ...streaming.errors import MillraceError
from .connections import LARGEST_HEAD, BoundedHeads, connection_type
from .patience import AFTER_DRAIN, Timings

__all__ = ["Server", "loop_factory"]


class Server(uvicorn.Server):
    """One uvicorn server.

    At its end it takes no more connections, calls `drain`, lets what is going on go on for `timings.drain`
    seconds, calls `cut_off`, and gives responses a last moment to end before it hangs up.

    Args:
        signals: SIGINT and SIGTERM end it gracefully, a second one the process at once.
        reload: called at SIGHUP, where signals are heard; without it SIGHUP ends the process, as it always does.
    """

    def __init__(
        self,
        app: Any,
        timings: Timings,
        drain: Callable[[], object],
        cut_off: Callable[[], object],
        signals: bool,
        reload: Callable[[], object] | None = None,
    ) -> None:
        config = uvicorn.Config(
            BoundedHeads(app),
            interface="asgi3",
            http=connection_type(timings, asyncio.get_running_loop()),
            h11_max_incomplete_event_size=LARGEST_HEAD,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=math.ceil(timings.drain + AFTER_DRAIN) + 1,
        )
        super().__init__(config)
        self.listening: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timings = timings
        self._drain = drain
        self._cut_off = cut_off
        self._signals = signals
        self._reload = reload

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:  # how uvicorn says it
            raise MillraceError("the application failed to start; the log above says why") from None
        self.listening.set_result(None)

    async def accept_from(self, listener: socket.socket) -> asyncio.Server:
        """Takes connections from one more listener, which is its own from now on, until that is closed."""
        config = self.config
        server = await asyncio.get_running_loop().create_server(
            lambda: config.http_protocol_class(  # type: ignore[call-arg]
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            ),
            sock=listener,
            backlog=config.backlog,
        )
        self.servers.append(server)
        if self.should_exit:
            server.close()
        return server

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._drain()
        loop, drain = asyncio.get_running_loop(), self._timings.drain
        timers = [
            loop.call_later(drain, self._cut_off),
            loop.call_later(drain + AFTER_DRAIN, self._hang_up),
        ]
        try:
            await super().shutdown(sockets)
        finally:
            for timer in timers:
                timer.cancel()

    def _hang_up(self) -> None:
        """Ends the connections that are left, whose clients do not take what they are sent."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if self._signals:
            with super().capture_signals(), self._capture_hangup():
                yield
        else:
            yield

    @contextmanager
    def _capture_hangup(self) -> Iterator[None]:
        if self._reload is None or os.name != "posix" or current_thread() is not main_thread():
            yield
            return
        loop, reload = asyncio.get_running_loop(), self._reload
        before = signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(reload))
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        super().handle_exit(sig, frame)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop that a service runs on by itself: uvloop's, where there is one."""
    return uvicorn.Config("", log_config=None).get_loop_factory()
