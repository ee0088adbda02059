from __future__ import annotations

from textwrap import dedent
from typing import Any

from millrace import If, Loop, Parallel, Pipeline, Step, Warp, step
from millrace.flow.drawing.diagrams import cells
from tests.flow.drawing.examples import clean, dotted, is_short, rag, research, shout


def drawn(flow: Step[Any, Any], width: int = 100) -> str:
    return "\n" + flow.draw("text", width=width)


def test_a_pipeline() -> None:
    assert drawn(Pipeline(clean, str)) == dedent("""
          input
            ▼
        ┌───────┐
        │ clean │
        └───┬───┘
            ▼
         ┌─────┐
         │ str │
         └──┬──┘
            ▼
         output
        """)


def test_a_rag_flow() -> None:
    assert drawn(rag()) == dedent("""
        rag

                            input
                              ▼
                          ┌───────┐
                          │ clean │
                          └───┬───┘
                              │
        ╭╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌│╌ notes ╌╌╌╌╌╌╌╌╌╌╌╌╮
        ╎           ┌─────────┴─────────┐          ╎
        ╎           ▼                   ▼          ╎
        ╎  ┌─────────────────┐  ┌───────────────┐  ╎
        ╎  │      bm25       │  │     dense     │  ╎
        ╎  │ keyword_search  │  │ vector_search │  ╎
        ╎  └────────┬────────┘  └───────┬───────┘  ╎
        ╎           └─────────┬─────────┘          ╎
        ╰╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌│╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╯
                              ▼
                 ┌─────────────────────────┐
                 │         prompt          │
                 │       make_prompt       │
                 │   question=rag.input    │
                 │ notes=rag.notes['bm25'] │
                 └────────────┬────────────┘
                              ▼
                       ┌─────────────┐
                       │     llm     │
                       │ LocalModel  │
                       └──────┬──────┘
                              ▼
                           output
        """)


def test_a_loop_and_what_comes_live() -> None:
    assert drawn(Loop(Pipeline(shout, dotted), count=3, until=is_short)) == dedent("""
              input
                │
        ╭╌╌╌╌╌╌╌│╌ loop · at most 3× · until is_short ╮
        ╎       │◀─────┐                              ╎
        ╎       ▼      │                              ╎
        ╎   ┌───────┐  │                              ╎
        ╎   │ shout │  │                              ╎
        ╎   └───┬───┘  │                              ╎
        ╎       ⇓      │                              ╎
        ╎  ┌─────────┐ │                              ╎
        ╎  │ dotted  │ │                              ╎
        ╎  └────┬────┘ │                              ╎
        ╎       ├──────┘                              ╎
        ╰╌╌╌╌╌╌╌│╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╯
                ▼
             output

        ⇓ piece by piece, as it comes
        """)


def test_branches_and_what_is_collected() -> None:
    assert drawn(Parallel(If(is_short, clean), step(shout, retry=3), collect="\n".join)) == dedent("""
                        input
                 ┌────────┴────────┐
                 ▼                 ▼
           ┌───────────┐      ┌─────────┐
           │ is_short? │      │  shout  │
           └─────┬─────┘      │ retry 3 │
            ┌────┴─────┐      └────┬────┘
           yes        no           │
            ▼          ▼           │
        ┌───────┐  as it is        │
        │ clean │      │           │
        └───┬───┘      │           │
            └────┬─────┘           │
                 └────────┬────────┘
                    collect join
                          ▼
                       output
        """)


def test_a_graph() -> None:
    text = drawn(research())
    assert text.count("┌") > 5
    assert "│ search  │" in text
    crossing = drawn(Pipeline(research(), name="p"))
    assert "p\n" in crossing


def test_what_is_too_wide_stands_in_rows() -> None:
    flow = Parallel(*[step(clean, name=f"branch_{i}") for i in range(8)])
    for width in (40, 60, 100):
        lines = drawn(flow, width).splitlines()
        assert max(map(cells, lines)) <= width
        assert sum(line.count("branch_") for line in lines) == 8
    one_row = drawn(flow, 200).splitlines()
    assert max(line.count("branch_") for line in one_row) == 8


def test_wide_characters_take_two_columns() -> None:
    flow = Pipeline(step(clean, name="検索する"), step(clean, name="e\N{COMBINING ACUTE ACCENT}tape"))
    lines = drawn(flow).splitlines()
    top = next(line for line in lines if "┌" in line)
    assert cells(top.rstrip()) == cells(next(line for line in lines if "検索する" in line).rstrip())


def test_names_of_several_lines_and_of_control_characters() -> None:
    flow = Pipeline(step(clean, name="a\nb\tc"), step(clean, name="bell\x07"), step(clean, name="x" * 200))
    text = drawn(flow)
    assert "│ a b c │" in text
    assert "bell\N{REPLACEMENT CHARACTER}" in text
    assert max(map(cells, text.splitlines())) <= 45


def test_a_warp_has_a_frame() -> None:
    assert "warp · each item · 2 at once" in drawn(Warp(clean, concurrency=2))
