"""Histories: one writer at a time, and bounds so that they do not grow without end."""

from __future__ import annotations

import os

import pytest

from millrace import Message
from millrace.streaming import SessionBusy, SessionError, forget_session, session_history
from millrace.streaming.histories import HISTORIES, Histories
from millrace.streaming.messages import FunctionCall
from millrace.streaming.runs import Run
from tests.support.leaks import eventually


def turn(question: str = "q", answer: str = "a") -> list[Message]:
    return [Message.user(question), Message.assistant(answer)]


def told(histories: Histories, session: str, *turns: list[Message]) -> None:
    for messages in turns:
        run = Run()
        histories.take(session, run)
        histories.give_back(session, run, messages)


def test_turns_in_order() -> None:
    histories = Histories()
    told(histories, "alice", turn("1", "one"), turn("2", "two"))
    told(histories, "Alice", turn("3", "three"))
    assert [m.content for m in histories.of("alice")] == ["1", "one", "2", "two"]
    assert [m.content for m in histories.of("Alice")] == ["3", "three"]
    assert histories.of("nobody") == ()


class TestOneWriter:
    def test_a_second_is_refused_by_name(self) -> None:
        histories, first, second = Histories(), Run(), Run()
        histories.take("alice", first)
        with pytest.raises(SessionBusy, match="session 'alice' is busy: another of its runs is at its turn"):
            histories.take("alice", second)
        histories.take("bob", second)
        histories.give_back("alice", first, turn())
        assert histories.take("alice", second) == tuple(turn())

    def test_it_may_take_again(self) -> None:
        histories, run = Histories(), Run()
        assert histories.take("alice", run) == histories.take("alice", run) == ()

    def test_one_that_is_over_or_gone_blocks_nobody(self) -> None:
        histories, run, next_run = Histories(), Run(), Run()
        histories.take("alice", run)
        run.status = "cancelled"
        histories.take("alice", next_run)
        del next_run
        histories.take("alice", Run())

    def test_only_the_writer_writes(self) -> None:
        histories, run = Histories(), Run()
        histories.take("alice", run)
        histories.give_back("alice", Run(), turn())
        assert histories.of("alice") == ()
        histories.give_back("alice", run, turn())
        histories.give_back("alice", run, turn())
        assert histories.of("alice") == tuple(turn())

    def test_what_was_forgotten_meanwhile_stays_so(self) -> None:
        histories, run = Histories(), Run()
        histories.take("alice", run)
        histories.forget("alice")
        histories.give_back("alice", run, turn())
        assert len(histories) == 0

    def test_a_forked_child_is_not_held_up_by_a_run_of_its_parent(self) -> None:
        run = Run()
        HISTORIES.take("forked", run)
        child = os.fork()
        if not child:
            try:
                HISTORIES.take("forked", Run())
            except BaseException:
                os._exit(1)
            os._exit(0)
        _, code = os.waitpid(child, 0)
        forget_session("forked")
        assert os.waitstatus_to_exitcode(code) == 0


class TestCalls:
    """A turn that ends in calls waits for their results; whoever asks anything else has given them up."""

    CALLS = (Message.user("q"), Message.assistant(tool_calls=[FunctionCall("a", "look", "{}")]))

    def test_a_result_comes_after_them(self) -> None:
        histories, run = Histories(), Run()
        told(histories, "alice", turn(), list(self.CALLS))
        assert histories.take("alice", run, answers=True) == (*turn(), *self.CALLS)
        histories.give_back("alice", run, [Message.tool("found", tool_call_id="a"), Message.assistant("so")])
        assert [m.role for m in histories.of("alice")][2:] == ["user", "assistant", "tool", "assistant"]

    def test_without_one_their_turn_is_forgotten(self) -> None:
        histories, run = Histories(), Run()
        told(histories, "alice", turn(), list(self.CALLS))
        assert histories.take("alice", run) == tuple(turn())
        histories.give_back("alice", run, turn("2", "two"))
        assert histories.of("alice") == (*turn(), *turn("2", "two"))

    def test_with_all_that_led_to_them(self) -> None:
        histories = Histories()
        again = [*self.CALLS, Message.tool("found", tool_call_id="a"), self.CALLS[1]]
        told(histories, "alice", again)
        assert histories.take("alice", Run()) == ()

    def test_what_they_say_counts(self) -> None:
        histories = Histories(longest=1000)
        call = FunctionCall("a", "look", "x" * 1000)
        told(histories, "alice", turn(), [Message.user("q"), Message.assistant(tool_calls=[call])])
        assert histories.of("alice") == ()


class TestBounds:
    def test_unused_ones_are_forgotten(self) -> None:
        histories = Histories(ttl=0.02)
        told(histories, "alice", turn())
        eventually(lambda: histories.of("alice") == () and len(histories) == 0)

    def test_so_many_sessions(self) -> None:
        histories = Histories(sessions=10)
        for i in range(100):
            told(histories, f"user-{i}", turn())
        assert len(histories) == 10
        assert histories.of("user-99") == tuple(turn())
        assert histories.of("user-89") == ()

    def test_the_longest_unused_goes_first(self) -> None:
        histories = Histories(sessions=2)
        told(histories, "a", turn())
        told(histories, "b", turn())
        told(histories, "a", turn())
        told(histories, "c", turn())
        assert [bool(histories.of(name)) for name in "abc"] == [True, False, True]

    def test_so_much_text_in_all(self) -> None:
        histories = Histories(most=10_000)
        for i in range(20):
            told(histories, f"user-{i}", turn("q", "x" * 1000))
        kept = [i for i in range(20) if histories.of(f"user-{i}")]
        assert kept == list(range(20 - len(kept), 20))
        assert 6 <= len(kept) <= 10

    def test_one_at_whose_turn_a_run_is_stays(self) -> None:
        histories, run = Histories(sessions=1), Run()
        histories.take("alice", run)
        told(histories, "bob", turn())
        histories.give_back("alice", run, turn())
        assert histories.of("alice") == tuple(turn())

    def test_a_long_one_loses_whole_turns_from_its_start(self) -> None:
        histories = Histories(longest=5000)
        for i in range(20):
            told(histories, "alice", turn(f"question {i}", "x" * 500))
        kept = histories.of("alice")
        assert kept[0].role == "user"
        assert [m.content for m in kept if m.role == "user"] == [
            f"question {i}" for i in range(20 - len(kept) // 2, 20)
        ]
        assert 10 <= len(kept) <= 16

    def test_a_turn_that_is_too_long_alone(self) -> None:
        histories = Histories(longest=100)
        told(histories, "alice", turn("q", "x" * 500))
        assert histories.of("alice") == ()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\0b", "x" * 129])
def test_names_that_are_none(name: str) -> None:
    for look in (session_history, forget_session):
        with pytest.raises(SessionError):
            look(name)
