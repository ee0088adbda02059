"""The line: whose turn it is, who has to make room for whom, and how long that takes."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace import Limits
from millrace.launchers.admission import Admission, Ticket
from millrace.launchers.lines import Holds
from millrace.launchers.owners import ANYBODY, Owner
from millrace.launchers.quotas import Quota
from millrace.streaming import Overloaded

A, B, C = (Owner(name) for name in "abc")


class TestTurns:
    """Who comes next, where several owners wait."""

    def names(self, admission: Admission, held: list[Ticket], waiting: list[Ticket]) -> str:
        """Whose requests got their permits, one after the other, until all had had one."""
        order = ""
        while held:
            held.pop(0).leave()
            for ticket in [ticket for ticket in waiting if ticket.admitted]:
                waiting.remove(ticket)
                held.append(ticket)
                order += ticket.account.owner.name or "-"
        assert not waiting
        assert (admission.running, admission.waiting) == (0, 0)
        return order

    def enter(self, admission: Admission, names: str, quota: Quota | None = None) -> list[Ticket]:
        return [admission.enter(Owner(name, quota or Quota())) for name in names]

    def test_owners_take_turns(self) -> None:
        admission = Admission(Limits(running=1, waiting=20))
        held = [admission.enter(A)]
        assert self.names(admission, held, self.enter(admission, "aaaabbbcc")) == "bcabcabaa"

    def test_who_has_less_running_comes_first(self) -> None:
        admission = Admission(Limits(running=4, waiting=20))
        held = self.enter(admission, "aaab")
        waiting = self.enter(admission, "aabb")
        held.pop(0).leave()  # a has two left, b one
        assert [ticket.admitted for ticket in waiting] == [False, False, True, False]
        held[0].leave()  # now a has one, b two
        assert [ticket.admitted for ticket in waiting] == [True, False, True, False]

    def test_who_was_served_longest_ago_comes_first(self) -> None:
        """One who asks again and again, never for two at once, gets no more turns than the others."""
        admission = Admission(Limits(running=1, waiting=20))
        holder = admission.enter(A)
        waiting = self.enter(admission, "bbcc")
        order = ""
        for _ in range(5):
            again = admission.enter(A)
            holder.leave()
            holder = next(ticket for ticket in [*waiting, again] if ticket.admitted)
            order += holder.account.owner.name or "-"
            if holder is not again:
                again.leave()
                waiting.remove(holder)
        assert order == "bcabc"

    def test_one_owner_is_served_as_it_came(self) -> None:
        admission = Admission(Limits(running=1, waiting=20))
        holder = admission.enter()
        waiting = [admission.enter() for _ in range(9)]
        waiting.pop(4).leave()
        for ticket in waiting:
            assert not ticket.admitted
            holder.leave()
            assert ticket.admitted
            holder = ticket

    def test_keys_of_one_name_are_one_owner(self) -> None:
        admission = Admission(Limits(running=1, waiting=20))
        held = [admission.enter(A)]
        assert self.names(admission, held, self.enter(admission, "aba")) == "baa"

    def test_nobody_is_an_owner_too(self) -> None:
        admission = Admission(Limits(running=1, waiting=20))
        held = [admission.enter(A)]
        waiting = [admission.enter(A), admission.enter(ANYBODY)]
        assert self.names(admission, held, waiting) == "-a"


class TestDisplacing:
    """Where the line is full, the owner who has most in it makes room for one who has at least two fewer."""

    def full(self, admission: Admission, owner: Owner = A) -> list[Ticket]:
        tickets = [admission.enter(owner) for _ in range(admission.limits.running + admission.limits.waiting)]
        assert admission.full
        return tickets

    async def refusal(self, ticket: Ticket) -> Overloaded:
        with pytest.raises(Overloaded) as refused:
            await ticket.wait()
        return refused.value

    @pytest.mark.anyio
    async def test_the_youngest_of_the_greediest_goes(self) -> None:
        admission = Admission(Limits(running=1, waiting=4))
        *_, youngest = self.full(admission)
        waiting = asyncio.create_task(self.refusal(youngest))
        await asyncio.sleep(0)
        admission.check(B)
        newcomer = admission.enter(B)
        refused = await waiting
        assert refused.waited == 0
        assert refused.retry_after >= 1
        assert "needed for somebody who has fewer" in str(refused)
        assert not newcomer.admitted
        assert admission.waiting == 4

    @pytest.mark.anyio
    async def test_it_is_told_also_if_it_had_not_begun_to_wait(self) -> None:
        admission = Admission(Limits(running=1, waiting=4))
        *_, youngest = self.full(admission)
        admission.enter(B)
        assert (await self.refusal(youngest)).waited == 0
        youngest.leave()
        assert admission.waiting == 4

    def test_until_they_have_nearly_the_same(self) -> None:
        admission = Admission(Limits(running=1, waiting=5))
        self.full(admission)
        admission.enter(B)  # a 4, b 1
        admission.enter(B)  # a 3, b 2
        for owner in (A, B):
            with pytest.raises(Overloaded, match="1 running, 5 waiting"):
                admission.check(owner)
            with pytest.raises(Overloaded, match="1 running, 5 waiting"):
                admission.enter(owner)
        admission.enter(C)  # a 2, b 2, c 1
        with pytest.raises(Overloaded):
            admission.enter(C)
        assert admission.waiting == 5

    def test_where_nobody_may_wait_nobody_is_sent_away(self) -> None:
        admission = Admission(Limits(running=2, waiting=0))
        self.full(admission)
        with pytest.raises(Overloaded):
            admission.enter(B)

    @given(st.lists(st.sampled_from(["a", "b", "c", "d", "leave", "end"]), max_size=200), st.integers(0, 3))
    def test_what_always_holds(self, moves: list[str], seed: int) -> None:
        """Check and enter agree, limits and quotas hold, and no permit is free that somebody who waits may have."""
        quotas = {"a": Quota(), "b": Quota(running=1), "c": Quota(running=2), "d": Quota()}
        limits = Limits(running=3, waiting=4)
        admission = Admission(limits)
        tickets: list[Ticket] = []
        for i, move in enumerate(moves):
            if move in quotas:
                owner = Owner(move, quotas[move])
                allowed = True
                try:
                    admission.check(owner)
                except Overloaded:
                    allowed = False
                try:
                    tickets.append(admission.enter(owner))
                    assert allowed
                except Overloaded:
                    assert not allowed
            elif tickets:
                some = [ticket for ticket in tickets if ticket.admitted == (move == "end")] or tickets
                ticket = some[(i * 7 + seed) % len(some)]
                tickets.remove(ticket)
                ticket.leave()
            running = Counter(t.account.owner.name for t in tickets if t.admitted)
            assert running.total() == admission.running <= limits.running
            assert admission.waiting <= limits.waiting
            assert all(running[name] <= (quota.running or 99) for name, quota in quotas.items())
            if admission.running < limits.running:
                waiting = {t.account.owner.name for t in tickets if t in t.account.waiting}
                assert all(running[name] == quotas[name].running for name in waiting)
        for ticket in tickets:
            ticket.leave()
        assert (admission.running, admission.waiting) == (0, 0)


class TestQuotaOfRunning:
    def test_who_has_its_share_waits_while_permits_are_free(self) -> None:
        admission = Admission(Limits(running=4, waiting=4))
        owner = Owner("a", Quota(running=2))
        first, second, third = (admission.enter(owner) for _ in range(3))
        assert (first.admitted, second.admitted, third.admitted) == (True, True, False)
        other = admission.enter(B)
        assert other.admitted
        other.leave()
        assert not third.admitted
        second.leave()
        assert third.admitted

    def test_a_line_full_of_them_keeps_nobody_out(self) -> None:
        admission = Admission(Limits(running=2, waiting=2))
        owner = Owner("a", Quota(running=1))
        for _ in range(3):
            admission.enter(owner)
        with pytest.raises(Overloaded):
            admission.enter(owner)
        admission.check(B)
        assert admission.enter(B).admitted

    def test_a_quota_that_is_raised_lets_them_in_at_once(self) -> None:
        admission = Admission(Limits(running=4, waiting=8))
        owner = Owner("a", Quota(running=1))
        tickets = [admission.enter(owner) for _ in range(3)]
        admission.check(Owner("a", Quota(running=3)))
        assert all(ticket.admitted for ticket in tickets)


class TestRetryAfter:
    def test_before_anything_is_known_a_second_for_each_round(self) -> None:
        admission = Admission(Limits(running=4, waiting=16))
        assert admission.retry_after == 1.0
        for _ in range(20):
            admission.enter()
        assert admission.retry_after == 17 / 4

    def test_it_follows_how_long_permits_are_held(self) -> None:
        holds = Holds()
        holds.begin(100.0)
        holds.end(100.0, 108.0)
        assert holds.usual(108.0) == 8.0
        for _ in range(40):
            holds.begin(200.0)
            holds.end(200.0, 202.0)
        assert holds.usual(202.0) == pytest.approx(2.0, abs=0.1)

    def test_permits_that_are_out_for_longer_than_usual_count(self) -> None:
        holds = Holds()
        holds.begin(100.0)
        holds.begin(110.0)
        assert holds.usual(110.5) == 5.5
        holds.end(110.0, 112.0)
        assert holds.usual(112.0) == 12.0
        holds.end(100.0, 112.0)
        assert holds.usual(112.0) == pytest.approx(2.0 + (12.0 - 2.0) / 8)

    def test_nobody_is_sent_away_for_long(self) -> None:
        admission = Admission(Limits(running=1, waiting=100))
        for _ in range(101):
            admission.enter()
        assert admission.retry_after == 30.0
