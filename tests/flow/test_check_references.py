"""References are checked: they lead to what is there, give what is taken, and do not leave their flow."""

from __future__ import annotations

import pytest

from millrace import Parallel, Pipeline, bind
from millrace.streaming import FlowBuildError
from tests.flow.annotated import both, count, shout, show, words


def test_a_reference_to_what_is_not_there() -> None:
    with pytest.raises(FlowBuildError) as raised, Pipeline(name="rag") as p:
        p.notes = Parallel(bm25=words, dense=shout)
        p.answer = bind(both, p.input, p.notes["bm52"])
    assert (
        str(raised.value)
        == "rag: answer refers to rag.notes['bm52'], and notes gives a dict with bm25, dense"
    )
    with (
        pytest.raises(FlowBuildError, match=r"p.pair\[2\], and pair gives Args\(str, int\)"),
        Pipeline() as q,
    ):
        q.pair = Parallel(shout, count)
        q.answer = bind(both, q.pair[2], "x")
    with pytest.raises(FlowBuildError, match=r"p.text.titel, and text gives str"), Pipeline() as r:
        r.text = show
        r.answer = bind(both, r.text.titel, "x")


def test_references_have_types() -> None:
    with pytest.raises(FlowBuildError) as raised, Pipeline(name="rag") as p:
        p.size = count
        p.notes = bind(Parallel(bm25=words, dense=shout), p.input)
        p.answer = bind(both, p.notes["bm25"], right=p.size)
    assert "rag.notes['bm25'] gives list[str], and answer takes str as left" in str(raised.value)
    assert "size gives int, and answer takes str as right" in str(raised.value)


def test_references_from_inner_flows_to_outer_ones() -> None:
    with (
        pytest.raises(FlowBuildError, match=r"in inner: size gives int, and b takes str as left"),
        Pipeline() as p,
    ):
        p.size = count
        with Pipeline() as p.inner:
            p.inner.a = show
            p.inner.b = bind(both, p.size, "x")


def test_a_reference_out_of_its_flow_is_found_by_check() -> None:
    with Pipeline() as one:
        one.a = count
        reference = one.a
        one.b = bind(show, reference)
    stray = Pipeline(bind(show, reference))
    assert one.check() is one
    with pytest.raises(
        FlowBuildError, match=r"show refers to p.a, which is not known there.*a step before it"
    ):
        stray.check()
