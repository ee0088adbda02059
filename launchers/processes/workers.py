"""Workers, seen from the supervisor: one life of a process that serves."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Literal, Self

from .last_words import Keeper, pair
from .orders import Orders

__all__ = ["Worker", "cause"]

LONGEST = 1 << 24
"""Bytes in a line at most."""

State = Literal["starting", "loading", "ready", "ending"]


class Worker:
    """A process that has been started, and what it has said of itself.

    `tell` is called when its state has changed, and with the number of a question when it wants to know of the
    others.
    """

    def __init__(
        self,
        number: int,
        process: Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        keeper: Keeper,
        tell: Callable[[Worker, int | None], None],
    ) -> None:
        self.number = number
        self.began = time.time()
        self.state: State = "starting"
        self.stage = ""
        self.progress = 0.0
        self.was_ready = False
        self.figures: dict[str, Any] | None = None
        """Those that it told last."""
        self.failure: str | None = None
        """Why it cannot serve, in its own words."""
        self.mistaken = False
        """Whether the reason is that the target names no flow."""
        self._process = process
        self._writer = writer
        self._keeper = keeper
        self._tell = tell
        self._answers: dict[int, asyncio.Future[None]] = {}
        self._questions = 0
        self._reading = asyncio.get_running_loop().create_task(self._read(reader))

    @classmethod
    async def start(cls, orders: Orders, tell: Callable[[Worker, int | None], None], *flags: str) -> Self:
        """Starts a process, with these flags for Python, and gives it its orders."""
        with ExitStack() as ours_if_it_fails, ExitStack() as stack:
            (ours, theirs), (words, their_words) = socket.socketpair(), pair()
            for end in (ours, words):
                ours_if_it_fails.callback(end.close)
            for end in (theirs, their_words):
                stack.enter_context(end)
            command = [sys.executable, "-P", *flags, "-m", __package__, str(theirs.fileno())]
            descriptors = [theirs.fileno(), their_words.fileno(), *orders.listeners]
            process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, pass_fds=sorted(set(descriptors))
            )
            orders = replace(orders, last_words=their_words.fileno())
            reader, writer = await asyncio.open_connection(sock=ours, limit=LONGEST)
            ours_if_it_fails.pop_all()
        worker = cls(orders.number, process, reader, writer, Keeper(words), tell)
        worker._write(orders.as_dict())
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def serves(self) -> bool:
        """Whether it takes connections, and can answer them."""
        return self.state == "ready"

    def say(self, word: str, **more: Any) -> None:
        """Tells it; what is said to one that is gone is lost."""
        self._write({"say": word, **more})

    def end(self) -> None:
        """Has it end gracefully; again and again."""
        self.state = "ending"
        self.say("end")

    def kill(self) -> None:
        """Ends it at once."""
        if self._process.returncode is None:
            self._process.kill()

    async def over(self) -> int:
        """Waits until it is gone, and has been heard to the end; returns its exit code."""
        code = await self._process.wait()
        self.state = "ending"
        self._keeper.close()
        # A process of its own that it has left behind may hold its end of the pair: not waited for.
        await asyncio.wait([self._reading], timeout=1.0)
        self._reading.cancel()
        self._writer.close()
        for answer in self._answers.values():
            answer.cancel()
        return code

    async def look(self, patience: float) -> None:
        """Has it tell its figures; those from before stay where it does not within `patience` seconds."""
        self._questions += 1
        question = self._questions
        self._answers[question] = answer = asyncio.get_running_loop().create_future()
        self.say("figures", question=question)
        await asyncio.wait([answer], timeout=patience)
        self._answers.pop(question, None)

    # ------------------------------------------------------------ what it says

    def _write(self, said: dict[str, Any]) -> None:
        if not self._writer.transport.is_closing():
            self._writer.write(json.dumps(said).encode() + b"\n")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            async for line in reader:
                if line.endswith(b"\n"):
                    self._hear(json.loads(line))
        except OSError:
            return

    def _hear(self, said: dict[str, Any]) -> None:
        word, before = said["say"], self.state
        if word == "figures":
            self.figures = said["figures"]
            answer = self._answers.get(said.get("question", 0))
            if answer is not None and not answer.done():
                answer.set_result(None)
        elif word == "others":
            self.figures = said["figures"]
            self._tell(self, said["question"])
        elif word == "failed":
            self.failure, self.mistaken = said["words"], said["mistaken"]
        elif word == "ending":
            self.state = "ending"
        elif self.state != "ending":
            if word == "ready":
                self.state, self.was_ready = "ready", True
            else:
                self.state = "loading"
                self.stage, self.progress = said.get("stage", ""), said.get("progress", 0.0)
        if self.state != before:
            self._tell(self, None)


def cause(code: int) -> str:
    """How a process has ended."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"
