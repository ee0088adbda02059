"""Every flow written in a block: the same as by its constructor, and nothing halfway."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from millrace import Args, If, Loop, Parallel, Pipeline, Switch, Warp, arg, bind
from millrace.streaming import FlowBuildError, FlowCallError, StepStarted


def double(x: int) -> int:
    return 2 * x


async def increment(x: int) -> int:
    return x + 1


def both(*values: Any) -> list[Any]:
    return list(values)


def paths(flow: Any, x: Any) -> list[str]:
    return ["/".join(map(str, e.path)) for e in flow.stream(x) if isinstance(e, StepStarted)]


def test_a_warp() -> None:
    with Warp(concurrency=2) as w:
        w.double = double
        w.both = bind(both, w.input, w.double)
    assert w([1, 2]) == [[1, 2], [2, 4]]
    assert w([]) == []
    assert w.double(4) == 8
    assert sorted(paths(w, [5])) == ["Pipeline/0", "Pipeline/0/both", "Pipeline/0/double"]


def test_a_loop() -> None:
    with Loop(count=3) as turn:
        turn.more = increment
        turn.sum = bind(lambda *values: sum(values), turn.input, turn.more)
    assert turn(1) == 15  # 1+2, 3+4, 7+8
    assert asyncio.run(turn.acall(1)) == 15

    with Loop(until=lambda x: x > 50) as turn:
        turn.double = double
    assert turn(1) == 64


def test_a_switch() -> None:
    with Switch(key=lambda x: x % 3) as s:
        s[0] = double
        with Pipeline() as s[1]:
            s[1].more = increment
            s[1].both = bind(both, s[1].input, s[1].more)
        s[lambda k: k == 2] = increment
    assert [s(3), s(4), s(5)] == [6, [4, 5], 6]
    assert paths(s, 4) == ["1", "1/more", "1/both"]

    with Switch() as s:
        s["a"] = lambda x: 1
        s.default = lambda x: 0
    assert [s("a"), s("b")] == [1, 0]
    assert s.default("x") == 0
    assert s["a"]("x") == 1


def test_an_if() -> None:
    with If(lambda x: x > 2) as branch:
        branch.then = double
    assert [branch(1), branch(3)] == [1, 6]
    with If(lambda x: x > 2) as branch:
        branch.otherwise = increment
        with Pipeline() as branch.then:
            branch.then.a = double
            branch.then.b = double
    assert [branch(1), branch(3)] == [2, 12]
    assert branch(Args(3)[0]) == 12


def test_in_each_other() -> None:
    with Pipeline() as p:
        p.numbers = lambda n: list(range(n))
        with Warp() as p.warp:
            with Parallel() as p.warp.branches:
                p.warp.branches.more = increment
                with Loop(count=2) as p.warp.branches.twice:
                    p.warp.branches.twice.double = bind(lambda x, n: x * n, arg[0], p.input)
            p.warp.choice = Switch({0: both}, key=lambda d: d["twice"], default=lambda d: d["more"])
        p.sum = sum_all
    assert p(3) == [{"more": 1, "twice": 0}, 2, 3]


def sum_all(values: list[Any]) -> list[Any]:
    return [value[0] if isinstance(value, list) else value for value in values]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: Loop(), "give count=, until= or both"),
        (lambda: Loop(double, count=2).__enter__(), "has steps already"),
        (lambda: Warp(double).__enter__(), "has steps already"),
        (lambda: Switch({1: double}).__enter__(), "has steps already"),
        (lambda: If(bool, double).__enter__(), "has steps already"),
        (lambda: If(bool, otherwise=double), "give then= as well"),
        (lambda: set_twice(Switch()), "is there already"),
        (lambda: set_default_twice(Switch()), "default of this Switch is there already"),
        (lambda: set_name(Switch()), r"switch\['faq'\]"),
        (lambda: set_name(If(bool)), "two branches, `then` and `otherwise`"),
        (lambda: leave_empty(If(bool)), "has no `then`"),
        (lambda: Switch({1: double}).__exit__.__self__.__setattr__("x", 1), "cannot be changed"),
    ],
)
def test_wrong_writing_is_refused(write: Any, message: str) -> None:
    with pytest.raises(FlowBuildError, match=message):
        write()


def set_twice(flow: Any) -> None:
    with flow as s:
        s["faq"] = double
        s["faq"] = double


def set_default_twice(flow: Any) -> None:
    with flow as s:
        s.default = double
        s.default = double


def set_name(flow: Any) -> None:
    with flow as s:
        s.faq = double


def leave_empty(flow: Any) -> None:
    with flow:
        pass


def test_after_the_block_nothing_changes() -> None:
    with Switch() as s:
        s[1] = double
    with pytest.raises(FlowBuildError, match="cannot be changed"):
        s[2] = double
    with pytest.raises(FlowBuildError, match="cannot be changed"):
        s.default = double
    with pytest.raises(FlowBuildError, match="no case 3"):
        s[3]
    with pytest.raises(FlowCallError, match="no case of the Switch fits 2"):
        s(2)


def test_a_block_that_raises_builds_nothing() -> None:
    with pytest.raises(LookupError), Loop(count=1) as turn:
        turn.a = double
        raise LookupError
    with pytest.raises(FlowBuildError, match="cannot be called inside of the block"):
        turn(1)


def test_a_switch_that_was_never_written() -> None:
    with pytest.raises(FlowCallError, match="this Switch has no case yet"):
        Switch()(1)
    with pytest.raises(FlowCallError, match="this If has no case yet"):
        If(bool)(1)


def test_a_flow_that_is_being_written_is_no_step_of_another_one() -> None:
    uses: list[Any] = [lambda p: p | double, lambda p: double | p, Pipeline, Warp, lambda p: bind(p, 1)]
    for use in uses:
        with pytest.raises(FlowBuildError, match=r"is being written; .* after its block"), Pipeline() as p:
            p.a = double
            use(p)


def test_no_flow_contains_itself() -> None:
    with (
        pytest.raises(FlowBuildError, match=r"contains <Pipeline.*, whose block has not come to its end"),
        Pipeline() as p,
    ):
        p.a = p
    with pytest.raises(FlowBuildError, match="contains"), Pipeline() as outer, Pipeline() as outer.inner:
        outer.inner.a = outer
    with pytest.raises(FlowBuildError, match="contains"), Switch() as switch:
        switch[1] = switch


def test_a_block_inside_that_raised() -> None:
    with pytest.raises(FlowBuildError, match=r"contains <Loop.*, whose block has not"), Pipeline() as p:
        try:
            with Loop(count=1) as p.turn:
                raise LookupError
        except LookupError:
            pass


def test_a_case_that_cannot_be_hashed() -> None:
    with pytest.raises(FlowBuildError, match=r"\[1\] is no case"), Switch() as s:
        s[[1]] = double


def test_a_flow_looks_the_same_whichever_way_it_was_written() -> None:
    with Pipeline(name="p") as p:
        p.a = double
        with Parallel() as p.both:
            p.both.more = increment
    assert repr(p) == "<Pipeline p(double, Parallel)>"
    with pytest.raises(FlowBuildError, match="with Pipeline"):
        p.b = double
    with pytest.raises(FlowBuildError, match="branches of <Parallel"), Parallel() as parallel:
        parallel.a = double
        parallel.b = bind(both, parallel.a)
