"""Ways for requests to end, on a service with one place and one in the line, and how each must have been counted."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

from millrace import Limits
from millrace.launchers.api.patience import Timings
from millrace.streaming import Overloaded, RunCancelled, current_run
from tests.launchers.askers import RUNS, Asker
from tests.launchers.support import PATH, Asking, question
from tests.support.leaks import eventually

__all__ = ["ROWS", "behave"]

Ended = tuple[str, str | None]
"""Outcome and reason."""


async def behave(text: str) -> AsyncIterator[str]:
    """Does what the text says, word by word."""
    for word in text.split():
        if word == "wait":
            await asyncio.Event().wait()
        elif word == "fail":
            raise ValueError("a private text")
        elif word == "full":
            raise Overloaded("the engine is full")
        elif word == "give-up":
            raise RunCancelled("a private text")
        elif word == "stop":
            run = current_run()
            assert run is not None
            run.cancel("stopped by the flow")
            await asyncio.sleep(0)
        else:
            for _ in range(20_000 if word == "flood" else 1):
                yield "x" * 4096 if word == "flood" else word


@dataclass
class Row:
    """Requests, how they must have ended, in any order, and the service that is asked."""

    act: Callable[[Asker], object]
    ended: Counter[Ended]
    options: dict[str, Any]


ROWS: dict[str, Row] = {}

ONE_AND_ONE = Limits(running=1, waiting=1)


def row(
    *ended: Ended, limits: Limits = ONE_AND_ONE, **options: Any
) -> Callable[[Callable[[Asker], object]], Callable[[Asker], object]]:
    def add(act: Callable[[Asker], object]) -> Callable[[Asker], object]:
        ROWS[act.__name__.replace("_", " ")] = Row(act, Counter(ended), {"limits": limits, **options})
        return act

    return add


LEFT = ("cancelled", "client left")
GONE = ("cancelled", "client left and did not come back")
BY_CLIENT = ("cancelled", "cancelled by its client")
DONE = ("completed", None)
FULL = ("rejected", "overloaded")
LATE = ("rejected", "queue_timeout")
CLOSING = "the server is shutting down"
HURRIED = Limits(running=1, waiting=1, queue_timeout=0.2)

# ---------------------------------------------------------------- it ends by itself


@row(DONE, DONE, DONE, DONE)
def answers(ask: Asker) -> None:
    assert ask.status(ask.chat("hello")) == ask.status(ask.chat("hello", stream=True)) == 200
    assert ask.status(ask.runs("hello")) == ask.status(ask.runs("hello", stream=True)) == 200


@row(DONE, DONE)
def an_answer_without_a_word(ask: Asker) -> None:
    assert ask.status(ask.runs("")) == ask.status(ask.chat("", stream=True)) == 200


@row(*[("failed", "ValueError")] * 4)
def failing_flows(ask: Asker) -> None:
    assert ask.status(ask.chat("fail")) == ask.status(ask.runs("fail", stream=True)) == 500
    assert ask.status(ask.chat("so fail", stream=True)) == 200
    assert ask.status(ask.runs("so fail")) == 500


@row(*[("timed_out", "deadline passed")] * 3)
def deadlines(ask: Asker) -> None:
    assert ask.status(ask.runs("wait", timeout=0.05)) == 504
    assert ask.status(ask.runs("so wait", timeout=0.05, stream=True)) == 200
    assert ask.status(ask.runs("wait", timeout=0.05, stream=True)) == 504


@row(FULL, ("cancelled", "RunCancelled"), ("cancelled", "stopped by the flow"))
def flows_that_stop_themselves(ask: Asker) -> None:
    assert ask.status(ask.runs("full")) == 429
    assert ask.status(ask.runs("give-up")) == 503
    assert ask.status(ask.runs("stop wait")) == 503


# ---------------------------------------------------------------- it is refused


@row(LEFT, LEFT, FULL, FULL)
def refused_before_the_body(ask: Asker) -> None:
    ask.busy()
    ask.runs("wait", stream=True)
    ask.until(waiting=1)
    assert ask.status(ask.runs("hello")) == 429
    assert ask.status(ask.send(PATH, b"never looked at")) == 429


@row(LEFT, FULL, limits=Limits(running=1, waiting=0))
def refused_after_the_body(ask: Asker) -> None:
    slow = ask.late()
    busy = ask.busy()
    slow.go()
    assert ask.status(slow) == 429
    busy.close()


@row()
def bad_requests(ask: Asker) -> None:
    bodies: list[object] = [b"", b"no JSON", [], {}, {"input": 3}, {"input": "x", "unknown": 1}]
    assert {ask.status(ask.send(RUNS, body)) // 100 for body in bodies} == {4}
    assert ask.status(ask.send(RUNS, {"input": "x"}, **{"Content-Type": "text/plain"})) == 415
    assert ask.status(ask.send(RUNS, {"input": "x", "events": "all"})) == 403
    assert ask.status(ask.send(PATH, question("x", model="other"))) == 404
    assert ask.status(ask.send(PATH, question("x", unknown=1))) == 400
    assert ask.status(ask.send(f"{RUNS}/unknown/cancel", b"")) == 404


@row(DONE)
def an_id_that_is_taken(ask: Asker) -> None:
    name = {"x-run-id": "0123456789abcdef" * 2}
    assert ask.status(ask.send(RUNS, {"input": "x"}, **name)) == 200
    assert ask.status(ask.send(RUNS, {"input": "x"}, **name)) == 409


@row(timings=Timings(body=0.05))
def a_body_that_does_not_come(ask: Asker) -> None:
    late, left = (ask.late() for _ in range(2))
    left.close()
    assert ask.status(late) == 408


@row(LEFT, LATE, LATE, limits=HURRIED)
def no_place_in_time(ask: Asker) -> None:
    ask.busy()
    assert ask.status(ask.runs("hello")) == ask.status(ask.chat("hello", stream=True)) == 503


# ---------------------------------------------------------------- its client leaves


@row(*[LEFT] * 5)
def clients_that_leave_the_line(ask: Asker) -> None:
    ask.busy()
    for leave, stream in product((Asking.close, Asking.reset), (True, False)):
        asking = ask.runs("hello", stream=stream)
        ask.until(waiting=1)
        leave(asking)
        ask.until(waiting=0)


@row(*[LEFT] * 4)
def clients_that_leave_before_the_first_piece(ask: Asker) -> None:
    for leave, stream in product((Asking.close, Asking.reset), (True, False)):
        asking = ask.chat("wait", stream=stream)
        ask.until(running=1)
        leave(asking)
        ask.until(running=0)


@row(*[LEFT] * 3)
def clients_that_leave_in_the_midst(ask: Asker) -> None:
    for how, leave in ((ask.chat, Asking.reset), (ask.runs, Asking.close)):
        asking = how("so wait", stream=True)
        asking.events(2)
        leave(asking)
        ask.until(running=0)
    ask.runs("so wait").close()
    ask.until(running=0)


@row(("cancelled", "client stopped reading"), timings=Timings(write_idle=0.3))
def a_client_that_stops_reading(ask: Asker) -> None:
    ask.chat("flood", stream=True)
    ask.until(running=1)
    ask.until(running=0)


# ---------------------------------------------------------------- it is cancelled


@row(LEFT, BY_CLIENT, ("cancelled", "enough"))
def cancelled_in_line(ask: Asker) -> None:
    ask.busy()
    for stream, body in ((False, {}), (True, {"reason": "enough"})):
        asking = ask.runs("hello", stream=stream)
        ask.until(waiting=1)
        ask.cancel(ask.id_of("queued"), **body)
        assert ask.status(asking) == 503


@row(*[BY_CLIENT] * 2)
def cancelled_before_the_first_piece_and_after(ask: Asker) -> None:
    silent = ask.busy()
    ask.cancel(ask.id_of("running"))
    assert ask.status(silent) == 503
    streaming = ask.runs("so wait", stream=True)
    streaming.events(2)
    ask.cancel(ask.id_of("running"))
    assert json.loads(streaming.events()[-1])["status"] == "cancelled"


@row(DONE)
def cancelled_when_it_is_over(ask: Asker) -> None:
    asking = ask.runs("hello")
    run_id = asking.reply().headers["x-run-id"]
    asking.read()
    ask.cancel(run_id)


# ---------------------------------------------------------------- nobody listens


@row(DONE, ("failed", "ValueError"), BY_CLIENT, ("timed_out", "deadline passed"))
def in_the_background(ask: Asker) -> None:
    for text, more in (("hello", {}), ("fail", {}), ("wait", {}), ("wait", {"timeout": 0.05})):
        asking = ask.runs(text, background=True, **more)
        assert ask.status(asking) == 202
        if text == "wait" and not more:
            ask.cancel(asking.reply().headers["x-run-id"])
        ask.until(running=0)


@row(LEFT, BY_CLIENT)
def in_the_background_and_in_line(ask: Asker) -> None:
    ask.busy()
    asking = ask.runs("hello", background=True)
    assert ask.status(asking) == 202
    ask.until(waiting=1)
    ask.cancel(asking.reply().headers["x-run-id"])


@row(("failed", "QueueFull"), timings=Timings(write_idle=0.3))
def in_the_background_with_too_much_and_a_follower_who_stops_reading(ask: Asker) -> None:
    asking = ask.runs("flood", background=True)
    assert ask.status(asking) == 202
    run_id = asking.reply().headers["x-run-id"]
    follower = ask.connect()
    follower.send("GET", f"{RUNS}/{run_id}/events")
    desk = ask.server.service._desk
    eventually(lambda: desk.followers == 1)
    ask.until(running=0)
    eventually(lambda: desk.followers == 0)
    assert follower.closed_by_server()


@row(GONE, GONE, on_disconnect="continue", timings=Timings(resume=0.05))
def left_for_good(ask: Asker) -> None:
    asking = ask.runs("so wait", stream=True)
    asking.events(2)
    asking.reset()
    ask.until(running=0)
    ask.runs("wait").close()
    ask.until(running=0)


@row(DONE, BY_CLIENT, on_disconnect="continue")
def left_and_taken_up_again(ask: Asker) -> None:
    asking = ask.runs("so wait", stream=True)
    asking.events(2)
    run_id = asking.reply().headers["x-run-id"]
    asking.close()
    with ask.server.connect() as first, ask.server.connect() as second:
        for follower in (first, second):
            follower.send("GET", f"{RUNS}/{run_id}/events?after=1")
            follower.events(1)
        first.reset()
        ask.cancel(run_id)
        second.read()
    assert ask.status(ask.runs("hello", stream=True)) == 200


@row(LEFT, DONE, timings=Timings(resume=60))
def left_in_line_and_done_all_the_same(ask: Asker) -> None:
    first = ask.busy()
    asking = ask.runs("hello", on_disconnect="continue")
    ask.until(waiting=1)
    asking.close()
    first.close()
    ask.until(running=0, waiting=0)


# ---------------------------------------------------------------- the chat


@row(DONE, ("failed", "ValueError"), ("timed_out", "deadline passed"), default_timeout=0.2)
def turns_that_end_by_themselves(ask: Asker) -> None:
    assert [ask.tab(text) for text in ("hello", "fail", "so wait")] == ["done", "failed", "failed"]


@row(("cancelled", "stopped in the test"), ("cancelled", "the page was left"))
def turns_that_are_stopped(ask: Asker) -> None:
    assert ask.tab("so wait", lambda tab: tab.stop("stopped in the test")) == "stopped"
    assert ask.tab("so wait", lambda tab: tab.stop("the page was left")) == "stopped"


@row(LEFT, ("cancelled", "stopped in line"), LATE, limits=HURRIED)
def turns_in_line(ask: Asker) -> None:
    ask.busy()
    assert ask.tab("hello", lambda tab: tab.stop("stopped in line")) == "stopped"
    assert ask.tab("hello") == "failed"


@row(LEFT, LEFT, LEFT, FULL, limits=Limits(running=1, waiting=2), api_keys=["alice: sk-a", "bob: sk-b"])
def displaced_from_the_line(ask: Asker) -> None:
    body, alice, bob = {"input": "wait"}, {"Authorization": "Bearer sk-a"}, {"Authorization": "Bearer sk-b"}
    ask.send(RUNS, body, **alice)
    ask.until(running=1)
    older = ask.send(RUNS, body, **alice)
    ask.until(waiting=1)
    younger = ask.send(RUNS, body, **alice)
    ask.until(waiting=2)
    ask.send(RUNS, body, **bob)
    assert ask.status(younger) == 429
    assert ask.server.service.admission.waiting == 2
    older.close()


@row(LEFT, FULL, ("rejected", CLOSING), limits=Limits(running=1, waiting=0))
def turns_that_are_refused(ask: Asker) -> None:
    ask.busy()
    assert ask.tab("hello") == "failed"
    assert ask.tab("hello", closing=True) == "failed"


# ---------------------------------------------------------------- the server ends


@row(
    *[("cancelled", CLOSING)] * 3,
    ("rejected", CLOSING),
    ("rejected", CLOSING),
    limits=Limits(running=2, waiting=1),
    timings=Timings(drain=0.2),
)
def the_server_ends(ask: Asker) -> None:
    late = [ask.late(), ask.late()]
    assert ask.status(ask.runs("wait", background=True)) == 202
    going_on = [ask.runs("so wait", stream=True), ask.chat("hello")]
    ask.until(running=2, waiting=1)
    ask.server.do(lambda: setattr(ask.server.service._server, "should_exit", True))
    for asking, status in zip(going_on, (200, 503), strict=True):
        assert ask.status(asking) == status
    for asking in late:
        asking.go()
        assert ask.status(asking) == 503
