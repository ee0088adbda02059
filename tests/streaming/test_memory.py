"""The memory log: one listener that is waited for, and any number of readers that are not."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace import Pipeline
from millrace.streaming import (
    Data,
    EventsExpired,
    FlowCallError,
    RunFinished,
    RunStarted,
    TextDelta,
    TokenUsage,
)
from millrace.streaming.memory import BOUND, MemoryLog
from tests.streaming.parts import Gate, count, seen
from tests.support.leaks import eventually

FINISHED = ("done", None, None, None, TokenUsage())


def filled(many: int) -> MemoryLog:
    log = MemoryLog(asyncio.new_event_loop())
    log.loop.close()
    for i in range(many):
        log.put(TextDelta(str(i)), ())
    return log


def numbers(events: Any) -> list[int]:
    return [event.seq for event in events]


class TestWhatIsKept:
    def test_all_that_the_listener_has_not_taken(self) -> None:
        log = filled(300)
        assert numbers(log.since(0)) == list(range(1, 301))
        assert numbers(log.since(299)) == [300]
        assert log.since(300) == []

    def test_behind_the_listener_as_many_as_the_bound(self) -> None:
        log = filled(300)
        for _ in range(BOUND):
            log.take()
        assert numbers(log.since(0)) == list(range(1, 301))
        log.take()
        assert numbers(log.since(1)) == list(range(2, 301))
        with pytest.raises(EventsExpired, match="256 behind its listener"):
            log.since(0)

    def test_what_a_cancel_takes_from_the_listener_stays_for_others(self) -> None:
        log = filled(600)
        for _ in range(100):
            log.take()
        log.close(RunFinished(*FINISHED), skip=True)
        assert type(log.take()) is RunFinished
        assert numbers(log.since(0)) == list(range(1, 602))

    def test_kept_begins_where_the_log_begins(self) -> None:
        log = filled(BOUND + 10)
        assert numbers(log.kept()) == list(range(1, BOUND + 11))
        for _ in range(BOUND + 4):
            log.take()
        assert numbers(log.kept()) == list(range(5, BOUND + 11))

    def test_what_comes_after_the_end_is_dropped(self) -> None:
        log = filled(3)
        log.close(RunFinished(*FINISHED), skip=False)
        log.put(TextDelta("late"), ())
        assert numbers(log.since(0)) == [1, 2, 3, 4]

    @settings(deadline=None)
    @given(st.lists(st.sampled_from(["put", "say", "take", "jump", "read"]), max_size=800), st.randoms())
    def test_readers_see_one_window_without_gaps(self, moves: list[str], rnd: random.Random) -> None:
        log, said, moved_on = filled(0), 0, 0
        for move in moves:
            if move == "put":
                said += 1
                log.put(Data(said), ())
            elif move == "say":
                said += 1
                log.say_text(str(said), bool(said % 3), ("a", said % 2))
            elif move == "jump":
                log.jump()
            elif move == "take" and log.ahead:
                moved_on = log.take().seq
            after = rnd.randint(0, said)
            try:
                events = log.since(after)
                assert numbers(events) == list(range(after + 1, said + 1))
                for event in events:
                    if isinstance(event, TextDelta):
                        told = str(event.seq), bool(event.seq % 3), ("a", event.seq % 2)
                        assert (event.text, event.output, event.path) == told
                    else:
                        assert event.value == event.seq  # type: ignore[attr-defined]
            except EventsExpired:
                assert after + 1 <= moved_on - BOUND


class TestWaking:
    def test_a_reader_hears_of_what_is_there_already(self) -> None:
        log, woken = filled(3), threading.Event()
        log.wake_at(2, woken.set)
        assert woken.is_set()

    def test_a_reader_is_woken_by_the_next_event_and_then_no_more(self) -> None:
        log, calls = filled(3), []
        log.wake_at(3, lambda: calls.append(1))
        assert calls == []
        log.put(TextDelta("x"), ())
        log.put(TextDelta("y"), ())
        assert calls == [1]

    def test_who_waits_again_while_others_are_woken_waits_for_the_next(self) -> None:
        log, calls = filled(0), []

        def again() -> None:
            calls.append(log.seq)
            if len(calls) < 5:
                log.wake_at(log.seq, again)

        log.wake_at(0, again)
        for i in range(3):
            log.put(TextDelta(str(i)), ())
        assert calls == [1, 2, 3]

    @pytest.mark.anyio
    async def test_a_second_listener_is_refused(self) -> None:
        log = MemoryLog(asyncio.get_running_loop())
        log.waiter()
        with pytest.raises(FlowCallError, match="one listener"):
            log.waiter()


class TestStreams:
    def test_many_readers_beside_the_listener(self) -> None:
        gate, read = Gate(), [[] for _ in range(4)]  # type: ignore[var-annotated]
        with Pipeline(gate.pieces).stream(200) as stream:
            readers = [stream.run.events() for _ in read]
            threads = [
                threading.Thread(target=lambda r, out: out.extend(r), args=(reader, out))
                for reader, out in zip(readers, read, strict=True)
            ]
            for thread in threads:
                thread.start()
            gate.let(200)
            mine = list(stream)
        for thread in threads:
            thread.join(10)
        assert [seen(events) for events in read] == [seen(mine)] * 4

    def test_a_reader_never_slows_the_producer(self) -> None:
        with Pipeline(count).stream(5000) as stream:
            reader = stream.run.events()
            next(reader)
            assert len(list(stream)) == 5004
        with pytest.raises(EventsExpired):
            list(reader)

    def test_a_reader_alone_makes_no_room(self) -> None:
        gate = Gate()
        gate.let(1000)
        with Pipeline(gate.pieces).stream(1000) as stream:
            reader = stream.run.events()
            first = [next(reader).seq for _ in range(BOUND)]
            assert first == list(range(1, BOUND + 1))
            made = gate.made
            assert next(iter(stream)).seq == 1
            assert made <= BOUND
            assert gate.made < 1000

    def test_readers_of_a_cancelled_stream_hear_all_of_it(self) -> None:
        gate = Gate()
        with Pipeline(gate.pieces).stream(1000) as stream:
            reader = stream.run.events()
            gate.let(100)
            eventually(lambda: gate.made == 100)
            stream.run.cancel("enough")
            stream.run.wait_sync()
            events = list(reader)
        assert numbers(events) == list(range(1, len(events) + 1))
        assert [e.text for e in events if isinstance(e, TextDelta)] == [f"{i} " for i in range(100)]
        assert isinstance(events[-1], RunFinished)

    @pytest.mark.anyio
    async def test_on_the_streams_own_loop(self) -> None:
        async with Pipeline(count).stream(100) as stream:

            async def follow() -> list[str]:
                return seen([event async for event in stream.run.events()])

            following = [asyncio.create_task(follow()) for _ in range(3)]
            await asyncio.sleep(0)
            mine = seen([event async for event in stream])
            assert await asyncio.gather(*following) == [mine] * 3

    @pytest.mark.anyio
    async def test_a_for_on_the_loop_that_the_run_needs_is_refused(self) -> None:
        async with Pipeline(count).stream(100) as stream:
            with pytest.raises(FlowCallError, match="async for"):
                list(stream.run.events())


class TestListeningForText:
    """Who only wants the answer's text is woken by a piece of it, by the end, and by a producer that waits for room."""

    @pytest.mark.anyio
    @pytest.mark.parametrize("last", ["text", "end", "room"])
    async def test_what_wakes_it(self, last: str) -> None:
        log = MemoryLog(asyncio.get_running_loop())
        waiter = log.waiter(text=True)
        log.put(RunStarted(), ())
        log.say_text("on the way", False, ("a",))
        assert not waiter.done()
        if last == "text":
            log.say_text("answer", True, ("b",))
        elif last == "end":
            log.close(RunFinished(*FINISHED), skip=False)
        else:
            while len(log.ahead) < BOUND:
                assert not waiter.done()
                log.put(Data(0), ())
        assert waiter.done()
        assert log.take().seq == 1

    @pytest.mark.anyio
    async def test_other_readers_are_woken_by_everything(self) -> None:
        log, calls = MemoryLog(asyncio.get_running_loop()), []
        log.waiter(text=True)
        log.wake_at(0, lambda: calls.append(log.seq))
        log.put(RunStarted(), ())
        assert calls == [1]


class TestTwoThreads:
    def test_a_listener_that_takes_everything_while_the_producer_goes_to_wait_for_room(self) -> None:
        class Interrupted(asyncio.SelectorEventLoop):
            """The listener's thread runs just before the producer has said that it waits."""

            listening = False

            def create_future(self) -> asyncio.Future[Any]:
                while self.listening and log.ahead:
                    log.take()
                return super().create_future()

        loop = Interrupted()
        log = MemoryLog(loop)
        for i in range(BOUND):
            full = log.put(TextDelta(str(i)), ())
        assert full

        async def wait_for_room() -> None:
            async with asyncio.timeout(5):
                loop.listening = True
                await log.room()

        try:
            loop.run_until_complete(wait_for_room())
        finally:
            loop.close()

    def test_they_never_wait_for_each_other(self) -> None:
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for _ in range(500):
                assert sum(1 for _ in Pipeline(count).stream(600).text()) == 600
        finally:
            sys.setswitchinterval(interval)
