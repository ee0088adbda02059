"""What is around the page's server: which pages are there, by the request on which they wait for answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from millrace import Limits, step
from millrace.launchers.admission import Admission
from millrace.launchers.web.policies import ChatPolicy
from millrace.launchers.web.tabs import Tabs
from tests.support.leaks import eventually_async

PATH = "/gradio_api/queue/data"


async def wait(question: str) -> str:
    await asyncio.Event().wait()
    return question


@pytest.mark.parametrize("last", ["process_generating", "close_stream"])
def test_a_page_has_left_unless_it_has_heard_all(last: str) -> None:
    async def answering(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'data: {"msg":"%s"}\n\n' % last.encode()})
        assert (await receive())["type"] == "http.disconnect"

    async def test() -> None:
        tabs = Tabs(step(wait), Admission(Limits(running=1, waiting=1)))
        policy, tab = ChatPolicy(answering, tabs, "me"), tabs.open("a")
        live = tabs.begin(tab, "question")
        await eventually_async(lambda: live.turn.state == "running")
        leave = asyncio.Event()

        async def receive() -> Any:
            await leave.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            pass

        scope = {
            "type": "http",
            "method": "GET",
            "path": PATH,
            "query_string": b"session_hash=a",
            "headers": [],
        }
        page = asyncio.create_task(policy(scope, receive, send))
        await eventually_async(lambda: tab.pages == 1)
        leave.set()
        await page
        assert (tab.pages, live.turn.state) == (0, "running" if last == "close_stream" else "stopping")
        tabs.cancel_all("the end")
        await live.ended.wait()

    asyncio.run(test())
