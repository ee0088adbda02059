from __future__ import annotations

import functools
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from millrace import Diverter, If, LocalModel, Loop, Module, Parallel, Pipeline, Switch, Warp, arg, bind, step
from millrace.flow.functions import as_step
from millrace.flow.policies.identities import identity_of, outer_references, same
from millrace.flow.policies.keys import Unkeyable


def identity(thing: Any) -> str:
    return identity_of(as_step(thing))


def made(source: str, name: str = "f", **names: Any) -> Any:
    """A function as the module `app` would have it."""
    names = {"__name__": "app", **names}
    exec(textwrap.dedent(source), names)
    return names[name]


def adder(n: Any) -> Callable[[int], Any]:
    def add(x: int) -> Any:
        return x + n

    return add


class Search(Module[str, str]):
    def __init__(self, top: int) -> None:
        super().__init__()
        self.top = top
        self._connection = threading.Lock()

    async def __call__(self, x: str) -> str:
        return x


@dataclass
class Greeter:
    greeting: str

    def __call__(self, x: str) -> str:
        return self.greeting + x

    def greet(self, x: str) -> str:
        return self.greeting + x


class Holder:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, x: Any) -> Any:
        return self.value


@functools.cache
def cached(x: int) -> int:
    return x


PATTERN = re.compile("a+")

EQUAL: list[Callable[[], Any]] = [
    lambda: made("def f(x): return x + 1"),
    lambda: adder(1),
    lambda: adder([1, {"a": (2, None)}]),
    lambda: adder(adder(1)),
    lambda: functools.partial(adder, 3),
    lambda: Search(3),
    lambda: Greeter("hi"),
    lambda: Greeter("hi").greet,
    lambda: Holder(PATTERN),
    lambda: str.upper,
    lambda: "-".join,
    lambda: int,
    lambda: cached,
    lambda: bind(adder, 3, k=arg[0]),
    lambda: Pipeline(str.upper, adder(1), Search(2)),
    lambda: Parallel(adder(1), adder(2), collect=sum, on_error="keep"),
    lambda: Parallel(a=adder(1), b=adder(2)),
    lambda: Diverter(adder(1), adder(2)),
    lambda: Warp(adder(1), concurrency=3),
    lambda: Switch({"a": str.upper, str.isdigit: int}, key=str.lower, default=len),
    lambda: If(str.isdigit, int),
    lambda: Loop(adder(1), count=3),
    lambda: Loop(adder(1), until=adder(2)),
    lambda: step(str.title, name="x", retry=3, timeout=2),
    lambda: LocalModel("org/name", system="Be brief."),
]


@pytest.mark.parametrize("make", EQUAL)
def test_what_is_made_twice_is_one(make: Callable[[], Any]) -> None:
    assert identity(make()) == identity(make())


def test_what_does_something_else_is_another() -> None:
    others = [
        *(make() for make in EQUAL),
        made("def f(x): return x + 2"),
        made("def g(x): return x + 1", "g"),
        made("def f(x): return x + 1", __name__="other"),
        made("def f(x, y=1): return x + 1"),
        made("def f(x, y=2): return x + 1"),
        made("def f(x, *, y=2): return x + 1"),
        made("async def f(x): return x + 1"),
        made("def f(x): return (lambda: x + 1)()"),
        made("def f(x): return (lambda: x + 2)()"),
        made("def f(x): return x in {'a', 'b'}"),
        made("def f(x): return x in {'a', 'c'}"),
        made("def f(x): return x.a"),
        made("def f(x): return x.b"),
        adder(2),
        adder(1.0),
        functools.partial(adder, 4),
        Search(4),
        Greeter("ho"),
        Greeter("ho").greet,
        Holder(re.compile("b+")),
        "+".join,
        str.lower,
        bind(adder, 4, k=arg[0]),
        bind(adder, 3, k=arg[1]),
        Pipeline(str.upper, adder(1), Search(4)),
        Pipeline(str.upper, adder(1)),
        Parallel(adder(1), adder(2), collect=sum),
        Parallel(adder(1), adder(2), collect=max, on_error="keep"),
        Parallel(a=adder(1), c=adder(2)),
        Loop(adder(1), count=4),
        Switch({"b": str.upper, str.isdigit: int}, key=str.lower, default=len),
        LocalModel("org/name", system="Be long."),
        LocalModel("org/other", system="Be brief."),
        LocalModel("org/name", system="Be brief.", dtype="float32"),
    ]
    found: dict[str, Any] = {}
    for other in others:
        assert found.setdefault(identity(other), other) is other


def test_policies_are_no_part_of_it() -> None:
    assert identity(step(str.upper, retry=3, timeout=2, concurrency=1)) == identity(str.upper)
    assert identity(step(str.upper, fallback=str.lower)) != identity(str.upper)


def test_where_it_stands_in_its_file_does_not_matter() -> None:
    assert identity(made("def f(x):\n  return x")) == identity(made("\n\n\ndef f(x):  # moved\n  return x"))


def test_it_is_the_same_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        textwrap.dedent(
            """
            from millrace import Module, Pipeline, Switch, bind
            from millrace.flow.policies.identities import identity_of
            class Search(Module):
                def __init__(self, top): super().__init__(); self.top = top
                async def __call__(self, x: str): return x if x in {"a", "b", "c"} else f"{x!r}"
            def f(x, y=frozenset("abc")): return [x for x in y if x not in {"q", "r", "s"}]
            flow = Pipeline(f, Search(3), Switch({"a": bind(f, {"m", "n"}), len: f}, default=str))
            print(identity_of(flow))
            """
        )
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", "import app"],
            cwd=tmp_path,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
    assert len(found.pop().strip()) == 64


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (adder(threading.Lock()), r"what .*add closes over: n is a _thread\.lock"),
        (Holder(threading.Lock()), r"\.value is a _thread\.lock"),
        (functools.partial(adder, iter([])), "list_iterator"),
        (bind(adder, object()), "is a object"),
        (made("def f(x, y=o): return x", o=object()), r"the defaults of f\[0\] is a object"),
    ],
)
def test_what_another_process_cannot_know_is_named(thing: Any, message: str) -> None:
    with pytest.raises(Unkeyable, match=message):
        identity(thing)


def test_what_refers_to_itself() -> None:
    def factory() -> Any:
        def down(n: int) -> int:
            return 0 if n == 0 else down(n - 1)

        return down

    assert identity(factory()) == identity(factory())
    holder = Holder(None)
    holder.value = holder
    assert identity(holder)


def test_in_one_process_a_step_is_what_it_is() -> None:
    greeter = Greeter("hi")
    assert same(as_step(str.upper)) == same(step(str.upper, retry=3))
    assert same(as_step(greeter.greet)) == same(as_step(greeter.greet))
    assert same(as_step(greeter)) != same(as_step(Greeter("hi")))
    assert same(as_step(adder(1))) != same(as_step(adder(1)))
    module = Search(1)
    assert same(as_step(module)) == same(step(module, timeout=3)) != same(as_step(Search(1)))


def test_references_into_flows_around_it() -> None:
    with Pipeline() as p:
        p.first = str.upper
        with Pipeline() as inner:
            inner.a = str.lower
            inner.b = bind(lambda *xs: xs, inner.a, p.first, p.input)
        p.second = inner
    assert [repr(reference) for reference in outer_references(inner)] == ["p.first", "p.input"]
    assert outer_references(p) == ()
