"""The service behind a RemoteFlow: its address and key, while it loads, when it is down, and the connections to it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from millrace import Module, Pipeline, RemoteFlow, Service
from millrace.flow.policies.identities import identity_of
from millrace.modules.remote import Timeouts
from millrace.streaming import Progress, RemoteError, RequestRefused, RunCancelled, emit
from tests.launchers.support import question, running
from tests.modules.faraway import Far, anything, far
from tests.support.breaking import breaking
from tests.support.leaks import eventually, leaks
from tests.support.servers import answers, serving

# ---------------------------------------------------------------- keys


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with far(anything, api_keys=["sk-right"]) as there:
        flow = there.flow(api_key="sk-right")
        assert flow("Hi") == "Hi"
        shown = [
            repr(flow),
            repr(vars(flow)),
            repr(flow.status()),
            repr(flow.configuration()),
            Pipeline(flow).draw(),
        ]
        assert not any("sk-right" in text for text in shown)
        monkeypatch.setenv("FAR_KEY", "sk-right")
        assert there.flow(api_key_env="FAR_KEY")("Hi") == "Hi"
        with pytest.raises(RemoteError, match="give its key") as refused:
            asyncio.run(there.flow(api_key="sk-wrong").ready())
        assert refused.value.status == 401
        assert "sk-wrong" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://localhost:8000/v1", "without /v1"),
        ("http://localhost:8000/v1/runs", "without /v1/runs"),
        ("localhost:8000", "http://localhost:8000'"),
        ("http://a:b@localhost", "api_key"),
    ],
)
def test_what_is_no_url_of_a_service(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RemoteFlow(url)


def test_it_is_known_by_its_service() -> None:
    """For a cache on disk."""
    flow = RemoteFlow("http://localhost:8000/?key=secret", api_key="sk-a", events="all")
    assert flow.configuration() == {"server": "http://localhost:8000"}
    assert flow.sees_history
    assert flow.url == "http://localhost:8000"
    assert identity_of(flow) == identity_of(RemoteFlow("http://localhost:8000", api_key="sk-b", resume=0))
    assert identity_of(flow) != identity_of(RemoteFlow("http://localhost:8001"))


# ---------------------------------------------------------------- its life


class Slow(Module[Any, Any]):
    """Says how far its loading is, until it is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = threading.Event()
        self.fails = False

    async def setup(self) -> None:
        emit(Progress(0.25, "weights"))
        await asyncio.to_thread(self.loaded.wait)
        if self.fails:
            raise OSError("no weights")

    async def __call__(self, x: Any) -> Any:
        return x


@pytest.mark.parametrize("fails", [False, True])
def test_a_service_that_loads_is_waited_for(fails: bool) -> None:
    slow = Slow()
    slow.fails = fails
    with serving(Service(slow).app) as server:
        flow = RemoteFlow(server.url, retries=0)
        events = iter(flow.stream("Hi"))
        progress = next(event for event in events if isinstance(event, Progress) and event.fraction)
        assert (progress.fraction, progress.message) == (0.25, "weights")
        assert (flow.status().state, flow.status().progress) == ("loading", 0.25)
        slow.loaded.set()
        if fails:
            with pytest.raises(RemoteError, match=r"has failed \(OSError\)"):
                list(events)
        else:
            assert list(events)[-1].result == "Hi"
            assert flow.status().state == "ready"
        asyncio.run(flow.release())


def test_not_for_ever() -> None:
    slow = Slow()
    with serving(Service(slow).app) as server:
        flow = RemoteFlow(server.url, timeouts=Timeouts(first_token=0.5))
        with pytest.raises(RemoteError, match=r"within 0.5 s, which is Timeouts\(first_token\)"):
            flow("Hi")
        slow.loaded.set()
        eventually(lambda: answers(server.port, "/health/ready"))
        assert flow("Hi") == "Hi"
        asyncio.run(flow.release())


def test_a_service_that_is_down_is_told_at_setup_and_the_next_run_tries_again() -> None:
    flow = RemoteFlow("http://127.0.0.1:1", retries=0)
    for _ in range(2):
        with pytest.raises(RemoteError, match="cannot be reached"):
            flow("Hi")


def test_called_from_many_loops_one_after_the_other(values: Far) -> None:
    flow = values.flow()
    flow("Hi")
    with leaks():
        for _ in range(3):
            assert asyncio.run(flow.acall("Hi")) == "Hi"
            assert flow("Hi") == "Hi"


def test_release_ends_what_goes_on_here_and_there() -> None:
    with far(anything) as there:
        flow = there.flow()
        run = flow.start({"do": "wait"})
        eventually(lambda: not there.server.idle())
        asyncio.run(flow.release())
        run.wait_sync(5)
        assert isinstance(run.error, RunCancelled)
        assert "closed" in run.error.reason
        eventually(there.server.idle)
        assert flow.status().state == "closed"
        assert flow("Hi") == "Hi"


def test_one_connection_serves_one_run_after_the_other(values: Far) -> None:
    with breaking(values.server.port) as proxy:
        flow = RemoteFlow(proxy.url)
        for _ in range(5):
            assert flow("Hi") == "Hi"
        assert len(proxy.streams) == 5
        assert proxy.connections == 1
        asyncio.run(flow.release())
        eventually(lambda: not proxy.open_connections)


# ---------------------------------------------------------------- what it cannot do


def test_a_setting_that_it_cannot_keep_to_is_named_at_both_ends() -> None:
    """By the flow that asks, and to the client of a service that has it as a step."""
    with far(anything) as there:
        with pytest.raises(RequestRefused, match=r"sampling\.max_tokens cannot be kept to") as refused:
            asyncio.run(there.flow().acall("Hi", sampling={"max_tokens": 5}))
        assert (refused.value.setting, refused.value.by_run) == ("max_tokens", True)
        assert asyncio.run(there.flow().acall("Hi", sampling={"temperature": 0.5, "stop": []})) == "Hi"
        with running(Pipeline(there.flow())) as near:
            status, _, answer = near.post(question("Hi", max_tokens=5))
            assert (status, answer["error"]["param"]) == (400, "max_tokens")
            assert there.server.url not in answer["error"]["message"]
            assert near.post(question("Hi"))[0] == 200
