"""Cached: a step whose values are kept, so that it works once for equal inputs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Hashable, Mapping
from functools import partial
from typing import Any

from ...streaming.errors import FlowBuildError, FlowCallError, RunCancelled
from ...streaming.events import Path
from ...streaming.messages import Message
from ...streaming.runs import Run
from ..args import apply
from ..references import value_of
from ..steps import In, Keep, Out, Step
from ..taps import close, one, tap
from ..threads import pool
from .caches import Cache, Entry
from .flights import Flight
from .identities import identity_of, outer_references, same, steps_in
from .keys import Unkeyable, digest
from .wrapping import Held, PolicyStep, bare, pieces_of, show_of

__all__ = ["Cached"]

logger = logging.getLogger("millrace.flow")


class Cached(PolicyStep[In, Out]):
    """Keeps what its step gives. Equal calls at the same time are one; what was streamed comes in the same pieces.

    Raises:
        FlowBuildError: the step takes its upstream live; or, for a cache that outlives the process, a part of it
            cannot be told in another process.
        FlowCallError: the input is no key, or the cache cannot hold the value.
    """

    def __init__(
        self, inner: Step[In, Out], cache: Cache, shared: bool = False, name: str | None = None
    ) -> None:
        self.cache = cache
        self.shared = shared or cache.shared
        super().__init__(inner, name)

    def mirror(self) -> None:
        super().mirror()
        if self.live:
            raise FlowBuildError(
                f"step({self.label}, cache=...): it takes its upstream live, and a key needs all of it; annotate "
                "its parameter with the whole value, such as str, or cache the steps before it"
            )
        step = bare(self.inner)
        self.resolve = getattr(step, "resolve", None) or getattr(step, "binding", None)
        self.references = outer_references(self.inner)
        self.sees_history = any(getattr(part, "sees_history", False) for part in steps_in(self.inner))
        try:
            self.identity: Hashable = identity_of(self.inner) if self.cache.durable else same(self.inner)
        except Unkeyable as error:
            raise FlowBuildError(
                f"step({self.label}, cache=...): {error}, which cannot be told in another process; use a function "
                "of a module, a Module with configuration(), or a cache in memory"
            ) from None

    # ------------------------------------------------------------ keys

    def key_of(self, x: Any, run: Run, output: bool) -> Hashable:
        """What the call is known by: the step and its settings, its input, and the session."""
        seen: list[Any] = []
        if self.sees_history:
            seen = [[_told(turn) for turn in run.history], run.sampling if output else None]
            if output and (run.tools is not None or run.tool_choice is not None):
                seen += [run.tools, run.tool_choice]
        given = x if self.resolve is None else self.resolve(x)
        try:
            told = given if self.cache.key is None else apply(self.cache.key, given)
            content = digest([told, *map(value_of, self.references), *seen])
        except Unkeyable as error:
            raise FlowCallError(
                f"the input of step {self.label} is no key for its cache: {error}; give it plain values or "
                "dataclasses, or the cache a function that makes a key of it: MemoryCache(key=lambda x: x.id)"
            ) from None
        key = (self.identity, None if self.shared else run.session, content)
        return digest(key) if self.cache.durable else key

    # ------------------------------------------------------------ working

    async def work(self, x: Any, run: Run, path: Path, output: bool) -> Any:
        found = await self._find(self.key_of(x, run, output), run)
        if isinstance(found, Entry):
            return found.value
        with Leading(found, run):
            with Held(found):
                value = await self.inner.execute(x, run, path, output)
            await self._keep(found, Entry(value))
        return value

    async def pieces(self, x: Any, run: Run, path: Path, output: bool, keep: Keep) -> AsyncIterator[Any]:
        found = await self._find(self.key_of(x, run, output), run)
        if isinstance(found, Entry):
            stream = self._replayed(found, run, path, output)
        else:
            stream = self._recorded(found, x, run, path, output, keep)
        try:
            async for item in stream:
                yield item
        finally:
            await close(stream)
        if isinstance(found, Entry):
            keep(found.value)

    def _replayed(self, entry: Entry, run: Run, path: Path, output: bool) -> AsyncIterator[Any]:
        """The pieces of an entry, said as the step would say them."""
        if output and entry.reason is not None:
            run.finish_reason = entry.reason
        if entry.pieces is None:
            return one(entry.value)
        shows = show_of(self.inner)
        output = output if shows is None else shows == "output"
        return tap(_each(entry.pieces), run, path, output, shows == "silent")

    async def _recorded(
        self, flight: Flight, x: Any, run: Run, path: Path, output: bool, keep: Keep
    ) -> AsyncIterator[Any]:
        """The step at work, as the leader of a flight."""
        values: list[Any] = []
        items: list[Any] = []
        held = Held(flight)
        with Leading(flight, run):
            stream = pieces_of(self.inner, x, run, path, output, values.append)
            take = stream.__anext__
            try:
                while True:
                    with held:
                        try:
                            item = await take()
                        except StopAsyncIteration:
                            break
                    items.append(item)
                    flight.pieces += 1
                    flight.resting = True
                    yield item
                    flight.resting = False
            finally:
                with held:
                    await close(stream)
            reason = run.finish_reason if output and self.sees_history else None
            if reason == "tool_calls" or _wants_logprobs(run):  # these are events, which are not kept
                flight.leave()
            else:
                await self._keep(flight, Entry(values[0], items, reason))
        keep(values[0])

    # ------------------------------------------------------------ finding and keeping

    async def _find(self, key: Hashable, run: Run) -> Entry | Flight:
        """The entry of a key, a copy for the caller alone; or the flight in which the caller has to work."""
        if not self.cache.blocking and (entry := await self._get(key)) is not None:
            return entry.copy()
        flight, leads = self.cache.flights.join(key, run)
        if not leads:
            outcome = await flight.wait(run)
            if outcome == "over":
                return flight.result()
            if outcome == "beside":
                flight = Flight(self.cache.flights, key, run)
        try:
            entry = await self._get(key)
        except BaseException:
            flight.leave()
            raise
        if entry is None:
            return flight
        flight.land(entry)
        return entry.copy()

    async def _get(self, key: Hashable) -> Entry | None:
        try:
            if self.cache.blocking:
                return await asyncio.wrap_future(pool().submit(partial(self.cache.get, key)))
            return self.cache.get(key)
        except Exception as error:
            self._warn("read", error)
            return None

    async def _keep(self, flight: Flight, entry: Entry) -> None:
        try:
            entry = entry.copy()
        except Exception as error:
            raise self._unfit(
                f"it cannot be copied ({type(error).__name__}), and everybody gets a copy"
            ) from error
        try:
            if self.cache.blocking:
                await asyncio.wrap_future(pool().submit(partial(self.cache.put, flight.key, entry)))
            else:
                self.cache.put(flight.key, entry)
        except TypeError as error:
            raise self._unfit(str(error)) from error
        except Exception as error:
            self._warn("written", error)
        flight.land(entry)

    def _unfit(self, why: str) -> FlowCallError:
        return FlowCallError(f"the value of step {self.label} cannot be kept in its cache: {why}")

    def _warn(self, done: str, error: Exception) -> None:
        logger.warning(
            "the cache of step %s could not be %s (%s); the step works without it",
            self.label,
            done,
            type(error).__name__,
        )


class Leading:
    """Around the work of a flight's leader: how it ends is how the flight ends."""

    __slots__ = ("_flight", "_run")

    def __init__(self, flight: Flight, run: Run) -> None:
        self._flight = flight
        self._run = run

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            return
        if isinstance(error, Exception) and not isinstance(error, RunCancelled) and self._run.cut is None:
            self._flight.fail(error)
        else:
            self._flight.leave()


def _wants_logprobs(run: Run) -> bool:
    settings = run.sampling if isinstance(run.sampling, Mapping) else vars(run.sampling)
    return settings.get("logprobs") is not None


def _told(turn: Message) -> tuple[Any, ...]:
    """What a model sees of a turn."""
    calls = (turn.tool_calls, turn.tool_call_id) if turn.tool_calls or turn.tool_call_id else ()
    return (turn.role, turn.content, *calls)


async def _each(pieces: list[Any]) -> AsyncIterator[Any]:
    for piece in pieces:
        yield piece
