"""Fallback: another step, which takes over when the first one fails before its first piece."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Self

from ...streaming.events import Path
from ...streaming.notes import also_failed, forget
from ...streaming.runs import Run
from ..steps import In, Keep, Out, Step
from ..taps import close, is_stream
from .retries import is_final, tell
from .upstreams import Upstream
from .wrapping import PolicyStep, pieces_of

__all__ = ["FallingBack"]

logger = logging.getLogger("millrace.flow")


class FallingBack(PolicyStep[In, Out]):
    """Gives the same input to another step when its own fails; what that says is said as the step's."""

    def __init__(self, inner: Step[In, Out], fallback: Step[In, Any], name: str | None = None) -> None:
        self.fallback = fallback
        super().__init__(inner, name)

    def mirror(self) -> None:
        super().mirror()
        self.gathers = self.inner.gathers or not self.fallback.live
        self.streams = self.inner.streams or self.fallback.streams
        self.shallow = self.inner.shallow and self.fallback.shallow

    def children(self) -> Sequence[Step[Any, Any]]:
        return (self.inner, self.fallback)

    def around(self, change: Callable[[Step[Any, Any]], Step[Any, Any]]) -> Self:
        twin = super().around(change)
        twin.fallback = change(self.fallback)
        twin.mirror()
        return twin

    async def work(self, x: Any, run: Run, path: Path, output: bool) -> Any:
        upstream, before = Upstream(x) if self.live and is_stream(x) else None, run.outputs
        try:
            return await self.inner.execute(x if upstream is None else upstream.read(), run, path, output)
        except Exception as error:
            heard = output and run.outputs != before
            if heard or is_final(error, run, upstream):
                raise
            failure = self._say(error, run, path)
        given = await self._input(x, upstream)
        try:
            return await self.fallback.execute(given, run, path, output)
        except Exception as error:
            raise self._both(error, failure)  # noqa: B904

    async def pieces(self, x: Any, run: Run, path: Path, output: bool, keep: Keep) -> AsyncIterator[Any]:
        upstream = Upstream(x) if self.live and is_stream(x) else None
        given, begun, before = x if upstream is None else upstream.read(), False, run.outputs
        stream = pieces_of(self.inner, given, run, path, output, keep)
        try:
            async for item in stream:
                if not begun and upstream is not None:
                    upstream.forget()
                begun = True
                yield item
            return
        except Exception as error:
            heard = begun or (output and run.outputs != before)
            if heard or is_final(error, run, upstream):
                raise
            failure = self._say(error, run, path)
        finally:
            await close(stream)
        given = await self._input(x, upstream)
        stream = pieces_of(self.fallback, given, run, path, output, keep)
        try:
            async for item in stream:
                yield item
        except Exception as error:
            raise self._both(error, failure)  # noqa: B904
        finally:
            await close(stream)

    async def _input(self, x: Any, upstream: Upstream | None) -> Any:
        if upstream is None:
            return x
        return upstream.read() if self.fallback.live else await upstream.whole()

    def _say(self, error: Exception, run: Run, path: Path) -> Exception:
        kind, other = type(error).__name__, self.fallback.name or type(self.fallback).__name__
        logger.warning("step %s failed with %s; it falls back to %s", self.label, kind, other)
        tell(run, path, f"fell back to {other}, after {kind}")
        forget(error)
        return error

    def _both(self, error: Exception, failure: Exception) -> Exception:
        """The fallback's error, which is the step's; its note names the first one too."""
        if error is not failure:
            also_failed(error, self.label, failure)
        return error
