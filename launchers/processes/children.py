"""A worker from inside: serves on a socket that it was given, and does what its supervisor says."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from functools import partial
from typing import Any

from ...flow.steps import Step
from ...streaming.errors import MillraceError, MissingExtra
from ..api.siblings import Siblings
from ..complaints import words_of
from ..loading import loading_stage
from ..run_lines import LogFormat, print_runs
from ..services import Service
from ..targets import load_target
from ..web.archives import USUAL, usual_folder
from .controls import GONE, Control
from .last_words import Speaker
from .orders import Orders, longest_end

__all__ = ["is_worker", "main"]

POLL = 0.1
TELL = 1.0
"""Seconds between two looks at what has been counted."""
PATIENCE = 2.0
"""Seconds that the supervisor has to tell of the other workers."""

_is_worker = False


def is_worker() -> bool:
    """Whether this process is a worker."""
    return _is_worker


def main(descriptor: int) -> int:
    """Serves until the supervisor at the other end of the socket says so, or is gone; returns the exit code."""
    global _is_worker
    _is_worker = True
    # These are the supervisor's. A function, as what is ignored would be ignored by every program started here too.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _nothing)
    control = Control(_inherited(descriptor))
    said = control.first()
    if said is GONE:
        return 0
    orders = Orders(**said)
    sys.path[:] = orders.path
    logging.basicConfig(level=orders.log_level, format="%(levelname)s %(name)s: %(message)s")
    if orders.run_lines is not None:
        print_runs(LogFormat(orders.run_lines))
    lodger = None
    if orders.folder is not None:
        from .folders import Lodger

        lodger = Lodger(orders.folder)
    worker = ChildWorker(orders, control)
    control.listen(worker.hear)
    try:
        worker.run()
    except Exception as error:
        if orders.options.get("debug"):
            traceback.print_exc()
        control.say("failed", words=words_of(error), mistaken=isinstance(error, Mistaken))
        return 1
    finally:
        if lodger is not None:
            lodger.leave(worker.orphaned)
        worker.over.set()
    return 0


def _nothing(*_: object) -> None:
    pass


def _inherited(descriptor: int) -> socket.socket:
    """A socket of the supervisor's, which goes to no program that is started here."""
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


class Mistaken(MillraceError):
    """The target names no flow."""


class ChildWorker:
    """Serves one flow. `hear` is called by the thread that listens to the supervisor, everything else by the loop."""

    def __init__(self, orders: Orders, control: Control) -> None:
        self.orders = orders
        self.over = threading.Event()
        self.orphaned = False
        """The supervisor is gone."""
        self._control = control
        self._listeners = [_inherited(descriptor) for descriptor in orders.listeners]
        self._service: Service | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._up = self._ending = False
        self._accepts = not orders.covered
        self._covered: set[int] = set()
        self._covers: dict[int, asyncio.Server] = {}
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._questions = 0

    def run(self) -> None:
        """Imports the flow and serves it; raises why it cannot."""
        flow = self._flow()
        options = self.orders.service_options()
        if options.get("conversations") == USUAL:
            options["conversations"] = usual_folder(flow.name)
        self._service = service = Service(flow, **options)
        service.listen_on(self._listener, at_once=self._accepts)
        service.siblings = Siblings(self.orders.number, self._ask)
        if self.orders.last_words is not None:
            service.leave_words_with(Speaker(_inherited(self.orders.last_words)))
        from ..api.servers import loop_factory

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(self._serve(service))
        self._control.say("figures", figures=service.own_figures())

    @property
    def _listener(self) -> socket.socket:
        """Its own."""
        return self._listeners[self.orders.number - 1]

    def _flow(self) -> Step[Any, Any]:
        try:
            return load_target(self.orders.target)
        except MissingExtra:
            raise
        except MillraceError as error:
            raise Mistaken(str(error)) from error

    async def _serve(self, service: Service) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGTERM, self.end)
        telling = self._loop.create_task(self._tell(service))
        try:
            await service.serve(self._announce, signals=False)
        finally:
            telling.cancel()

    def _announce(self, url: str) -> None:
        self._up = True
        self._control.say("up")
        if self._ending:
            self.end()

    async def _tell(self, service: Service) -> None:
        """How far the flow is with loading, and that it is ready."""
        last = None
        loading = service.readiness.begin()
        while not loading.done():
            stage = loading_stage(service.flow)
            if stage is not None and stage != last:
                last = stage
                self._control.say("loading", stage=stage[0], progress=round(stage[1], 3))
            await asyncio.wait([loading], timeout=POLL)
        if service.readiness.error is None:
            if not self._accepts and not self._ending:
                self._accepts = True
                await service.accept_from(self._listener)
            self._control.say("ready")
        await self._tell_figures(service)

    async def _tell_figures(self, service: Service) -> None:
        """Has the supervisor know what has been counted, in case that this process dies without having been asked."""
        last = (0, 0)
        while True:
            tally = service.admission.tally
            now = tally.started, tally.ended.total()
            if now != last and self._control.mention("figures", figures=service.own_figures()):
                last = now
            await asyncio.sleep(TELL)

    # ------------------------------------------------------------ what the supervisor says

    def hear(self, said: dict[str, Any]) -> None:
        """Before anything is served, an end needs no grace."""
        word, loop = said["say"], self._loop
        self.orphaned = said is GONE
        if loop is None:
            if word in ("end", "gone"):
                os._exit(0)
        else:
            try:
                loop.call_soon_threadsafe(partial(self._do, said))
            except RuntimeError:  # the loop has ended
                pass
        if said is GONE and not self.over.wait(longest_end(self.orders.service_options())):
            os._exit(1)

    def _do(self, said: dict[str, Any]) -> None:
        word = said["say"]
        if word in ("end", "gone"):
            self.end()
        elif word == "figures":
            assert self._service is not None
            self._control.say("figures", question=said["question"], figures=self._service.own_figures())
        elif word == "others":
            asked = self._asked.pop(said["question"], None)
            if asked is not None and not asked.done():
                asked.set_result(said["told"])
        elif word == "keys":
            assert self._service is not None
            self._service.reload_keys()
        elif word == "cover":
            asyncio.ensure_future(self._cover(said["number"]))
        elif word == "uncover":
            self._covered.discard(said["number"])
            if (server := self._covers.pop(said["number"], None)) is not None:
                server.close()

    def end(self) -> None:
        """Ends gracefully; again and again."""
        self._ending = True
        if self._up and self._service is not None:
            self._control.say("ending")
            self._service.stop()
            for listener in self._listeners:
                if listener is not self._listener or not self._accepts:  # else it is closed by the server
                    listener.close()

    async def _cover(self, number: int) -> None:
        """Serves whom another worker should have served, who is not there."""
        assert self._service is not None
        if not self._up or self._ending or number in self._covered:
            return
        self._covered.add(number)
        server = await self._service.accept_from(self._listeners[number - 1].dup())
        if number in self._covered:
            self._covers[number] = server
        else:
            server.close()

    async def _ask(self, own: dict[str, Any]) -> dict[str, Any]:
        """What the supervisor knows of the other workers; nothing, where it does not answer in time."""
        self._questions += 1
        question = self._questions
        self._asked[question] = answer = asyncio.get_running_loop().create_future()
        self._control.say("others", question=question, figures=own)
        try:
            async with asyncio.timeout(PATIENCE):
                told: dict[str, Any] = await answer
                return told
        except TimeoutError:
            return {"workers": {}, "past": {}}
        finally:
            self._asked.pop(question, None)
