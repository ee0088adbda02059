"""Reasoning and tool calls on their way through a real engine: a model that says what the test has written."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from millrace import LocalModel, Message, Pipeline
from millrace.flow.calls import start_body
from millrace.modules.local import Request, Sampling
from millrace.streaming import (
    Logprobs,
    Options,
    ReasoningDelta,
    RequestRefused,
    Run,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    forget_session,
    session_history,
    start,
)
from tests.support.gated import tiny_engine
from tests.support.saying import TEMPLATE, saying

pytestmark = pytest.mark.anyio
GREEDY = Sampling(temperature=0.0, max_tokens=200)
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize("special", [False, True])
async def test_reasoning_and_calls_are_told_apart(special: bool) -> None:
    answer = '<think>the mill</think>bread <tool_call>{"name": "look", "arguments": {"at": 1}}</tool_call>'
    engine = saying(answer, special=special)
    await engine.ready()
    done = await engine.submit(
        Request(messages=[Message.user("corn")], sampling=GREEDY, tools=[LOOK])
    ).result()
    assert (done.text, done.reasoning, done.finish_reason) == ("bread ", "the mill", "tool_calls")
    assert [(call.name, json.loads(call.arguments)) for call in done.tool_calls] == [("look", {"at": 1})]
    engine.close()


async def test_they_are_events_of_a_flow() -> None:
    answer = '<think>the mill</think>bread <tool_call>{"name": "look", "arguments": {}}</tool_call>'
    model = LocalModel(saying(answer), sampling=GREEDY, tools=[LOOK])
    events = [event async for event in Pipeline(model).stream("corn")]
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "the mill"
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "bread "
    (delta,) = [event for event in events if isinstance(event, ToolCallDelta)]
    (call,) = [event for event in events if isinstance(event, ToolCall)]
    assert (delta.index, delta.id, call.name, call.arguments) == (0, call.id, "look", "{}")
    assert (events[-1].status, events[-1].reason, events[-1].result) == ("done", "tool_calls", "bread ")
    await model.engine.aclose()


async def test_a_step_on_the_way_says_so() -> None:
    answer = '<think>the mill</think>bread <tool_call>{"name": "look", "arguments": {}}</tool_call>'
    model = LocalModel(saying(answer), sampling=GREEDY.replace(logprobs=0), tools=[LOOK])
    kinds = (ReasoningDelta, Logprobs, ToolCallDelta, ToolCall)
    for flow, output in ((Pipeline(model, str.strip), False), (Pipeline(str.strip, model), True)):
        events = [event async for event in flow.stream("corn") if isinstance(event, kinds)]
        assert {type(event) for event in events} == set(kinds)
        assert {event.output for event in events} == {output}
    await model.engine.aclose()


async def test_log_probabilities_are_told_of_all_but_the_end() -> None:
    model = LocalModel(saying("the mill"), sampling=GREEDY.replace(logprobs=1))
    events = [event async for event in model.stream("corn")]
    told = [token for event in events if isinstance(event, Logprobs) for token in event.tokens]
    assert bytes(byte for token in told for byte in token["bytes"]) == b"the mill"
    assert [token["token"] for token in told] == [token["top_logprobs"][0]["token"] for token in told]
    assert set(told[0]) == {"token", "bytes", "logprob", "top_logprobs"}
    assert set(told[0]["top_logprobs"][0]) == {"token", "bytes", "logprob"}
    assert all(-1.0 < token["logprob"] <= 0.0 for token in told)
    assert events[-1].usage.completion_tokens == len(told) + 1  # type: ignore[attr-defined]
    await model.engine.aclose()


# ---------------------------------------------------------------- tools of one run


CALLING = '<tool_call>{"name": "look", "arguments": {"at": 1}}</tool_call>'


async def run(model: Any, x: Any, **options: Any) -> Run:
    """A run as a service makes it."""
    made = start(partial(start_body, model, x), Options(**options))
    await made.wait()
    return made


async def test_a_run_may_bring_its_tools() -> None:
    model = LocalModel(saying(CALLING), sampling=GREEDY)
    assert (await run(model, "corn")).value == CALLING, "they are text to a model without tools"
    brought = await run(model, "corn", tools=[LOOK])
    assert (brought.value, brought.reason) == ("", "tool_calls")
    assert [(call.name, call.arguments) for call in brought.calls] == [("look", '{"at": 1}')]
    flow = Pipeline(model, str.upper)
    assert (await run(flow, "corn", tools=[LOOK])).value == CALLING.upper(), "it does not give the answer"
    await model.engine.aclose()


async def test_a_run_may_leave_out_the_models_tools() -> None:
    model = LocalModel(saying(CALLING), sampling=GREEDY, tools=[LOOK])
    assert (await run(model, "corn")).reason == "tool_calls"
    assert (await run(model, "corn", tools=[])).value == CALLING
    assert (await run(model, "corn", tool_choice="none")).value == CALLING
    assert (await run(model, "corn", tools=[LOOK], tool_choice="none")).value == CALLING
    assert (await run(model, "corn", tool_choice="auto")).reason == "tool_calls"
    await model.engine.aclose()


async def test_a_run_may_demand_a_call() -> None:
    model = LocalModel(saying("bread and corn"), sampling=GREEDY)
    rest = {"name": "rest", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}
    tools = [{"type": "function", "function": rest}]
    demanded = await run(model, "corn", tools=tools, tool_choice="required")
    assert (demanded.reason, [call.name for call in demanded.calls]) == ("tool_calls", ["rest"])
    await model.engine.aclose()


@pytest.mark.parametrize(
    ("options", "setting", "by_run"),
    [
        ({"sampling": {"json_schema": {"type": "nonsense"}}}, "json_schema", True),
        ({"sampling": {"logit_bias": {99_999: 1}}}, "logit_bias", True),
        ({"tools": [LOOK]}, "tools", True),
        ({}, "tools", False),
    ],
)
async def test_a_refusal_knows_whose_fault_it_is(options: Any, setting: str, by_run: bool) -> None:
    own = [] if options else [LOOK]
    model = LocalModel(saying("bread", template="{{ messages[0]['content'] }}"), sampling=GREEDY, tools=own)
    refused = (await run(model, "corn", **options)).error
    assert isinstance(refused, RequestRefused)
    assert isinstance(refused, ValueError)
    assert (refused.setting, refused.by_run) == (setting, by_run)
    on_the_way = (await run(Pipeline(model.replace(tools=[LOOK]), str.strip), "corn", **options)).error
    assert isinstance(on_the_way, RequestRefused)
    assert not on_the_way.by_run
    await model.engine.aclose()


async def test_tools_that_are_none_are_told() -> None:
    model = LocalModel(saying("bread"), sampling=GREEDY)
    assert isinstance((await run(model, "corn", tools=[{"name": "look"}])).error, TypeError)
    await model.engine.aclose()


# ---------------------------------------------------------------- conversations with calls


ROLES = (
    "{% for m in messages %}{{ m['role'] }}{% for c in m.tool_calls or [] %} {{ c.function.name }}"
    "({{ c.function.arguments['at'] }}){% endfor %}={{ m['content'] }};{% endfor %}{# tools <tool_call> #}"
)


async def test_a_session_goes_on_with_the_result_of_a_call() -> None:
    engine = saying(CALLING, "bread", "so it is", template=ROLES)
    model = LocalModel(engine, sampling=GREEDY, tools=[LOOK], system="Be brief.")
    seen: list[list[str]] = []
    submit = engine.submit

    def spy(request: Any) -> Any:
        seen.append([message.role for message in request.messages])
        return submit(request)

    engine.submit = spy  # type: ignore[method-assign]
    try:
        async with model.stream("corn", session="tools") as stream:
            (call,) = [event async for event in stream if isinstance(event, ToolCall)]
        result = Message.tool("found", tool_call_id=call.id)
        assert await model.acall(result, session="tools") == "bread"
        assert await model.acall("Thanks", session="tools") == "so it is"
        turns = session_history("tools")
    finally:
        forget_session("tools")
        engine.close()
    assert seen[1] == ["system", "user", "assistant", "tool"]
    assert seen[2] == [*seen[1], "assistant", "user"]
    assert [turn.role for turn in turns] == ["user", "assistant", "tool", "assistant", "user", "assistant"]
    assert (turns[1].tool_calls[0].id, turns[2]) == (call.id, result)


async def test_calls_that_nobody_answered_are_forgotten() -> None:
    engine = saying(CALLING, "bread")
    model = LocalModel(engine, sampling=GREEDY, tools=[LOOK])
    try:
        assert await model.acall("corn", session="tools") == ""
        assert len(session_history("tools")) == 2
        assert await model.acall("never mind", session="tools") == "bread"
        assert [turn.content for turn in session_history("tools")] == ["never mind", "bread"]
    finally:
        forget_session("tools")
        engine.close()


async def test_a_message_is_asked_as_a_text_is() -> None:
    model = LocalModel(tiny_engine(), sampling=Sampling(temperature=0.0, max_tokens=8), system="Be brief.")
    history = [Message.user("a"), Message.assistant("b")]
    text = await model.acall("the mill", history=history)
    assert await model.acall(Message.user("the mill"), history=history) == text
    assert await Pipeline(Message.user, model).acall("the mill", history=history) == text
    assert await model.acall(Message.tool("the mill"), history=history) != text
    await model.engine.aclose()


async def test_without_tools_their_tags_are_text() -> None:
    engine = saying("<tool_call>no</tool_call>")
    await engine.ready()
    done = await engine.submit(Request(messages=[Message.user("corn")], sampling=GREEDY)).result()
    assert (done.text, done.finish_reason) == ("<tool_call>no</tool_call>", "stop")
    engine.close()


async def test_a_raw_prompt_has_no_parts() -> None:
    engine = saying("<think>the mill</think>bread")
    await engine.ready()
    done = await engine.submit(Request(prompt="corn", sampling=GREEDY)).result()
    assert done.text == "<think>the mill</think>bread"
    engine.close()


async def test_a_template_may_open_the_reasoning() -> None:
    engine = saying("the mill</think>bread", template=TEMPLATE + "<think>\n")
    await engine.ready()
    done = await engine.submit(Request(messages=[Message.user("corn")], sampling=GREEDY)).result()
    assert (done.text, done.reasoning) == ("bread", "the mill")
    engine.close()


async def test_an_answer_that_ends_in_the_middle() -> None:
    engine = saying("<think>the mill</think>bread")
    await engine.ready()
    done = await engine.submit(
        Request(messages=[Message.user("corn")], sampling=GREEDY.replace(max_tokens=2))
    ).result()
    assert (done.text, done.finish_reason) == ("", "length")
    assert "the mill".startswith(done.reasoning)
    assert done.reasoning
    engine.close()


async def test_tools_that_the_template_does_not_know_are_refused() -> None:
    engine = saying("bread", template="{{ messages[0]['content'] }}")
    with pytest.raises(RequestRefused, match="knows no tools"):
        await engine.submit(Request(messages=[Message.user("corn")], tools=[LOOK])).result()
    engine.close()
    with pytest.raises(ValueError, match="tools go with messages"):
        Request(prompt="corn", tools=[LOOK])


async def test_nothing_but_a_call_is_the_empty_text() -> None:
    model = LocalModel(
        saying('<tool_call>{"name": "look", "arguments": {}}</tool_call>'), sampling=GREEDY, tools=[LOOK]
    )
    assert await Pipeline(model).acall("corn") == ""
    await model.engine.aclose()
