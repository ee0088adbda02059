"""Admission: how many run, how many wait, who is refused and when."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from millrace import Limits
from millrace.launchers.admission import Admission
from millrace.streaming import Overloaded, status
from tests.launchers.support import PATH, Running, Source, question, running
from tests.support.leaks import eventually, eventually_async
from tests.support.servers import Connection


@pytest.mark.anyio
class TestPermits:
    async def test_as_many_run_as_may(self) -> None:
        admission = Admission(Limits(running=2, waiting=1))
        with admission.enter() as first, admission.enter() as second:
            assert first.admitted
            assert second.admitted
            assert admission.running == 2
        assert admission.running == 0

    async def test_the_next_waits_for_its_turn(self) -> None:
        admission = Admission(Limits(running=1, waiting=1))
        first, second = admission.enter(), admission.enter()
        assert not second.admitted
        assert admission.waiting == 1
        waiting = asyncio.create_task(second.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        first.leave()
        assert await waiting
        assert (admission.running, admission.waiting) == (1, 0)
        second.leave()

    async def test_the_one_beyond_is_refused_at_once(self) -> None:
        admission = Admission(Limits(running=1, waiting=1))
        with admission.enter(), admission.enter():
            assert admission.full
            with pytest.raises(Overloaded, match="1 running, 1 waiting") as refused:
                admission.enter()
            assert refused.value.retry_after >= 1
        assert not admission.full

    async def test_first_come_first_served(self) -> None:
        admission = Admission(Limits(running=1, waiting=8))
        order: list[int] = []

        async def take(i: int) -> None:
            async with admission.permit():
                order.append(i)
                await asyncio.sleep(0)

        await asyncio.gather(*(take(i) for i in range(9)))
        assert order == list(range(9))
        assert admission.running == 0

    async def test_who_waits_too_long_is_refused(self) -> None:
        admission = Admission(Limits(running=1, waiting=1, queue_timeout=0.01))
        with admission.enter():
            with pytest.raises(Overloaded, match=r"within 0\.01 s"):
                async with admission.permit():
                    pass
            assert admission.waiting == 0

    async def test_giving_back_while_waiting_ends_the_wait(self) -> None:
        admission = Admission(Limits(running=1, waiting=1))
        with admission.enter(), admission.enter() as second:
            waiting = asyncio.create_task(second.wait())
            await asyncio.sleep(0)
            second.leave()
            assert await waiting is False
            assert admission.waiting == 0

    async def test_a_cancelled_wait_leaves_no_residue(self) -> None:
        admission = Admission(Limits(running=1, waiting=1))
        with admission.enter():
            waiting = asyncio.create_task(self.hold(admission))
            await eventually_async(lambda: admission.waiting == 1)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert admission.waiting == 0
        assert admission.running == 0

    async def test_a_wait_that_is_cancelled_when_its_turn_comes_passes_it_on(self) -> None:
        admission = Admission(Limits(running=1, waiting=2))
        first = admission.enter()
        waiting = asyncio.create_task(self.hold(admission))
        await eventually_async(lambda: admission.waiting == 1)
        third = admission.enter()
        first.leave()  # the permit is on its way to the waiting task
        waiting.cancel()
        assert await third.wait()
        third.leave()
        assert (admission.running, admission.waiting) == (0, 0)

    async def hold(self, admission: Admission) -> None:
        async with admission.permit():
            await asyncio.Event().wait()

    async def test_giving_back_twice_is_once(self) -> None:
        admission = Admission(Limits(running=2, waiting=0))
        first, second = admission.enter(), admission.enter()
        first.leave()
        first.leave()
        assert admission.running == 1
        second.leave()

    async def test_the_last_moment_counts(self) -> None:
        """A permit that comes in the very turn of the loop in which the time is over is taken."""
        admission = Admission(Limits(running=1, waiting=1, queue_timeout=0.01))
        first, second = admission.enter(), admission.enter()
        waiting = asyncio.create_task(second.wait())
        await asyncio.sleep(0)
        time.sleep(0.02)
        first.leave()
        assert await waiting
        second.leave()
        assert admission.running == 0

    async def test_how_long_somebody_waited_is_told(self) -> None:
        admission = Admission(Limits(running=1, waiting=1, queue_timeout=0.01))
        with admission.enter():
            with pytest.raises(Overloaded) as refused:
                await admission.enter().wait()
            assert 0.01 <= refused.value.waited < 1
            admission.enter()
            with pytest.raises(Overloaded) as refused:
                admission.enter()
            assert refused.value.waited == 0


def ask_all(server: Running, count: int, stream: bool) -> list[Connection]:
    connections = [server.connect() for _ in range(count)]
    for connection in connections:
        connection.send("POST", PATH, question(stream=stream))
    return connections


class TestThirtyTwoAtOnce:
    """Limits 4 running, 8 waiting: exactly 4 run, 8 wait and 20 are refused, for streams and for whole answers."""

    @pytest.mark.parametrize("stream", [True, False])
    def test_four_run_eight_wait_twenty_are_refused(self, stream: bool) -> None:
        source = Source(items=3)
        with running(source, limits=Limits(running=4, waiting=8)) as server:
            connections = ask_all(server, 32, stream)
            admission = server.service.admission
            eventually(lambda: (admission.running, admission.waiting) == (4, 8))
            eventually(lambda: source.started == 4)
            assert status().runs == 12
            assert min(self.health(server) for _ in range(3)) < 0.1
            source.open()
            answers = Counter[int]()
            for connection in connections:
                reply = connection.reply()
                answers[reply.status] += 1
                if reply.status == 429:
                    assert int(reply.headers["retry-after"]) >= 1
                    error = connection.json()["error"]
                    assert (error["code"], error["type"]) == ("overloaded", "rate_limit_error")
                elif stream:
                    assert connection.events()[-1] == "[DONE]"
                else:
                    assert connection.json()["choices"][0]["message"]["content"] == "0 1 2 "
                connection.close()
            assert answers == {200: 12, 429: 20}
            assert source.started == 12
            eventually(server.idle)

    def health(self, server: Running) -> float:
        """Seconds that the answer of the health check takes."""
        began = time.perf_counter()
        assert server.get("/health/ready")[0] == 200
        return time.perf_counter() - began

    def test_a_stream_holds_its_permit_to_the_last_byte(self) -> None:
        source = Source(items=3)
        with running(source, limits=Limits(running=1, waiting=0)) as server:
            holder = server.ask()
            for pieces in (1, 2):
                source.allow(1)
                holder.events(1 + (pieces == 1))
                assert server.post(question())[0] == 429
            source.open()
            assert holder.events()[-1] == "[DONE]"
            holder.close()
            eventually(server.idle)
            assert server.post(question())[0] == 200

    def test_the_body_of_a_refused_request_is_not_awaited(self) -> None:
        with running(Source(), limits=Limits(running=1, waiting=0)) as server:
            holder = server.ask()
            eventually(lambda: server.service.admission.running == 1)
            with server.connect() as refused:
                refused.send("POST", PATH, b"", {"Content-Length": "1000000"})
                assert refused.reply().status == 429
            holder.close()

    def test_who_waits_too_long_gets_503(self) -> None:
        source = Source()
        with running(source, limits=Limits(running=1, waiting=1, queue_timeout=0.05)) as server:
            holder = server.ask()
            eventually(lambda: source.started == 1)
            for stream in (True, False):
                status_code, headers, answer = server.post(question(stream=stream))
                assert status_code == 503
                assert answer["error"]["code"] == "queue_timeout"
                assert int(headers["retry-after"]) >= 1
            assert source.started == 1
            holder.close()
