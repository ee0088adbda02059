"""An engine's life: cold, loading, ready, failed, closed, and the end of the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from millrace.modules.demo import weights_path
from millrace.modules.local import Engine, EngineStatus, Request, Sampling
from millrace.streaming.errors import ModelError
from tests.support.gated import Gate, gated_engine, tiny_engine, tiny_model, tiny_tokenizer
from tests.support.leaks import eventually, leaks

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[3]
REQUEST = Request(prompt="the mill", sampling=Sampling(temperature=0.0, max_tokens=4))


class Load:
    """A source of models that waits until it is let go, or fails so many times first."""

    def __init__(self, failures: int = 0) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.failures = failures
        self.threads: list[str] = []

    def __call__(self) -> tuple[Any, Any]:
        self.threads.append(threading.current_thread().name)
        self.begun.set()
        assert self.go_on.wait(30)
        if self.failures:
            self.failures -= 1
            raise OSError("the disk is gone")
        return tiny_model(), tiny_tokenizer()


class TestStart:
    async def test_making_one_starts_nothing(self) -> None:
        load = Load()
        engine = Engine(load)
        assert engine.status() == EngineStatus(model=repr(load))
        assert not load.begun.is_set()
        engine.close()
        assert engine.status().state == "cold"

    async def test_states_and_progress(self) -> None:
        heard: list[tuple[float, str]] = []
        load = Load()
        engine = Engine(load, progress=lambda *said: heard.append(said))
        others: list[str] = []
        remove = engine.add_progress_listener(lambda _, stage: others.append(stage))
        engine.start()
        engine.start()
        assert load.begun.wait(30)
        assert engine.status().state == "loading"
        assert engine.status().stage == "weights"
        with pytest.raises(TimeoutError):
            engine.wait_ready(0.01)
        remove()
        load.go_on.set()
        await engine.ready()
        assert engine.status().state == "ready"
        assert load.threads == ["millrace-engine"]
        stages = [stage for _, stage in heard]
        assert stages == ["weights", "checking", "reserving memory", "warming up", "ready"]
        assert [fraction for fraction, _ in heard] == sorted(fraction for fraction, _ in heard)
        assert others == ["weights"]
        engine.close()
        assert engine.status().state == "closed"

    async def test_the_first_request_starts_it(self) -> None:
        engine = tiny_engine()
        assert (await engine.submit(REQUEST).result()).usage.completion_tokens == 4
        engine.close()

    async def test_a_listener_that_fails_harms_nobody(self, caplog: pytest.LogCaptureFixture) -> None:
        def fail(fraction: float, stage: str) -> None:
            raise RuntimeError("cannot listen")

        engine = tiny_engine(progress=fail)
        await engine.ready()
        engine.close()
        assert "a progress listener failed" in caplog.text

    async def test_giving_up_waiting_does_not_stop_the_load(self) -> None:
        load = Load()
        engine = Engine(load)
        import asyncio

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.ready(), 0.01)
        load.go_on.set()
        await engine.ready()
        engine.close()


class TestFailedLoad:
    async def test_everybody_is_told_and_the_next_start_tries_again(self) -> None:
        load = Load(failures=1)
        engine = Engine(load)
        waiting = [engine.submit(REQUEST) for _ in range(5)]
        load.go_on.set()
        with pytest.raises(ModelError, match="the disk is gone"):
            await engine.ready()
        for generation in waiting:
            with pytest.raises(ModelError, match="the disk is gone"):
                await generation.result()
        assert (engine.status().state, engine.status().waiting) == ("failed", 0)
        with pytest.raises(ModelError, match="the disk is gone"):
            engine.submit(REQUEST)
        engine.start()
        await engine.ready()
        assert (await engine.submit(REQUEST).result()).finish_reason == "length"
        engine.close()


class TestClose:
    async def test_again_and_again_and_open_again(self) -> None:
        engine = tiny_engine()
        first = await engine.submit(REQUEST).result()
        for _ in range(3):
            engine.close()
        with pytest.raises(ModelError, match=r"closed; start\(\)"):
            engine.submit(REQUEST)
        engine.start()
        assert await engine.submit(REQUEST).result() == first
        engine.close()

    async def test_while_it_loads(self) -> None:
        load = Load()
        engine = Engine(load)
        generation = engine.submit(REQUEST)
        assert load.begun.wait(30)
        closing = threading.Thread(target=engine.close)
        closing.start()
        load.go_on.set()
        closing.join(30)
        assert not closing.is_alive()
        assert (await generation.result()).finish_reason == "cancelled"
        with pytest.raises(ModelError, match="closed while it loaded"):
            engine.wait_ready(1)

    def test_it_leaves_no_thread_and_gives_the_model_back(self) -> None:
        with leaks():
            gate = Gate()
            engine = gated_engine(gate)
            engine.wait_ready(60)
            generation = engine.submit(REQUEST)
            gate.wait_reached()
            engine.close()
            eventually(lambda: generation.status == "finished")

    def test_switching_is_quick_only_while_an_engine_runs(self) -> None:
        done = python("""
            import sys
            from millrace.modules.local.switching import quick_switching
            from tests.support.gated import tiny_engine
            sys.setswitchinterval(0.004)
            with quick_switching():
                engine = tiny_engine()
                engine.wait_ready(60)
                engine.close()
                print(round(sys.getswitchinterval(), 6), "as another one still runs")
            print(round(sys.getswitchinterval(), 6))
        """)
        assert done.stdout == "1e-05 as another one still runs\n0.004\n", done.stderr


def python(code: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    """Runs a script in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.mark.slow
class TestInterpreter:
    def test_the_end_of_a_script_in_mid_answer_is_quiet_and_quick(self) -> None:
        child = python("""
            from tests.support.gated import tiny_engine
            from millrace.modules.local import Request, Sampling
            engine = tiny_engine(context=4000)
            engine.wait_ready(60)
            running = [engine.submit(Request(prompt=f"number {n}")) for n in range(20)]
            print("running")
        """)
        assert (child.returncode, child.stdout, child.stderr) == (0, "running\n", "")

    def test_the_end_while_a_forward_stands_at_the_gate(self) -> None:
        child = python("""
            from tests.support.gated import Gate, gated_engine
            from millrace.modules.local import Request
            gate = Gate()
            engine = gated_engine(gate)
            engine.wait_ready(60)
            generation = engine.submit(Request(prompt="x"))
            gate.wait_reached()
            raise SystemExit(3)
        """)
        assert (child.returncode, child.stdout, child.stderr) == (3, "", "")

    def test_the_end_while_the_model_loads(self) -> None:
        child = python(f"""
            from millrace.modules.local import Engine
            engine = Engine({str(weights_path())!r})
            engine.start()
        """)
        assert (child.returncode, child.stdout, child.stderr) == (0, "", "")

    def test_loading_writes_nothing(self) -> None:
        child = python(f"""
            from millrace.modules.local import Engine
            engine = Engine({str(weights_path())!r})
            engine.wait_ready(60)
            engine.close()
        """)
        assert (child.returncode, child.stdout, child.stderr) == (0, "", "")

    def test_looking_at_the_engine_loads_no_torch(self) -> None:
        child = python("""
            import sys
            from millrace.modules.local import Engine, KV, Request, Sampling, shared_engine
            engine = shared_engine("nowhere")
            engine.status()
            print([name for name in ("torch", "transformers", "numpy", "tokenizers") if name in sys.modules])
        """)
        assert (child.stdout, child.stderr) == ("[]\n", "")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_forked_child_is_told_and_ends(self) -> None:
        child = python("""
            import os, warnings
            warnings.simplefilter("ignore")
            from tests.support.gated import tiny_engine
            from millrace.modules.local import Request
            from millrace.streaming.errors import ModelError
            engine = tiny_engine()
            engine.wait_ready(60)
            pid = os.fork()
            if pid == 0:
                try:
                    engine.submit(Request(prompt="x"))
                except ModelError as error:
                    print(error, flush=True)
            else:
                os.waitpid(pid, 0)
        """)
        assert child.returncode == 0
        assert "forked from" in child.stdout


class TestUnknownWeights:
    @pytest.mark.parametrize(
        ("source", "cure"),
        [
            ("no/such/path/at/all", "there is no directory no/such/path/at/all; give one with config.json"),
            ("nobody/nothing", "fetch it first with: hf download nobody/nothing"),
        ],
    )
    async def test_are_named_at_once_with_the_cure(
        self, source: str, cure: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        engine = Engine(source)
        with pytest.raises(ModelError, match=r".") as error:
            engine.wait_ready(30)
        assert cure in str(error.value)

    async def test_the_terminal_stays_quiet(self, capfd: pytest.CaptureFixture[str]) -> None:
        """Whoever waits is told; nothing is written besides."""
        engine = Engine("no/such/path/at/all")
        with pytest.raises(ModelError):
            await engine.ready()
        assert capfd.readouterr() == ("", "")


async def test_what_is_no_request_is_refused_and_harms_nobody() -> None:
    engine = tiny_engine()
    with pytest.raises(TypeError, match=r"submit takes a Request, not str: Request\(prompt="):
        engine.submit("the mill")  # type: ignore[arg-type]
    assert (await engine.submit(REQUEST).result()).finish_reason == "length"
    await engine.aclose()
