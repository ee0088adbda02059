"""Fan: what Parallel, Diverter and Warp share: work at once, then `collect`, then `post`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from ..streaming.errors import FlowBuildError
from ..streaming.events import Path
from ..streaming.runs import Run
from .args import UNSETTLED
from .chains import Link, stream_chain
from .fanout import OnError, check_concurrency, check_on_error
from .flows import Flow
from .functions import FunctionStep, as_step
from .performing import leaving, perform
from .steps import In, Keep, Out, Step
from .taps import close, framed

__all__ = ["Fan"]


class Fan(Flow[In, Out]):
    """What Parallel, Diverter and Warp share: work at once, then `collect`, then `post`."""

    concurrency: int | None = None
    on_error: OnError = "raise"
    collect: Callable[[Any], Any] | None = None
    post: Step[Any, Any] | None = None

    def _set(
        self,
        collect: Callable[[Any], Any] | None,
        on_error: OnError,
        concurrency: int | None,
        post: Step[Any, Any] | Callable[[Any], Any] | None,
    ) -> None:
        owner = type(self).__name__
        check_concurrency(concurrency, owner)
        check_on_error(on_error, owner)
        if isinstance(collect, Step):
            raise FlowBuildError(f"{owner}(collect={collect!r}): a step for the results is given as post=")
        if collect is not None and not callable(collect):
            raise FlowBuildError(
                f"{owner}(collect={collect!r}): give something that can be called with the results"
            )
        after = as_step(post) if post is not None else None
        self.freeze(
            collect=collect,
            on_error=on_error,
            concurrency=concurrency,
            post=after,
            streams=after is not None and after.streams,
        )

    def results(self, x: Any, run: Run, path: Path) -> Coroutine[Any, Any, Any]:
        """What the branches give, before `collect`."""
        raise NotImplementedError

    def execute(self, x: Any, run: Run | None, path: Path, output: bool) -> Coroutine[Any, Any, Any]:
        assert run is not None
        if self.post is None and self.collect is None:
            return self.results(x, run, path)
        return self._made(x, run, path, output)

    async def _made(self, x: Any, run: Run, path: Path, output: bool) -> Any:
        """With `collect` and `post`."""
        value = await self._collected(x, run, path)
        return value if self.post is None else await perform(self.post, value, run, path, "post", output)

    async def _collected(self, x: Any, run: Run, path: Path) -> Any:
        values = await self.results(x, run, path)
        if self.collect is None:
            return values
        try:
            value = self.collect(values)
            if type(value) in UNSETTLED:  # an async function
                value = await FunctionStep(self.collect).settle(value, run, path, False)
        except BaseException as error:
            raise leaving(error, "collect")  # noqa: B904
        return value

    def open(
        self, x: Any, run: Run, path: Path, output: bool = False, keep: Keep | None = None
    ) -> AsyncIterator[Any]:
        if not self.streams:
            return super().open(x, run, path, output, keep)
        return framed(self._stream(x, run, path, output, keep), run, path)

    async def _stream(
        self, x: Any, run: Run, path: Path, output: bool, keep: Keep | None
    ) -> AsyncIterator[Any]:
        assert self.post is not None
        value = await self._collected(x, run, path)
        stream = stream_chain([Link(self.post, "post", "post")], value, run, path, output, keep)
        try:
            async for item in stream:
                yield item
        finally:
            await close(stream)
