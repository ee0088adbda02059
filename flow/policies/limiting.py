"""Limited: a step that waits until it may begin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ...streaming.events import Path
from ...streaming.runs import Run
from ..steps import In, Keep, Out, Step
from ..taps import close
from ..threads import HOLDS
from .flights import WaitingFor
from .limiters import Limiter, Permit
from .rates import Rate
from .wrapping import Held, PolicyStep, pieces_of

__all__ = ["Limited"]


class Limited(PolicyStep[In, Out]):
    """Lets so many calls of its step work at once, and so many begin in a time.

    The slot is taken first, then the rate's token. It is held until the value is there or the stream is closed, and for
    longer by a plain function that could not be stopped. A call from inside of the step itself needs no slot of its
    own: it would wait for itself.
    """

    def __init__(
        self,
        inner: Step[In, Out],
        limiter: Limiter | None = None,
        rate: Rate | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(inner, name)
        self.limiter = limiter
        self.rate = rate

    async def admit(self) -> Permit:
        """Waits for a slot and a token."""
        if self.limiter is None or self._is_inside():
            permit = Permit(None)
        else:
            with WaitingFor(self.limiter):
                permit = await self.limiter.enter()
        if self.rate is not None:
            try:
                await self.rate.take()
            except BaseException:
                permit.release()
                raise
        return permit

    def _is_inside(self) -> bool:
        """Whether this code works on behalf of a call that holds a slot."""
        return any(
            isinstance(hold, Permit) and hold.limiter is self.limiter and not hold.released
            for hold in HOLDS.get()
        )

    async def work(self, x: Any, run: Run, path: Path, output: bool) -> Any:
        permit = await self.admit()
        try:
            with Held(permit):
                return await self.inner.execute(x, run, path, output)
        finally:
            permit.release()

    async def pieces(self, x: Any, run: Run, path: Path, output: bool, keep: Keep) -> AsyncIterator[Any]:
        permit = await self.admit()
        held = Held(permit)
        try:
            stream = pieces_of(self.inner, x, run, path, output, keep)
            take = stream.__anext__
            try:
                while True:
                    with held:
                        try:
                            item = await take()
                        except StopAsyncIteration:
                            return
                    yield item
            finally:
                with held:
                    await close(stream)
        finally:
            permit.release()
