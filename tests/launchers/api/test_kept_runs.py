"""/v1/runs: runs are looked at, and stopped wherever they go on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from millrace import Limits
from millrace.launchers.api import kept_runs
from tests.launchers.api.run_clients import RUNS, UNKNOWN, ask, client_of
from tests.launchers.support import Source, echo, running
from tests.support.leaks import eventually


class TestLooking:
    def test_the_latest_first(self, client: httpx.Client) -> None:
        ids = [client.post(RUNS, json={"input": str(i)}).json()["id"] for i in range(5)]
        listed = client.get(RUNS, params={"limit": 3}).json()
        assert (listed["object"], listed["has_more"]) == ("list", True)
        assert [run["id"] for run in listed["data"]] == ids[:1:-1]
        assert all("result" not in run for run in listed["data"])

    @pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "9" * 50])
    def test_pages_have_a_size(self, client: httpx.Client, limit: str) -> None:
        assert client.get(RUNS, params={"limit": limit}).json()["error"]["param"] == "limit"

    @pytest.mark.parametrize("name", ["abc", UNKNOWN, "x" * 5000, "%00", "é"])
    def test_there_is_no_such_run(self, client: httpx.Client, name: str) -> None:
        for path in (name, f"{name}/events"):
            answer = client.get(f"{RUNS}/{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "run_not_found")
        assert client.post(f"{RUNS}/{name}/cancel").status_code == 404

    def test_methods(self, client: httpx.Client) -> None:
        one = f"/{UNKNOWN}"
        for method, path in (("PUT", ""), ("POST", one), ("DELETE", one), ("GET", f"{one}/cancel")):
            answer = client.request(method, f"{RUNS}{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
            assert answer.headers["allow"]
        assert client.get(f"{RUNS}/{UNKNOWN}/elsewhere").status_code == 404


class TestStopping:
    def test_one_that_waits_in_line(self, run_id: str) -> None:
        source = Source()
        with running(source, limits=Limits(running=1, waiting=2)) as server, client_of(server) as client:
            with (
                ask(server, {"input": "first"}),
                ask(server, {"input": "second"}, {"x-run-id": run_id}) as second,
            ):
                told = eventually(lambda: self.told(client, "queued"))
                assert told["id"] == run_id
                answer = client.post(f"{RUNS}/{run_id}/cancel", json={"reason": "changed my mind"})
                assert answer.json()["status"] == "cancelled"
                assert answer.json()["reason"] == "changed my mind"
                assert second.reply().status == 503
                assert second.json()["error"]["code"] == "cancelled"
                assert server.service.admission.waiting == 0
            eventually(server.idle)
        assert source.started == 1

    def told(self, client: httpx.Client, status: str) -> dict[str, Any] | None:
        runs = client.get(RUNS).json()["data"]
        return next((run for run in runs if run["status"] == status), None)

    @pytest.mark.parametrize("body", [{"input": "a"}, {"input": "a", "stream": True}])
    def test_one_that_has_said_nothing_yet(self, body: dict[str, Any], run_id: str) -> None:
        source = Source()
        with (
            running(source) as server,
            client_of(server) as client,
            ask(server, body, {"x-run-id": run_id}) as asking,
        ):
            eventually(lambda: source.started == 1)
            assert client.post(f"{RUNS}/{run_id}/cancel").json()["status"] == "cancelled"
            assert source.cleaned == 1
            assert asking.reply().status == 503
            assert asking.json()["error"]["code"] == "cancelled"

    def test_in_mid_stream(self) -> None:
        source = Source()
        with running(source) as server, client_of(server) as client:
            with ask(server, {"input": "a", "stream": True}) as asking:
                source.allow(2)
                asking.events(3)
                run_id = asking.reply().headers["x-run-id"]
                told = client.post(f"{RUNS}/{run_id}/cancel").json()
                last = json.loads(asking.events()[-1])
            assert (told["status"], last["status"]) == ("cancelled", "cancelled")
            assert told["error"]["kind"] == last["error"]["kind"] == "RunCancelled"
            assert source.produced <= 4
            eventually(server.idle)

    def test_by_way_of_another_worker(self, tmp_path: Path) -> None:
        source, queue = Source(), f"file://{tmp_path}/runs"
        with running(source, queue=queue) as one, running(echo, queue=queue) as other:
            with client_of(other) as client, ask(one, {"input": "a", "stream": True}) as asking:
                source.allow(2)
                asking.events(3)
                run_id = asking.reply().headers["x-run-id"]
                told = client.post(f"{RUNS}/{run_id}/cancel", json={"reason": "enough"}).json()
                assert source.cleaned == 1
                assert told == client.get(f"{RUNS}/{run_id}").json()
            assert (told["status"], told["reason"]) == ("cancelled", "enough")
            assert told["error"]["kind"] == "RunCancelled"

    @pytest.mark.parametrize("where", ["here", "elsewhere"])
    def test_one_that_takes_its_time_to_end(
        self, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kept_runs, "LONGEST_END", 0.3)
        queue, gate = f"file://{tmp_path}/runs", asyncio.Event()

        async def slow(text: str) -> AsyncIterator[str]:
            try:
                yield "begun"
                await asyncio.Event().wait()
            finally:
                await gate.wait()

        with (
            running(slow, queue=queue) as one,
            running(echo, queue=queue) as other,
            client_of(one if where == "here" else other) as client,
            ask(one, {"input": "a", "stream": True}) as asking,
        ):
            asking.events(2)
            run_id = asking.reply().headers["x-run-id"]
            told = client.post(f"{RUNS}/{run_id}/cancel").json()
            assert (told["status"], told["ended"]) == ("running", None)
            one.do(gate.set)
            monkeypatch.undo()
            assert client.post(f"{RUNS}/{run_id}/cancel").json()["status"] == "cancelled"

    def test_one_that_is_over_stays_as_it_is(self, client: httpx.Client) -> None:
        run = client.post(RUNS, json={"input": "a"}).json()
        assert client.post(f"{RUNS}/{run['id']}/cancel").json() == run

    @pytest.mark.parametrize("reason", ["", 7, "x" * 201, "a\nb"])
    def test_a_reason_is_a_short_text(self, client: httpx.Client, reason: object) -> None:
        run = client.post(RUNS, json={"input": "a"}).json()
        answer = client.post(f"{RUNS}/{run['id']}/cancel", json={"reason": reason})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "reason")

    def test_it_stands_behind_no_limit(self, run_id: str) -> None:
        source = Source()
        with (
            running(source, limits=Limits(running=1, waiting=0)) as server,
            client_of(server) as client,
            ask(server, {"input": "a"}, {"x-run-id": run_id}) as asking,
        ):
            eventually(lambda: source.started == 1)
            assert client.post(RUNS, json={"input": "b"}).status_code == 429
            assert client.get(f"{RUNS}/{run_id}").json()["status"] == "running"
            assert client.post(f"{RUNS}/{run_id}/cancel").json()["status"] == "cancelled"
            asking.reply()
