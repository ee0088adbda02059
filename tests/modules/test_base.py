from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace import Module, Pipeline
from millrace.streaming import FlowBuildError


class Counting(Module[int, int]):
    def __init__(self) -> None:
        self.setups = 0
        self.closes = 0

    async def setup(self) -> None:
        self.setups += 1
        await asyncio.sleep(0.01)

    async def __call__(self, x: int) -> int:  # type: ignore[override]
        return x + 1

    async def aclose(self) -> None:
        self.closes += 1


class Talking(Counting):
    async def __call__(self, x: int) -> AsyncIterator[str]:  # type: ignore[override]
        for i in range(x):
            yield str(i)


class Blocking(Counting):
    def __call__(self, x: int) -> int:  # type: ignore[override]
        return x + 1


async def dotted(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    async for piece in pieces:
        yield piece + "."


def test_it_is_set_up_once_before_its_first_use() -> None:
    module = Counting()
    flow = Pipeline(module, module)
    assert module.setups == 0

    async def many() -> list[int]:
        return list(await asyncio.gather(*(flow.acall(i) for i in range(20))))

    assert asyncio.run(many()) == [i + 2 for i in range(20)]
    assert flow(1) == 3
    assert module.setups == 1


def test_any_form_of_call() -> None:
    assert Pipeline(Blocking())(1) == 2
    assert Pipeline(Talking())(3) == "012"
    assert list(Pipeline(Talking()).stream(3).text()) == ["0", "1", "2"]
    assert list(Pipeline(Talking(), dotted).stream(3).text()) == ["0.", "1.", "2."]
    assert asyncio.run(Counting().acall(1)) == 2
    assert Counting().name == "Counting"


def test_its_end_and_a_second_life() -> None:
    async def life() -> Counting:
        module = Counting()
        flow = Pipeline(module)
        await flow.release()
        assert module.closes == 0
        await flow.ready()
        await flow.release()
        await flow.release()
        assert (module.setups, module.closes) == (1, 1)
        assert await flow.acall(1) == 2
        await flow.release()
        assert (module.setups, module.closes) == (2, 2)
        return module

    asyncio.run(life())


def test_a_setup_that_fails_fails_its_runs_and_is_tried_again() -> None:
    class Flaky(Counting):
        async def setup(self) -> None:
            await super().setup()
            if self.setups == 1:
                raise OSError("no such file")

    module = Flaky()
    flow = Pipeline(module)

    async def three() -> list[Any]:
        return list(await asyncio.gather(*(flow.acall(1) for _ in range(3)), return_exceptions=True))

    assert [type(result) for result in asyncio.run(three())] == [OSError] * 3
    assert flow(1) == 2
    assert module.setups == 2


def test_a_stopped_run_does_not_stop_the_setup_that_others_wait_for() -> None:
    module = Counting()

    async def two() -> int:
        impatient = asyncio.create_task(Pipeline(module).acall(1, timeout=0.001))
        patient = asyncio.create_task(Pipeline(module).acall(1))
        with pytest.raises(TimeoutError):
            await impatient
        return await patient

    assert asyncio.run(two()) == 2
    assert module.setups == 1


def test_modules_are_closed_at_interpreter_exit() -> None:
    code = """
from millrace import Module, Pipeline
from millrace.streaming import FlowBuildError
class Closing(Module):
    async def __call__(self, x): return x
    async def aclose(self): print("closed", flush=True)
print(Pipeline(Closing())(1))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "1\nclosed\n"
    assert done.stderr == ""


def test_mistakes_are_told_when_it_is_written() -> None:
    with pytest.raises(FlowBuildError, match="async def setup"):

        class Synchronous(Module[int, int]):
            def setup(self) -> None:  # type: ignore[override]
                pass

    class Mute(Module[int, int]):
        pass

    with pytest.raises(FlowBuildError, match="async def __call__"):
        Pipeline(Mute())
    with pytest.raises(FlowBuildError, match=r"give an instance: Counting"):
        Pipeline(Counting)
