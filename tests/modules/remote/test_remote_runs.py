"""A run that is followed over connections that break: through a proxy that cuts them, to the real service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from millrace import RemoteFlow, step
from millrace.launchers.api.patience import Timings
from millrace.modules.remote import Timeouts
from millrace.streaming import Event, Progress, RemoteError, TextDelta, TokenUsage, Usage, emit
from tests.launchers.support import Source
from tests.modules.faraway import Far, far
from tests.support.breaking import BreakingProxy, breaking
from tests.support.leaks import eventually
from tests.support.scripted import Exchange, in_turn, refuses, scripted

TEXT = " ".join(f"wörd-{i}-\u2028😀" for i in range(60))


@step(name="talk")
async def talk(text: str) -> AsyncIterator[str]:
    emit(Progress(0.1, "begun"))
    for word in text.split(" "):
        yield word + " "
    emit(Usage(7, 60))


@pytest.fixture(scope="module")
def there() -> Iterator[Far]:
    with far(talk, events="all") as made:
        yield made


@pytest.fixture
def proxy(there: Far) -> Iterator[BreakingProxy]:
    with breaking(there.server.port) as made:
        yield made


def heard(flow: RemoteFlow, text: str = TEXT) -> list[Any]:
    """All that a run says, but for its times."""
    return [told(event) for event in flow.stream(text)]


def told(event: Event) -> Any:
    return (event.seq, event.kind, event.path, event.payload())


# ---------------------------------------------------------------- picked up


@pytest.mark.parametrize("events", ["output", "all"])
@pytest.mark.parametrize("at", [*range(500, 800, 37), 3000])
def test_cut_anywhere_it_is_the_same(there: Far, proxy: BreakingProxy, events: Any, at: int) -> None:
    whole = heard(there.flow(events=events))
    assert len(whole) > 60
    proxy.allow(at, at + 11, at + 101)
    assert heard(there.flow(proxy.url, events=events, on_disconnect="continue")) == whole
    assert whole[-1][3]["usage"] == TokenUsage(7, 60)
    assert [line.split()[0] for line in proxy.streams] == ["POST", "GET", "GET", "GET"]
    assert proxy.cancels == []


def test_where_the_service_lets_runs_go_on_by_itself() -> None:
    with far(talk, on_disconnect="continue") as there, breaking(there.server.port) as proxy:
        proxy.allow(700)
        assert there.flow(proxy.url)(TEXT) == TEXT + " "


def test_cut_while_it_is_silent_and_as_often_as_it_goes_on() -> None:
    """Each time is a time of its own: what has come in between begins the patience anew."""
    source = Source(12)
    with far(source, on_disconnect="continue") as there, breaking(there.server.port) as proxy:
        pieces = []
        source.allow(1)
        for piece in there.flow(proxy.url, resume=0.3).stream("x").text():
            pieces.append(piece)
            proxy.cut()
            source.allow(1)
        assert pieces == [f"{i} " for i in range(12)]
        assert len(proxy.streams) > 6


def test_a_run_that_is_stopped_with_the_connection_cannot_be_picked_up() -> None:
    source = Source()
    with far(source) as there, breaking(there.server.port) as proxy:
        source.allow(20)
        proxy.allow(1200)
        with pytest.raises(
            RemoteError, match=r"broke, and the server stopped the run .*on_disconnect='continue'"
        ):
            there.flow(proxy.url)("x")
        eventually(there.server.idle)
        assert source.produced <= 22


def test_it_is_not_picked_up_for_ever() -> None:
    source, soon = Source(), Timings(drain=0.1)
    with (
        far(source, on_disconnect="continue", timings=soon) as there,
        breaking(there.server.port) as proxy,
    ):
        flow = there.flow(proxy.url, resume=0.5)
        stream = flow.stream("x")
        source.allow(3)
        events = iter(stream)
        next(event for event in events if isinstance(event, TextDelta))
        proxy.refusing = True
        proxy.cut()
        begun = time.monotonic()
        with pytest.raises(
            RemoteError, match=r"could not be picked up again within 0.5 s, which is RemoteFlow\(resume\)"
        ):
            list(events)
        assert time.monotonic() - begun < 2.5


def test_not_at_all() -> None:
    with far(talk, on_disconnect="continue") as there, breaking(there.server.port) as proxy:
        proxy.allow(900)
        with pytest.raises(RemoteError, match=r"broke the connection .* within 0 s"):
            there.flow(proxy.url, resume=0)(TEXT)
        assert len(proxy.streams) == 1
        assert len(proxy.cancels) == 1  # nobody will come back for it


def test_a_connection_that_hangs_is_one_that_broke(there: Far, proxy: BreakingProxy) -> None:
    """No word, and none to keep it either: a network that swallows all."""
    proxy.hanging = True
    proxy.allow(900)
    flow = there.flow(proxy.url, on_disconnect="continue", timeouts=Timeouts(between_tokens=0.5))
    assert flow(TEXT) == TEXT + " "
    assert len(proxy.streams) >= 2


def test_a_flow_may_be_silent_for_long() -> None:
    async def slow(text: str) -> str:
        await asyncio.sleep(1.2)
        return text

    with far(slow, timings=Timings(first_output=0.05, heartbeat=0.05)) as there:
        assert there.flow(timeouts=Timeouts(first_token=0.6, between_tokens=0.6))("Hi") == "Hi"


# ---------------------------------------------------------------- before it has begun


def test_cut_before_it_began_it_is_begun_again_and_the_first_one_stopped(
    there: Far, proxy: BreakingProxy
) -> None:
    proxy.allow(0, 20)
    assert there.flow(proxy.url, retries=2)(TEXT) == TEXT + " "
    assert [line.split()[:2] for line in proxy.streams] == [["POST", "/v1/runs"]] * 3
    ids = {line.split("/")[3] for line in proxy.cancels}
    assert len(ids) == len(proxy.cancels) == 2


def test_and_not_more_often_than_asked_for(there: Far, proxy: BreakingProxy) -> None:
    proxy.allow(0, 0)
    with pytest.raises(RemoteError, match="broke the connection"):
        there.flow(proxy.url, retries=1)(TEXT)
    assert len(proxy.streams) == 2


def test_a_server_that_does_not_answer(there: Far, proxy: BreakingProxy) -> None:
    proxy.hanging = True
    proxy.allow(0)
    with pytest.raises(RemoteError, match=r"no answer within 0.3 s, which is Timeouts\(first_token\)"):
        there.flow(proxy.url, retries=2, timeouts=Timeouts(first_token=0.3))(TEXT)
    assert len(proxy.streams) == 1
    assert len(proxy.cancels) == 1


# ---------------------------------------------------------------- what the service never does

STARTED = {"kind": "run_started", "seq": 1, "path": [], "time": 1.0}


async def begins(exchange: Exchange) -> None:
    """A run that is broken off in the midst of a frame."""
    await exchange.begin()
    await exchange.data(STARTED)
    await exchange.raw(b'data: {"kind": "text_del')
    exchange.cut()


def scripted_flow(port: int) -> RemoteFlow:
    return RemoteFlow(f"http://127.0.0.1:{port}", retries=0, resume=2)


ready = refuses(200, {"status": "ready"})
gone = refuses(410, {"error": {"message": "gone", "type": "x", "param": None, "code": "events_expired"}})
cancelled = refuses(200, {"status": "cancelled", "usage": {"prompt_tokens": 3, "completion_tokens": 1}})


def test_events_that_are_not_kept_any_more() -> None:
    with scripted(in_turn(ready, begins, gone, cancelled)) as server:
        flow = scripted_flow(server.port)
        stream = flow.stream("x")
        with pytest.raises(RemoteError, match="does not keep the events") as lost:
            list(stream)
        assert lost.value.status == 410
        assert server.exchanges[2].headers["last-event-id"] == "1"
        assert server.exchanges[2].path.endswith("/events?events=output")
        assert server.exchanges[3].path.endswith("/cancel")  # it may be going on
        assert stream.usage == TokenUsage(3, 1)
        asyncio.run(flow.release())


def test_a_server_that_has_forgotten_the_run() -> None:
    """It was started anew, and its queue was in memory."""
    unknown = refuses(404, {"error": {"message": "no such run", "param": None, "code": "run_not_found"}})
    with scripted(in_turn(ready, begins, unknown)) as server:
        flow = scripted_flow(server.port)
        with pytest.raises(RemoteError, match="the server does not know the run any more") as lost:
            flow("x")
        assert lost.value.status == 404
        assert len(server.exchanges) == 3
        asyncio.run(flow.release())


def test_what_is_no_event_ends_it_and_stops_the_run() -> None:
    async def nonsense(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.data(STARTED)
        await exchange.data("what?")
        await exchange.gone()

    with scripted(in_turn(ready, nonsense, cancelled)) as server:
        flow = scripted_flow(server.port)
        with pytest.raises(RemoteError, match=r"what is no event of a run: what\?"):
            flow("x")
        assert server.exchanges[1].left.is_set()
        assert server.exchanges[2].path.endswith("/cancel")
        asyncio.run(flow.release())


@pytest.mark.parametrize("body", [{"hello": "there"}, b"<html>"])
def test_what_is_no_service_of_ours(body: Any) -> None:
    with scripted(in_turn(ready, refuses(200, body), refuses(404))) as server:
        flow = scripted_flow(server.port)
        with pytest.raises(RemoteError, match="no stream of events; is it a millrace service"):
            flow("x")
        asyncio.run(flow.release())
    with scripted(in_turn(refuses(404), refuses(404, b"no such page"))) as server:
        flow = scripted_flow(server.port)
        with pytest.raises(RemoteError, match="404; is it a millrace service"):
            flow("x")
        asyncio.run(flow.release())


def test_a_run_that_ended_without_a_number() -> None:
    """Its process has died."""

    async def lost(exchange: Exchange) -> None:
        await exchange.begin()
        await exchange.data(STARTED)
        error = {"message": "its process has died", "kind": "WriterLost", "status": 500, "code": "lost"}
        end = {
            "kind": "run_finished",
            "path": [],
            "time": 2.0,
            "status": "lost",
            "reason": None,
            "result": None,
        }
        await exchange.data({**end, "error": error, "usage": {"prompt_tokens": 0, "completion_tokens": 0}})
        await exchange.end()

    with scripted(in_turn(ready, lost)) as server:
        flow = scripted_flow(server.port)
        with pytest.raises(RemoteError, match="its process has died") as failed:
            flow("x")
        assert failed.value.kind == "WriterLost"
        assert len(server.exchanges) == 2
        asyncio.run(flow.release())
