"""What a request may say: each fault is named, with its cure, and nothing is ignored in silence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.launchers.api.chat_requests import HARMLESS, NEUTRAL, NUMBERS, ChatRequest
from millrace.launchers.api.refusals import Refusal
from millrace.modules.local import Sampling
from tests.launchers.support import Running, echo, question, running

USER = {"role": "user", "content": "Hi"}


def refused(**body: Any) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        ChatRequest.parse(body, 600)
    assert refusal.value.status == 400
    return refusal.value


MESSAGES = [
    (None, "messages", "messages is missing"),
    ([], "messages", "empty"),
    ("Hi", "messages", "must be a list"),
    ({"role": "user"}, "messages", "must be a list"),
    (["Hi"], "messages[0]", "must be an object"),
    ([{"content": "Hi"}], "messages[0].role", "one of system, developer, user"),
    ([{"role": "robot", "content": "Hi"}], "messages[0].role", "one of system, developer, user"),
    ([{"role": ["user"], "content": "Hi"}], "messages[0].role", "one of"),
    ([{"role": "user"}], "messages[0].content", "must be text"),
    ([USER, {"role": "user", "content": 5}], "messages[1].content", "must be text"),
    ([USER, {"role": "assistant", "content": "Hi"}], "messages[1].role", "last message must be of role user"),
    ([{"role": "system", "content": "Hi"}], "messages[0].role", "last message must be of role user"),
    ([{"role": "user", "content": "a\ud800"}], "messages[0].content", "half a surrogate pair at character 1"),
    ([{"role": "user", "content": ["Hi"]}], "messages[0].content[0]", "only parts of type text"),
    (
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}],
            }
        ],
        "messages[0].content[1]",
        "is image_url, and only parts of type text",
    ),
    ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text", "must be text"),
    (
        [{"role": "assistant", "content": None, "tool_calls": [{}]}, USER],
        "messages[0].tool_calls",
        "not supported",
    ),
]


class TestMessages:
    @pytest.mark.parametrize(("messages", "param", "told"), MESSAGES)
    def test_faults_are_named(self, messages: Any, param: str, told: str) -> None:
        refusal = refused(messages=messages)
        assert refusal.param == param
        assert told in refusal.message

    def test_roles(self) -> None:
        roles = ["system", "developer", "assistant", "tool", "user"]
        request = ChatRequest.parse(
            {"messages": [{"role": role, "content": role, "name": "n"} for role in roles]}, 600
        )
        assert [message.role for message in request.messages] == [
            "system",
            "system",
            "assistant",
            "tool",
            "user",
        ]


class TestParameters:
    @pytest.mark.parametrize("name", NUMBERS)
    @pytest.mark.parametrize("value", ["1", True, [], {}, 1e30, -1e30, 10**400])
    def test_numbers_out_of_range(self, name: str, value: Any) -> None:
        refusal = refused(messages=[USER], **{name: value})
        assert refusal.param == name
        assert "number from" in refusal.message

    @pytest.mark.parametrize("name", NUMBERS)
    def test_what_is_accepted_is_accepted_by_the_engine(self, name: str) -> None:
        number = NUMBERS[name]
        for value in (number.low, number.high):
            value = int(value) if number.whole else value
            sampling = ChatRequest.parse({"messages": [USER], name: value}, 600).sampling
            assert list(sampling.values()) == [value]
            Sampling(**sampling)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("n", 2),
            ("n", True),
            ("tools", [{"type": "function"}]),
            ("tool_choice", "required"),
            ("functions", [{}]),
            ("response_format", {"type": "json_object"}),
            ("logprobs", True),
            ("top_logprobs", 3),
            ("modalities", ["text", "audio"]),
            ("audio", {"voice": "x"}),
            ("prediction", {}),
            ("store", True),
            ("reasoning_effort", "high"),
            ("web_search_options", {}),
        ],
    )
    def test_what_is_not_supported_is_refused_by_name(self, name: str, value: Any) -> None:
        refusal = refused(messages=[USER], **{name: value})
        assert (refusal.param, refusal.code) == (name, "unsupported_parameter")
        assert refusal.message == f"{name} is not supported here; leave it out"

    @pytest.mark.parametrize("name", NEUTRAL)
    def test_asking_for_nothing_is_accepted(self, name: str) -> None:
        for value in (None, *NEUTRAL[name]):
            assert ChatRequest.parse({"messages": [USER], name: value}, 600).sampling == {}

    @pytest.mark.parametrize("name", sorted(HARMLESS))
    def test_the_harmless_is_accepted(self, name: str) -> None:
        assert ChatRequest.parse({"messages": [USER], name: {"any": "thing"}}, 600).sampling == {}

    def test_the_unknown_is_refused(self) -> None:
        refusal = refused(messages=[USER], temprature=0.5)
        assert (refusal.param, refusal.code) == ("temprature", "unknown_parameter")
        assert len(refused(messages=[USER], **{"x" * 10_000: 1}).message) < 200

    def test_null_is_the_same_as_leaving_out(self) -> None:
        names = [*NUMBERS, *NEUTRAL, "model", "stream", "stream_options", "stop", "logit_bias", "timeout"]
        assert ChatRequest.parse({"messages": [USER], **dict.fromkeys(names)}, 600) == ChatRequest.parse(
            {"messages": [USER]}, 600
        )

    def test_stop(self) -> None:
        parse = ChatRequest.parse
        assert parse({"messages": [USER], "stop": "a"}, 600).sampling == {"stop": ["a"]}
        assert parse({"messages": [USER], "stop": ["a", "b"]}, 600).sampling == {"stop": ["a", "b"]}
        for stop in (5, "", [""], [5], ["a"] * 17, "\udfff"):
            assert refused(messages=[USER], stop=stop).param == "stop"

    def test_logit_bias(self) -> None:
        assert ChatRequest.parse({"messages": [USER], "logit_bias": {"7": 1}}, 600).sampling == {
            "logit_bias": {7: 1}
        }
        for bias in ([], {"a": 1}, {"-1": 1}, {"²": 1}, {"1": "x"}, {"1": 101}, {"9" * 5000: 1}):
            assert str(refused(messages=[USER], logit_bias=bias).param).startswith("logit_bias")

    def test_the_two_names_of_max_tokens(self) -> None:
        parse = ChatRequest.parse
        assert parse({"messages": [USER], "max_completion_tokens": 3}, 600).sampling == {"max_tokens": 3}
        both = {"messages": [USER], "max_completion_tokens": 3, "max_tokens": 3}
        assert parse(both, 600).sampling == {"max_tokens": 3}
        assert "differ" in refused(**{**both, "max_tokens": 4}).message

    def test_stream_options(self) -> None:
        body = {"messages": [USER], "stream": True}
        assert ChatRequest.parse({**body, "stream_options": {"include_usage": True}}, 600).include_usage
        assert not ChatRequest.parse(
            {**body, "stream_options": {"include_obfuscation": False}}, 600
        ).include_usage
        assert "needs stream: true" in refused(messages=[USER], stream_options={}).message
        assert refused(**body, stream_options={"x": 1}).param == "stream_options.x"
        assert refused(**body, stream_options=[]).param == "stream_options"
        assert refused(messages=[USER], stream="yes").param == "stream"

    def test_the_model_is_a_name(self) -> None:
        assert refused(messages=[USER], model=5).param == "model"

    @pytest.mark.parametrize("timeout", [0, -1, 601, "5", True, float("inf")])
    def test_timeout(self, timeout: Any) -> None:
        assert refused(messages=[USER], timeout=timeout).param == "timeout"
        assert ChatRequest.parse({"messages": [USER], "timeout": 600}, 600).timeout == 600


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
NAMES = [*NUMBERS, *NEUTRAL, *HARMLESS, "model", "messages", "stream", "stream_options", "stop", "timeout"]
ROLE = st.sampled_from(["system", "user", "assistant", "tool", "x"])
BODIES = st.dictionaries(st.sampled_from(NAMES), JSON) | st.fixed_dictionaries(
    {"messages": st.lists(st.fixed_dictionaries({"role": ROLE, "content": JSON}), max_size=3)},
    optional={name: JSON for name in NAMES if name != "messages"},
)


@given(BODIES)
@settings(deadline=None)
def test_any_json_is_parsed_or_refused(body: dict[str, Any]) -> None:
    try:
        request = ChatRequest.parse(body, 600)
    except Refusal as error:
        refusal = error
    else:
        Sampling(**request.sampling)
        assert request.messages[-1].role == "user"
        return
    assert refusal.status == 400
    assert json.loads(refusal.as_json())["error"]["message"]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(echo, max_body=100_000) as server:
        yield server


class TestOverHTTP:
    @pytest.mark.parametrize(
        ("body", "told"),
        [
            (b"", "is not JSON"),
            (b"{", "is not JSON"),
            (b'{"messages": [', "is not JSON"),
            (b"nonsense", "is not JSON"),
            (b"[]", "must be a JSON object"),
            (b'"text"', "must be a JSON object"),
            (b"null", "must be a JSON object"),
            (b'{"temperature": NaN}', "NaN is no JSON number"),
            (b'{"temperature": -Infinity}', "Infinity is no JSON number"),
            (b"\xff\xfe{\x00}\x00", "not UTF-8"),
            (b"\xef\xbb\xbf{}", "is not JSON"),
            (b"[" * 90_000, "nested too deeply"),
            (b'{"n": ' + b"9" * 5000 + b"}", "is not JSON"),
        ],
    )
    def test_malformed_json(self, server: Running, body: bytes, told: str) -> None:
        status, headers, answer = server.post(body)
        assert status == 400
        assert headers["content-type"] == "application/json"
        error = answer["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_json")
        assert told in error["message"]

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
    def test_a_body_that_is_not_declared_as_json(self, server: Running, kind: str) -> None:
        status, _, answer = server.post(question(), {"Content-Type": kind})
        assert status == 415
        assert "Content-Type: application/json" in answer["error"]["message"]

    def test_json_with_a_charset(self, server: Running) -> None:
        assert server.post(question(), {"Content-Type": "Application/JSON; charset=utf-8"})[0] == 200

    def test_a_compressed_body(self, server: Running) -> None:
        status, _, answer = server.post(b"x", {"Content-Encoding": "gzip"})
        assert status == 415
        assert "Content-Encoding" in answer["error"]["message"]

    def test_other_methods(self, server: Running) -> None:
        with server.connect() as connection:
            connection.send("GET", "/v1/chat/completions")
            reply = connection.reply()
            assert (reply.status, reply.headers["allow"]) == (405, "POST")
            assert connection.json()["error"]["code"] == "method_not_allowed"
