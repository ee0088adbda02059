"""The end of an engine's process: when it dies everybody is told and another one is started; none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from millrace import Limits
from millrace.modules.demo import weights_path
from millrace.modules.local import Engine
from millrace.streaming.errors import ModelError
from tests.modules.local.process_parts import ENDLESS, request
from tests.support import paced
from tests.support.leaks import eventually, eventually_async, leaks

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[3]


def child_of(engine: Engine) -> psutil.Process:
    """The process that runs this engine."""
    (found,) = [child for child in psutil.Process().children() if child.pid == engine.pid]
    return found


@pytest.mark.slow
class TestCrashes:
    async def test_everybody_is_told_and_another_one_is_started(self, hand: paced.Paced) -> None:
        engine = Engine(paced.load, process=True, limits=Limits(running=2))
        await engine.ready()
        hand.pace(0.02)
        generations = [engine.submit(request(sampling=ENDLESS)) for _ in range(5)]
        async for _ in generations[0]:
            break
        first = child_of(engine)
        os.kill(first.pid, signal.SIGKILL)
        killed = time.perf_counter()
        for generation in generations:
            with pytest.raises(ModelError, match=r"died \(signal 9\)"):
                await generation.result()
        assert time.perf_counter() - killed < 1
        hand.run_free()
        assert (await engine.submit(request()).result()).finish_reason == "length"
        assert child_of(engine).pid != first.pid
        assert engine.status().stops == {"error": 5, "length": 1}
        await engine.aclose()

    async def test_one_that_never_becomes_ready_is_given_up(self, hand: paced.Paced) -> None:
        hand.crash(True)
        engine = Engine(paced.load, process=True)
        with pytest.raises(ModelError, match="died 3 times while it loaded"):
            await engine.ready()
        assert engine.status().state == "failed"
        hand.crash(False)
        engine.start()
        assert (await engine.submit(request()).result()).finish_reason == "length"
        await engine.aclose()

    async def test_closing_ends_everything(self, hand: paced.Paced) -> None:
        with leaks():
            engine = Engine(paced.load, process=True)
            await engine.ready()
            hand.pace(0.02)
            generation = engine.submit(request(sampling=ENDLESS))
            async for _ in generation:
                break
            child = child_of(engine)
            await engine.aclose()
            assert (await generation.result()).finish_reason == "cancelled"
            assert not child.is_running()
            assert engine.status().state == "closed"
            with pytest.raises(ModelError, match="the engine is closed"):
                engine.submit(request())
            await engine.aclose()
            hand.run_free()

    async def test_closing_does_not_wait_for_a_load(
        self, hand: paced.Paced, caplog: pytest.LogCaptureFixture
    ) -> None:
        hand.stick(True)
        with leaks():
            engine = Engine(paced.load, process=True)
            generation = engine.submit(request())
            await eventually_async(lambda: engine.status().stage == "weights", timeout=30)
            child = child_of(engine)
            await engine.aclose()
            assert not child.is_running()
            assert (await generation.result()).finish_reason == "cancelled"
        assert not caplog.records
        hand.stick(False)
        engine.start()
        assert (await engine.submit(request()).result()).finish_reason == "length"
        await engine.aclose()

    @pytest.mark.parametrize("end", ["exit", "kill", "interrupt"])
    def test_the_child_ends_with_its_parent(self, end: str) -> None:
        program = """
            import sys, time
            from millrace.modules.local import Engine
            engine = Engine(sys.argv[1], process=True)
            engine.wait_ready(60)
            print(engine.pid, flush=True)
            if sys.argv[2] != "exit":
                time.sleep(60)
        """
        parent = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), weights_path(), end],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        if end == "kill":
            parent.kill()
        elif end == "interrupt":
            parent.send_signal(signal.SIGINT)
        assert parent.wait(30) == {"exit": 0, "kill": -9, "interrupt": -2}[end]
        eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, timeout=10)
        assert ("Traceback" in parent.stderr.read()) == (end == "interrupt") if parent.stderr else True
        parent.stdout.close()
        if parent.stderr:
            parent.stderr.close()
