"""What a request to /v1/responses may say: all that the openai client knows is used, harmless, or refused by name."""

from __future__ import annotations

import inspect
import json
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.launchers.api.refusals import Refusal
from millrace.launchers.api.response_requests import HARMLESS, NEUTRAL, NUMBERS, OWN, ResponseRequest
from millrace.modules.local import Sampling
from tests.launchers.api.chat_bodies import ABLE

USER = {"role": "user", "content": "Hi"}


def parse(**body: Any) -> ResponseRequest:
    return ResponseRequest.parse({"input": "Hi", **body}, 600, ABLE)


def refused(**body: Any) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        parse(**body)
    assert refusal.value.status == 400
    return refusal.value


def names_of_the_client() -> list[str]:
    client = openai.OpenAI(api_key="none", base_url="http://localhost/v1")
    given = inspect.signature(client.responses.create).parameters
    return [name for name in given if not name.startswith("extra_") and name != "timeout"]


class TestTheClientsSignature:
    @pytest.mark.parametrize("name", names_of_the_client())
    def test_each_parameter_is_known(self, name: str) -> None:
        assert sum(name in kind for kind in (NUMBERS, HARMLESS, NEUTRAL, OWN)) == 1

    @pytest.mark.parametrize("name", sorted(set(names_of_the_client()) - HARMLESS))
    def test_what_would_change_the_answer_is_not_ignored(self, name: str) -> None:
        value: dict[str, Any] = {"prewarm": True, "format": {"type": "json_object"}}
        refusal = refused(**{name: value})
        assert refusal.code != "unknown_parameter"
        assert str(refusal.param).partition(".")[0] == name

    @pytest.mark.parametrize("name", sorted(HARMLESS))
    def test_the_harmless_is_accepted(self, name: str) -> None:
        assert parse(**{name: {"any": "thing"}}) == parse()

    @pytest.mark.parametrize("name", names_of_the_client())
    def test_null_is_the_same_as_leaving_out(self, name: str) -> None:
        if name != "input":
            assert parse(**{name: None}) == parse()

    @pytest.mark.parametrize("name", NEUTRAL)
    def test_asking_for_nothing_is_accepted(self, name: str) -> None:
        for value in NEUTRAL[name]:
            assert parse(**{name: value}).sampling == {}


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "value", "cure"),
        [
            ("background", True, "start it with POST /v1/runs and background: true"),
            ("previous_response_id", "resp_1", "send the earlier messages in input"),
            ("conversation", "conv_1", "send the earlier messages in input"),
            ("store", True, "leave it out"),
            ("truncation", "auto", "nothing is cut off"),
            ("include", ["message.output_text.logprobs"], "leave it out"),
            ("prompt", {"id": "p"}, "send its text"),
            ("tools", [{"type": "function"}], "leave it out"),
            ("tool_choice", "required", "leave it out"),
            ("reasoning", {"effort": "high"}, "leave it out"),
            ("top_logprobs", 2, "leave it out"),
        ],
    )
    def test_with_their_cure(self, name: str, value: Any, cure: str) -> None:
        refusal = refused(**{name: value})
        assert (refusal.param, refusal.code) == (name, "unsupported_parameter")
        assert refusal.message.startswith(f"{name} is not supported here; ")
        assert cure in refusal.message

    @pytest.mark.parametrize(
        ("name", "told"), [("max_tokens", "max_output_tokens"), ("messages", "input"), ("n", "leave it out")]
    )
    def test_parameters_of_other_endpoints(self, name: str, told: str) -> None:
        refusal = refused(**{name: 1})
        assert (refusal.param, refusal.code) == (name, "unknown_parameter")
        assert told in refusal.message

    @pytest.mark.parametrize(
        ("text", "param"),
        [
            ({"format": {"type": "json_schema", "name": "x", "schema": {}}}, "text.format"),
            ({"verbosity": "low"}, "text.verbosity"),
            ({"x": 1}, "text.x"),
            ("text", "text"),
        ],
    )
    def test_other_forms_of_text(self, text: Any, param: str) -> None:
        assert refused(text=text).param == param

    def test_text_as_it_is(self) -> None:
        for text in ({}, {"format": {"type": "text"}}, {"format": None, "verbosity": "medium"}):
            parse(text=text)

    def test_a_prompt_without_an_answer(self) -> None:
        assert refused(prompt_cache_options={"prewarm": True}).param == "prompt_cache_options.prewarm"
        parse(prompt_cache_options={"mode": "implicit", "prewarm": False})

    def test_metadata(self) -> None:
        for wrong in ("x", ["x"], {"a": 1}, {"a": "\ud800"}, {"\ud800": "a"}):
            assert str(refused(metadata=wrong).param).startswith("metadata")
        assert parse(metadata={"a": "b"}).echo == {"metadata": {"a": "b"}}

    def test_flags(self) -> None:
        assert refused(stream="yes").param == "stream"
        assert refused(parallel_tool_calls="yes").param == "parallel_tool_calls"
        assert refused(stream_options={"include_obfuscation": True}).message.endswith("needs stream: true")
        assert parse(stream=True, stream_options={"include_obfuscation": False}).stream
        refusal = refused(stream=True, stream_options={"include_usage": True})
        assert refusal.param == "stream_options.include_usage"


