"""How long the first output takes, and what else an engine says of itself; in a thread and in a process."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace import Limits
from millrace.modules.demo import weights_path
from millrace.modules.local import Delta, Engine, Generation, Request, Sampling
from millrace.modules.local.admission import FirstTokens
from tests.support.gated import Gate, gated_engine
from tests.support.leaks import eventually

pytestmark = pytest.mark.anyio
LIMITS = Limits(running=2, waiting=3)


def request(max_tokens: int = 3) -> Request:
    return Request(prompt="the mill", sampling=Sampling(temperature=0.0, max_tokens=max_tokens))


class TestFirstTokens:
    def test_none_before_the_first(self) -> None:
        assert FirstTokens().mean is None

    @given(st.lists(st.floats(0, 1000), min_size=1, max_size=200))
    @settings(deadline=None)
    def test_the_mean_of_the_last_64(self, seconds: list[float]) -> None:
        first = FirstTokens()
        for each in seconds:
            first.note(each)
        last = seconds[-64:]
        assert first.mean == pytest.approx(sum(last) / len(last))


class TestGeneration:
    heard: list[float]

    def made(self) -> Generation:
        self.heard = []
        generation = Generation(request(), lambda _: None)
        generation.on_first = self.heard.append
        generation.begin()
        return generation

    @pytest.mark.parametrize(
        "delta",
        [Delta("a"), Delta(token_ids=(1,)), Delta(reasoning="a"), Delta("a", finish_reason="stop")],
        ids=["text", "token without text", "reasoning", "the last one as well"],
    )
    def test_the_first_output_tells_once(self, delta: Delta) -> None:
        generation = self.made()
        generation.push(Delta())
        assert self.heard == []
        generation.push(delta)
        generation.push(Delta("b"))
        (seconds,) = self.heard
        assert 0 <= seconds <= time.monotonic() - generation.submitted

    def test_an_end_without_output_tells_nothing(self) -> None:
        self.made().push(Delta(finish_reason="error"))
        assert self.heard == []

    def test_what_comes_after_a_cancel_tells_nothing(self) -> None:
        generation = self.made()
        generation.cancel()
        generation.push(Delta("a"))
        assert self.heard == []


class TestThread:
    async def test_it_is_measured_from_the_submit(self) -> None:
        gate = Gate()
        engine = gated_engine(gate, limits=LIMITS)
        engine.wait_ready(30)
        assert engine.status().time_to_first_token is None
        generation = engine.submit(request())
        await gate.areached()
        began = time.monotonic()
        while time.monotonic() < began + 0.05:  # the forward takes as long as the test says
            pass
        gate.open(1)
        await anext(generation)
        first = engine.status().time_to_first_token
        assert first is not None
        assert 0.05 <= first <= time.monotonic() - generation.submitted
        gate.open_all()
        await generation.result()
        assert engine.status().time_to_first_token == first
        engine.close()

    async def test_a_request_that_is_stopped_before_counts_not(self) -> None:
        gate = Gate()
        engine = gated_engine(gate, limits=LIMITS)
        engine.wait_ready(30)
        generation = engine.submit(request())
        await gate.areached()
        generation.cancel()
        gate.open_all()
        await generation.aclose()
        status = engine.status()
        assert (status.time_to_first_token, status.stops) == (None, {"cancelled": 1})
        assert (status.running_limit, status.waiting_limit) == (2, 3)
        engine.close()


@pytest.mark.slow
class TestProcess:
    @pytest.fixture
    def engine(self) -> Iterator[Engine]:
        engine = Engine(weights_path(), process=True, limits=LIMITS)
        engine.wait_ready(60)
        yield engine
        engine.close()

    async def test_the_parent_measures(self, engine: Engine) -> None:
        assert engine.status().time_to_first_token is None
        began = time.monotonic()
        await engine.submit(request()).result()
        took = time.monotonic() - began
        stopped = engine.submit(request(200))
        await anext(stopped)
        await stopped.aclose()
        eventually(lambda: engine.status().running == 0)
        status = engine.status()
        assert status.time_to_first_token is not None
        assert 0 < status.time_to_first_token < took + 5
        assert (status.running_limit, status.waiting_limit) == (2, 3)
        assert status.stops == {"length": 1, "cancelled": 1}
