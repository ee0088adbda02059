"""Quotas: how much one owner may have in a time, and what it is told when that is used up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace import Limits
from millrace.launchers.admission import Admission
from millrace.launchers.owners import ANYBODY, Owner
from millrace.launchers.quotas import Budget, Quota, QuotaExceeded
from millrace.streaming import Overloaded, Usage, emit
from tests.launchers.support import PATH, Asking, Running, Source, echo, question, running
from tests.support.leaks import eventually

OTHER = Owner("other")


class TestQuota:
    @pytest.mark.parametrize(
        "wrong",
        [{"running": 0}, {"requests": "100"}, {"requests": ""}, {"tokens": "1m"}, {"tokens": "0/day"}],
    )
    def test_what_is_none(self, wrong: dict[str, Any]) -> None:
        (name,) = wrong
        with pytest.raises(ValueError, match=rf"Quota\({name}="):
            Quota(**wrong)


class TestBudget:
    def test_what_is_used_up_comes_back_at_an_even_pace(self) -> None:
        budget = Budget(Quota(requests="6/min"), 100.0)
        for _ in range(6):
            assert budget.lacks(100.0) is None
            budget.take(100.0)
        assert budget.lacks(100.0) == ("requests", pytest.approx(10.0))
        assert budget.lacks(104.0) == ("requests", pytest.approx(6.0))
        assert budget.lacks(110.001) is None

    def test_tokens_are_owed(self) -> None:
        budget = Budget(Quota(tokens="60/min"), 100.0)
        budget.spend(59, 100.0)
        assert budget.lacks(100.0) is None
        budget.spend(31, 100.0)
        assert budget.lacks(100.0) == ("tokens", 30.0)
        assert budget.lacks(130.0) is None

    def test_the_longer_wait_is_told(self) -> None:
        budget = Budget(Quota(requests="1/min", tokens="60/min"), 100.0)
        budget.take(100.0)
        budget.spend(90, 100.0)
        assert budget.lacks(100.0) == ("requests", 60.0)
        budget.spend(60, 100.0)
        assert budget.lacks(100.0) == ("tokens", 90.0)

    def test_another_quota_begins_anew_where_it_is_another_one(self) -> None:
        budget = Budget(Quota(requests="1/min", tokens="60/min"), 100.0)
        budget.take(100.0)
        budget.spend(120, 100.0)
        budget.follow(Quota(requests="2/min", tokens="60/min"), 100.0)
        assert budget.lacks(100.0) == ("tokens", 60.0)
        budget.follow(Quota(requests="2/min"), 100.0)
        assert budget.lacks(100.0) is None

    @settings(deadline=None)
    @given(st.integers(1, 20), st.lists(st.floats(0, 30), max_size=60))
    def test_who_comes_when_it_is_told_is_let_in(self, count: int, pauses: list[float]) -> None:
        now, budget = 1000.0, Budget(Quota(requests=f"{count}/min"), 1000.0)
        taken = 0
        for pause in pauses:
            now += pause
            while (lacks := budget.lacks(now)) is None:
                budget.take(now)
                taken += 1
            now += lacks[1] + 1e-6
            assert budget.lacks(now) is None
        assert taken <= count + (now - 1000.0) * count / 60 + 1


@pytest.mark.anyio
class TestAdmission:
    async def test_check_and_enter_refuse_alike_and_others_are_let_in(self) -> None:
        admission = Admission(Limits(running=8, waiting=8))
        owner = Owner("a", Quota(requests="2/h"))
        for _ in range(2):
            admission.check(owner)
            admission.check(owner)  # looking costs nothing
            admission.enter(owner).leave()
        for ask in (admission.check, admission.enter):
            with pytest.raises(
                QuotaExceeded, match=r"2/h requests is used up; try again in 1800 s"
            ) as refused:
                ask(owner)
            assert refused.value.retry_after == pytest.approx(1800, abs=1)
            assert refused.value.waited == 0
        admission.enter(OTHER).leave()
        admission.enter(ANYBODY).leave()

    async def test_a_request_for_which_there_was_no_place_costs_nothing(self) -> None:
        admission = Admission(Limits(running=1, waiting=2, queue_timeout=0.01))
        owner = Owner("a", Quota(requests="4/h"))
        held = admission.enter(OTHER)
        first, second = admission.enter(owner), admission.enter(owner)
        with pytest.raises(Overloaded, match="at its limit"):
            admission.enter(owner)
        admission.enter(OTHER)  # displaces the second
        for ticket in (second, first):  # the first waits too long
            with pytest.raises(Overloaded):
                await ticket.wait()
        held.leave()
        for _ in range(4):
            admission.enter(owner).leave()
        with pytest.raises(QuotaExceeded):
            admission.check(owner)

    async def test_debts_keep_an_owner_out(self) -> None:
        admission = Admission(Limits(running=8, waiting=8))
        owner = Owner("a", Quota(tokens="100k/h"))
        admission.spent(owner, 100_000)
        admission.enter(owner).leave()
        admission.spent(owner, 50_000)
        with pytest.raises(QuotaExceeded, match="100k/h tokens is used up") as refused:
            admission.check(owner)
        assert refused.value.retry_after == pytest.approx(1800, abs=1)
        admission.spent(OTHER, 10**9)
        admission.enter(OTHER).leave()


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{name}"}


class TestService:
    def test_requests_over_the_rate_get_429(self) -> None:
        with running(echo, api_keys=["a: sk-a requests=2/min", "b: sk-b"]) as server:
            assert [server.post(question(), key("a"))[0] for _ in range(2)] == [200, 200]
            status, headers, answer = server.post(question(), key("a"))
            assert status == 429
            assert answer["error"]["code"] == "quota_exceeded"
            assert answer["error"]["type"] == "rate_limit_error"
            assert "2/min requests" in answer["error"]["message"]
            assert 28 <= int(headers["retry-after"]) <= 30
            assert 28_000 <= int(headers["retry-after-ms"]) <= 30_000
            assert server.post(question(), key("b"))[0] == 200
            tally = server.service.admission.tally
            eventually(lambda: (tally.ended["completed"], tally.ended["rejected"]) == (3, 1))
            assert tally.started == 4

    def test_it_is_told_before_the_body_is_read(self) -> None:
        with running(echo, api_keys=["a: sk-a requests=1/h"]) as server:
            assert server.post(question(), key("a"))[0] == 200
            with server.connect() as connection:
                connection.send("POST", PATH, b"", {"Content-Length": "1000", **key("a")})
                assert connection.reply().status == 429

    @pytest.mark.parametrize("stream", [True, False])
    def test_tokens_are_charged_when_a_run_ends(self, stream: bool) -> None:
        async def costly(text: str) -> str:
            await asyncio.sleep(0)
            emit(Usage(30, 40))
            return text

        with running(costly, api_keys=["a: sk-a tokens=60/min", "b: sk-b"]) as server:
            with server.connect() as connection:
                connection.send("POST", PATH, question(stream=stream), key("a"))
                assert connection.reply().status == 200
                connection.read()
            eventually(server.idle)
            status, headers, answer = server.post(question(), key("a"))
            assert (status, answer["error"]["code"]) == (429, "quota_exceeded")
            assert "60/min tokens" in answer["error"]["message"]
            assert 8 <= int(headers["retry-after"]) <= 10
            assert server.post(question(), key("b"))[0] == 200

    @pytest.mark.slow
    def test_turns_of_the_chat_count(self) -> None:
        with running(echo, chat=True, api_keys=["a: sk-a requests=1/h", "b: sk-b"]) as server:
            with server.connect() as connection:
                asked = {"data": ["hello"], "fn_index": 0, "session_hash": "page"}
                connection.send("POST", "/gradio_api/queue/join", asked, key("a"))
                assert connection.reply().status == 200
            eventually(lambda: server.service.admission.tally.ended["completed"] == 1)
            assert server.post(question(), key("a"))[2]["error"]["code"] == "quota_exceeded"
            assert server.post(question(), key("b"))[0] == 200

    def test_two_at_once_and_no_more(self) -> None:
        source = Source(items=2)
        limits, keys = Limits(running=4, waiting=8), ["a: sk-a running=2", "b: sk-b"]
        with running(source, limits=limits, api_keys=keys) as server:
            admission = server.service.admission
            greedy = [ask(server, "a") for _ in range(4)]
            eventually(lambda: (admission.running, admission.waiting) == (2, 2))
            other = ask(server, "b")
            eventually(lambda: source.started == 3)
            source.open()
            for connection in [other, *greedy]:
                assert connection.events()[-1] == "[DONE]"
                connection.close()
            assert source.started == 5


def ask(server: Running, name: str) -> Asking:
    connection = server.connect()
    connection.send("POST", PATH, question(name, stream=True), key(name))
    return connection


class Noting(Source):
    """Notes whose turn it was."""

    def __init__(self, items: int) -> None:
        super().__init__(items)
        self.asked: list[str] = []

    async def __call__(self, text: str) -> AsyncIterator[str]:
        self.asked.append(text)
        async for piece in super().__call__(text):
            yield piece


class TestBurst:
    def test_fifty_of_one_do_not_starve_another(self) -> None:
        """Of 50 at once 2 run and 8 wait. A single one of another owner takes a place, and is the next to run."""
        source = Noting(items=1)
        with running(source, limits=Limits(running=2, waiting=8), api_keys=["a: sk-a", "b: sk-b"]) as server:
            tally = server.service.admission.tally
            burst = [ask(server, "a") for _ in range(50)]
            eventually(lambda: tally.ended["rejected"] == 40)
            eventually(lambda: source.started == 2)
            single = ask(server, "b")
            eventually(lambda: tally.ended["rejected"] == 41)  # the youngest of the burst made room
            source.allow(1)
            eventually(lambda: source.started == 3)
            assert source.asked == ["a", "a", "b"]
            source.open()
            assert single.events()[-1] == "[DONE]"
            assert sorted(connection.reply().status for connection in burst) == [200] * 9 + [429] * 41
            for connection in [single, *burst]:
                connection.close()
            eventually(server.idle)
            assert tally.started == tally.ended.total() == 51

    def test_refusals_are_quick_whoever_asks(self) -> None:
        limits = Limits(running=1, waiting=32)
        names = [f"n{i}" for i in range(32)]
        with running(Source(), limits=limits, api_keys=[f"{name}: sk-{name}" for name in names]) as server:
            held = [ask(server, name) for name in ["n0", *names]]
            eventually(lambda: server.service.admission.full)
            asking = [ask(server, name) for name in names * 2]
            began = time.perf_counter()
            assert {connection.reply().status for connection in asking} == {429}
            assert time.perf_counter() - began < 0.5
            for connection in held + asking:
                connection.close()
