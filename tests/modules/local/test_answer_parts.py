"""Reasoning and tool calls are told apart the same way, wherever their tags are cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.modules.local.answer_parts import AnswerSplitter, Tags, parse_calls, tags_of
from millrace.streaming import ToolCall

THINK, CALL = Tags("<think>", "</think>"), Tags("<tool_call>", "</tool_call>")


def split(pieces: list[str], **options: object) -> tuple[str, str, list[tuple[str, str]]]:
    splitter = AnswerSplitter(**options)  # type: ignore[arg-type]
    found = [*(splitter.push(piece) for piece in pieces), splitter.flush()]
    calls = [call for parts in found for call in parts.tool_calls if isinstance(call, ToolCall)]
    return (
        "".join(parts.text for parts in found),
        "".join(parts.reasoning for parts in found),
        [(call.name, call.arguments) for call in calls],
    )


@pytest.mark.parametrize(
    ("answer", "text", "reasoning"),
    [
        ("<think>\nHm.\n</think>\n\nYes.", "Yes.", "Hm."),
        ("  <think>a < b </thin </think>Yes </think>", "Yes </think>", "a < b </thin"),
        ("<think></think>Yes", "Yes", ""),
        ("<think>\n\n</think>\n\nYes\n", "Yes\n", ""),
        ("Yes <think>no</think>", "Yes <think>no</think>", ""),
        ("<thin", "<thin", ""),
        ("<think>Hm", "", "Hm"),
        ("<think>Hm </thi", "", "Hm </thi"),
        ("  Yes", "  Yes", ""),
        ("", "", ""),
        ("<think>日本🦊</think>はい", "はい", "日本🦊"),
    ],
)
def test_reasoning_wherever_it_is_cut(answer: str, text: str, reasoning: str) -> None:
    assert split([answer], reasoning=THINK) == (text, reasoning, [])
    assert split(list(answer), reasoning=THINK) == (text, reasoning, [])
    for cut in range(len(answer)):
        assert split([answer[:cut], answer[cut:]], reasoning=THINK) == (text, reasoning, [])


def test_a_prompt_may_have_opened_it() -> None:
    for pieces in (["\nHm.\n</think>\n\nYes."], list("\nHm.\n</think>\n\nYes.")):
        assert split(pieces, reasoning=THINK, opened=True) == ("Yes.", "Hm.", [])


@pytest.mark.parametrize(
    ("answer", "text", "calls"),
    [
        (
            'Let me see. <tool_call>\n{"name": "look", "arguments": {"at": "</x>"}}\n</tool_call>',
            "Let me see. ",
            [("look", {"at": "</x>"})],
        ),
        (
            '<tool_call>{"name": "a", "arguments": {}}</tool_call>\n<tool_call>{"name": "b", "parameters": {"x": 1}}'
            "</tool_call>",
            "",
            [("a", {}), ("b", {"x": 1})],
        ),
        ("<tool_call>no call</tool_call> at all", "<tool_call>no call</tool_call> at all", []),
        (
            '<tool_call>{"name": "a", "arguments": {}}</tool_call>\n<tool_call>no call</tool_call>\n at all',
            "<tool_call>no call</tool_call>\n at all",
            [("a", {})],
        ),
        ("1 < 2 <tool", "1 < 2 <tool", []),
        ('<tool_call>{"name": "a"', '<tool_call>{"name": "a"', []),
        ('<tool_call>[{"name": "a", "arguments": "{}"}]</tool_call>', "", [("a", {})]),
        (
            "<tool_call>\n<function=add>\n<parameter=x>\n1\n</parameter>\n<parameter=note>\na b\n</parameter>\n"
            "</function>\n</tool_call>",
            "",
            [("add", {"x": 1, "note": "a b"})],
        ),
    ],
)
def test_calls_wherever_they_are_cut(answer: str, text: str, calls: list[tuple[str, object]]) -> None:
    for cut in range(len(answer) + 1):
        said, _, found = split([answer[:cut], answer[cut:]], reasoning=THINK, calls=CALL)
        assert (said, [(name, json.loads(arguments)) for name, arguments in found]) == (text, calls)
    said, _, found = split(list(answer), calls=CALL)
    assert (said, len(found)) == (text, len(calls))


def test_a_call_to_the_end() -> None:
    pieces = list('[TOOL_CALLS][{"name": "a", "arguments": {"x": 1}}, {"name": "b", "arguments": {}}]')
    text, _, calls = split(pieces, calls=Tags("[TOOL_CALLS]", None))
    assert (text, calls) == ("", [("a", '{"x": 1}'), ("b", "{}")])


def test_nothing_of_a_call_leaks() -> None:
    splitter = AnswerSplitter(calls=CALL)
    for piece in 'ok <tool_call>{"name": "a"':
        assert "<" not in splitter.push(piece).text


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<tool_call>", "</tool_call>", "a", " ", "<", "{}", "\n"])
    )
)
def test_cuts_change_nothing(words: list[str]) -> None:
    answer = "".join(words)
    whole = split([answer], reasoning=THINK, calls=CALL)
    assert split(list(answer), reasoning=THINK, calls=CALL) == whole
    assert split(words, reasoning=THINK, calls=CALL) == whole


@pytest.mark.parametrize(
    "inside",
    ["", "1", "[1]", "[" * 200_000, '{"name": 1}', "{", '{"arguments": {}}', '{"name":"a","arguments":"{"}'],
)
def test_what_is_no_call_is_refused(inside: str) -> None:
    with pytest.raises(ValueError):
        parse_calls(inside)


def test_what_is_never_closed_costs_no_time() -> None:
    assert parse_calls("<function=look>" + "<parameter=at>" * 100_000) == [("look", "{}")]
    assert parse_calls("<function=look>" + " " * 100_000 + "x") == [("look", "{}")]


def test_templates_tell_their_tags() -> None:
    assert tags_of("{{ '<think>' }} <tool_call>") == (THINK, CALL)
    assert tags_of("plain") == (None, None)
