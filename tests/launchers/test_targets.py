"""`module:attribute` on the command line: what it finds, and what it says when it finds nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.launchers.targets import DEMO, load_target
from millrace.streaming import FlowBuildError, MillraceError, MissingExtra

MODULE = """
from millrace import Pipeline, step

def shout(text: str) -> str:
    return text.upper()

flow = Pipeline(shout, name="shouting")
other = step(shout)
branches = {"a": shout}
number = 3
nothing = None

class Holder:
    inner = flow

holder = Holder()
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory with `target_app.py`; what is imported from it is forgotten."""
    (tmp_path / "target_app.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("target_"):
            del sys.modules[name]


@pytest.mark.parametrize(
    "target", ["target_app:flow", "target_app:other", "target_app:shout", "target_app:holder.inner"]
)
def test_it_finds_steps_and_callables_also_behind_dots(target: str) -> None:
    assert load_target(target)("hi") == "HI"


def test_it_finds_the_demo_without_loading_torch() -> None:
    assert load_target(DEMO).name == "demo"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("target_app", "write module:attribute, such as target_app:flow"),
        ("target_app.py", "such as target_app:flow"),
        ("target_app:", "such as target_app:flow"),
        (":flow", "such as flow:flow"),
        ("./target_app.py:flow", "write target_app:flow"),
        ("target_ap:flow", "did you mean target_app:flow?"),
        ("zzz:flow", "run the command in the directory that holds zzz.py"),
        ("target_app:flo", "its flows are target_app:flow, target_app:other"),
        ("target_app:holder.outer", "target_app:holder has no 'outer'"),
        ("target_app:number", "is int 3 and no flow"),
        ("target_app:nothing", "is None and no flow"),
        ("target_app:Holder", "is a class and no flow; name an instance"),
        ("target_app:branches", "for named branches use Parallel(**branches)"),
    ],
)
def test_otherwise_the_message_names_the_cure(target: str, message: str) -> None:
    with pytest.raises(MillraceError, match=f"(?s){escape(message)}"):
        load_target(target)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\nraise ValueError('boom')", "cannot be imported: ValueError: boom (target_bad.py:2)"),
        ("import target_no_such_thing", "No module named 'target_no_such_thing' (target_bad.py:1)"),
        ("def f(:", "SyntaxError"),
        ("from millrace import Pipeline\nPipeline(3)", "(target_bad.py:2)"),
    ],
)
def test_a_module_that_raises_is_told_shortly(source: str, message: str, directory: Path) -> None:
    (directory / "target_bad.py").write_text(source, encoding="utf-8")
    with pytest.raises(MillraceError, match=escape(message)):
        load_target("target_bad:flow")


def test_a_missing_extra_is_told_as_such(directory: Path) -> None:
    source = "from millrace.streaming.errors import require\nrequire('no_such_package', 'local')"
    (directory / "target_extra.py").write_text(source, encoding="utf-8")
    with pytest.raises(MissingExtra, match=escape("pip install 'millrace[local]'")):
        load_target("target_extra:flow")


def test_a_module_without_flows_offers_its_functions(directory: Path) -> None:
    (directory / "target_plain.py").write_text("def answer(x): return x", encoding="utf-8")
    with pytest.raises(MillraceError, match="its functions are target_plain:answer"):
        load_target("target_plain:flow")
    (directory / "target_empty.py").write_text("", encoding="utf-8")
    with pytest.raises(MillraceError, match=escape("assign one: flow = Pipeline(...)")):
        load_target("target_empty:flow")


def test_a_wrong_flow_is_no_flow_build_error_of_its_own() -> None:
    with pytest.raises(MillraceError) as caught:
        load_target("target_app:branches")
    assert not isinstance(caught.value, FlowBuildError)


def escape(message: str) -> str:
    import re

    return re.escape(message)