class TestInput:
    @pytest.mark.parametrize(
        ("given", "param", "told"),
        [
            (None, "input", "input is missing"),
            (5, "input", "text, or a list of messages"),
            ({"role": "user"}, "input", "text, or a list of messages"),
            ([], "input", "input is empty"),
            ("a\ud800", "input", "half a surrogate pair"),
            (["Hi"], "input[0]", "must be an object"),
            ([{"role": "robot", "content": "Hi"}], "input[0].role", "one of system, developer, user"),
            ([USER, {"role": "assistant", "content": "Hi"}], "input[1].role", "must be of role user"),
            ([{"type": "reasoning"}], "input", "input is empty"),
            (
                [{"role": "assistant", "content": "Hi"}, {"type": "reasoning"}],
                "input[0].role",
                "must be of role user",
            ),
            (
                [USER, {"type": "function_call_output", "call_id": "1", "output": "2"}],
                "input[1]",
                "is function_call_output, and only messages are supported",
            ),
            ([{"type": ["message"], "role": "user", "content": "Hi"}], "input[0]", "is something else"),
            (
                [{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}, USER],
                "input[0].tool_calls",
                "is not supported here",
            ),
            (
                [{"role": "tool", "content": "2", "tool_call_id": "1"}, USER],
                "input[0].tool_call_id",
                "is not supported here",
            ),
            ([USER, {"role": "tool", "content": "2"}], "input[1].role", "must be of role user, not tool"),
            (
                [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}],
                "input[0].content[0]",
                "is input_image, and only parts of type input_text or output_text",
            ),
            (
                [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
                "input[0].content[0]",
                "is text",
            ),
        ],
    )
    def test_faults_are_named(self, given: Any, param: str, told: str) -> None:
        refusal = refused(input=given)
        assert refusal.param == param
        assert told in refusal.message

    def test_text(self) -> None:
        (message,) = parse(input="over the wheel").messages
        assert (message.role, message.content) == ("user", "over the wheel")

    def test_an_earlier_answer_goes_back_as_it_came(self) -> None:
        answer = {
            "id": "msg_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "One.", "annotations": [], "logprobs": []}],
        }
        reasoning = {"id": "rs_1", "type": "reasoning", "summary": [], "content": []}
        turns = [{"role": "developer", "content": "Brief."}, USER, reasoning, answer]
        asked = [{"type": "input_text", "text": "T"}, {"type": "input_text", "text": "wo?"}]
        request = parse(
            input=[*turns, {"type": "message", "role": "user", "content": asked}], instructions="Mill."
        )
        assert [(message.role, message.content) for message in request.messages] == [
            ("system", "Mill."),
            ("system", "Brief."),
            ("user", "Hi"),
            ("assistant", "One."),
            ("user", "Two?"),
        ]

    def test_instructions_are_text(self) -> None:
        assert refused(instructions=5).param == "instructions"


def test_settings_go_to_the_model_and_are_repeated() -> None:
    request = parse(
        max_output_tokens=5, temperature=0.5, top_p=0.9, top_k=3, stop="x", logit_bias={"7": 1}, timeout=2
    )
    assert request.sampling == {
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "stop": ["x"],
        "logit_bias": {7: 1},
    }
    assert request.echo == {"max_output_tokens": 5, "temperature": 0.5, "top_p": 0.9}
    assert request.timeout == 2
    assert refused(max_output_tokens=0).param == "max_output_tokens"
    assert refused(timeout=601).param == "timeout"


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
NAMES = sorted({*NUMBERS, *NEUTRAL, *HARMLESS, *OWN})
ITEM = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "x"]), "content": JSON},
    optional={"type": st.sampled_from(["message", "reasoning", "function_call"]) | JSON},
)
BODIES = st.fixed_dictionaries(
    {"input": st.lists(ITEM, max_size=3) | JSON}, optional={name: JSON for name in NAMES if name != "input"}
)


@given(BODIES)
@settings(deadline=None, max_examples=50)
def test_any_json_is_parsed_or_refused(body: dict[str, Any]) -> None:
    try:
        request = ResponseRequest.parse(body, 600)
    except Refusal as error:
        refusal = error
    else:
        Sampling(**request.sampling)
        assert request.messages[-1].role == "user"
        assert json.dumps(request.echo)
        return
    assert refusal.status == 400
    assert json.loads(refusal.as_json())["error"]["message"]
