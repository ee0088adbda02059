"""Steps that count their calls, and one of them that other processes can know."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from millrace import Module

__all__ = ["Counting", "Told"]


class Counting:
    """A step in many forms that counts its calls and gives a value that says which one it was."""

    def __init__(self) -> None:
        self.calls = 0
        self.inputs: list[Any] = []

    def begin(self, *x: Any) -> None:
        self.calls += 1
        self.inputs.append(x)

    def plain(self, x: Any) -> str:
        self.begin(x)
        return f"{x}/{self.calls}"

    async def coroutine(self, x: Any) -> str:
        self.begin(x)
        return f"{x}/{self.calls}"

    async def stream(self, x: Any) -> AsyncIterator[str]:
        self.begin(x)
        for piece in (f"{x}", "/", f"{self.calls}"):
            yield piece

    def generator(self, x: Any) -> Iterator[str]:
        self.begin(x)
        yield from (f"{x}", "/", f"{self.calls}")


class Told(Module[str, str]):
    """What stands in a file's cache has to be a step that another process can know: a Module with its settings."""

    def __init__(self, form: str = "coroutine", top: int = 1) -> None:
        super().__init__()
        self.form = form
        self.top = top
        self._counting = Counting()

    async def __call__(self, x: str) -> str:
        return await self._counting.coroutine(x)
