"""What a request may say: each fault is named, with its cure, and nothing is ignored in silence."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.resources.chat.completions import Completions

from millrace import LocalModel
from millrace.launchers.abilities import Abilities
from millrace.launchers.api.chat_requests import HARMLESS, NEUTRAL, NUMBERS, OWN, ChatRequest
from millrace.launchers.api.refusals import Refusal, refusal_of
from millrace.modules.local import Sampling
from millrace.streaming import RequestRefused
from tests.launchers.api.chat_bodies import ABLE, USER, deep, parsed, refused
from tests.launchers.support import Running, echo, question, running
from tests.support.gated import tiny_engine


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
            sampling = ChatRequest.parse({"messages": [USER], name: value}, 600, ABLE).sampling
            assert list(sampling.values()) == [value]
            Sampling(**sampling)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("functions", [{}]),
            ("function_call", {"name": "f"}),
            ("parallel_tool_calls", False),
            ("modalities", ["text", "audio"]),
            ("audio", {"voice": "x"}),
            ("prediction", {}),
            ("store", True),
            ("reasoning_effort", "high"),
            ("verbosity", "low"),
            ("moderation", {}),
            ("web_search_options", {}),
        ],
    )
    def test_what_is_not_supported_is_refused_by_name(self, name: str, value: Any) -> None:
        refusal = refused(ABLE, messages=[USER], **{name: value})
        assert (refusal.param, refusal.code) == (name, "unsupported_parameter")
        assert refusal.message == f"{name} is not supported here; leave it out"

    def test_every_parameter_of_the_openai_client_is_used_harmless_or_refused(self) -> None:
        given = set(inspect.signature(Completions.create).parameters)
        given -= {"self", "extra_headers", "extra_query", "extra_body"}
        assert len(given) > 30
        unknown = given - HARMLESS - OWN - set(NEUTRAL) - set(NUMBERS)
        assert not unknown
        for name in given & set(NEUTRAL):
            assert refused(ABLE, messages=[USER], **{name: {"some": "thing"}}).code == "unsupported_parameter"

    @pytest.mark.parametrize("name", NEUTRAL)
    def test_asking_for_nothing_is_accepted(self, name: str) -> None:
        for value in (None, *NEUTRAL[name]):
            assert ChatRequest.parse({"messages": [USER], name: value}, 600).sampling == {}

    @pytest.mark.parametrize("name", sorted(HARMLESS))
    def test_the_harmless_is_accepted(self, name: str) -> None:
        assert ChatRequest.parse({"messages": [USER], name: {"any": ["thing", 1.5]}}, 600).sampling == {}

    @pytest.mark.parametrize("name", ["metadata", "user"])
    @pytest.mark.parametrize(
        ("value", "told"),
        [
            ({"a": "\ud800"}, "half a surrogate pair"),
            ({"a\udfff": 1}, "half a surrogate pair"),
            ([[{"a": ["x\ud800"]}]], "half a surrogate pair"),
            ({"a": 1e999}, "a number that is too large"),
            (deep(65), "nested more than 64 levels deep"),
        ],
    )
    def test_but_for_what_is_no_json(self, name: str, value: Any, told: str) -> None:
        refusal = refused(messages=[USER], **{name: value})
        assert refusal.param == name
        assert told in refusal.message

    def test_the_unknown_is_refused(self) -> None:
        refusal = refused(messages=[USER], temprature=0.5)
        assert (refusal.param, refusal.code) == ("temprature", "unknown_parameter")
        assert len(refused(messages=[USER], **{"x" * 10_000: 1}).message) < 200

    def test_null_is_the_same_as_leaving_out(self) -> None:
        names = [*NUMBERS, *NEUTRAL, *(OWN - {"messages"})]
        for able in (ABLE, Abilities()):
            assert ChatRequest.parse(
                {"messages": [USER], **dict.fromkeys(names)}, 600, able
            ) == ChatRequest.parse({"messages": [USER]}, 600, able)

    def test_how_many_answers(self) -> None:
        assert (parsed().n, parsed(n=1).n, parsed(n=16).n) == (1, 1, 16)
        for n in (0, 17, -1, 1.5, True, "2"):
            assert refused(messages=[USER], n=n).param == "n"

    def test_stop(self) -> None:
        assert parsed(stop="a").sampling == {"stop": ["a"]}
        assert parsed(stop=["a", "b"]).sampling == {"stop": ["a", "b"]}
        for stop in (5, "", [""], [5], ["a"] * 17, "\udfff"):
            assert refused(ABLE, messages=[USER], stop=stop).param == "stop"

    @pytest.mark.parametrize(
        "cut",
        [{"stop": "a"}, {"max_tokens": 3}, {"max_completion_tokens": 3}],
        ids=lambda cut: next(iter(cut)),
    )
    def test_nothing_cuts_the_answer_of_a_flow_without_a_model(self, cut: dict[str, Any]) -> None:
        refusal = refused(messages=[USER], **cut)
        assert (refusal.code, [refusal.param]) == ("unsupported_parameter", list(cut))
        assert parsed(Abilities(), **dict.fromkeys(cut), temperature=0.5).sampling == {"temperature": 0.5}

    def test_logit_bias(self) -> None:
        assert ChatRequest.parse({"messages": [USER], "logit_bias": {"7": 1}}, 600).sampling == {
            "logit_bias": {7: 1}
        }
        for bias in ([], {"a": 1}, {"-1": 1}, {"²": 1}, {"1": "x"}, {"1": 101}, {"9" * 5000: 1}):
            assert str(refused(messages=[USER], logit_bias=bias).param).startswith("logit_bias")

    def test_the_two_names_of_max_tokens(self) -> None:
        assert parsed(max_completion_tokens=3).sampling == {"max_tokens": 3}
        both = {"messages": [USER], "max_completion_tokens": 3, "max_tokens": 3}
        assert parsed(**both).sampling == {"max_tokens": 3}
        assert "differ" in refused(ABLE, **{**both, "max_tokens": 4}).message

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


class TestLogprobs:
    def test_they_are_asked_of_the_model(self) -> None:
        assert parsed(logprobs=True).sampling == {"logprobs": 0}
        assert parsed(logprobs=True, top_logprobs=20).sampling == {"logprobs": 20}
        assert parsed(logprobs=False, top_logprobs=0).sampling == {}
        Sampling(**parsed(logprobs=True, top_logprobs=20).sampling)

    @pytest.mark.parametrize(
        ("body", "param", "told"),
        [
            ({"logprobs": 1}, "logprobs", "true or false"),
            ({"logprobs": "true"}, "logprobs", "true or false"),
            ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "from 0 to 20"),
            ({"logprobs": True, "top_logprobs": -1}, "top_logprobs", "from 0 to 20"),
            ({"logprobs": True, "top_logprobs": True}, "top_logprobs", "from 0 to 20"),
            ({"top_logprobs": 2}, "top_logprobs", "needs logprobs: true"),
        ],
    )
    def test_faults_are_named(self, body: dict[str, Any], param: str, told: str) -> None:
        refusal = refused(ABLE, messages=[USER], **body)
        assert refusal.param == param
        assert told in refusal.message

    def test_where_there_is_no_model_there_are_none(self) -> None:
        refusal = refused(messages=[USER], logprobs=True)
        assert (refusal.param, refusal.code) == ("logprobs", "unsupported_parameter")
        assert "this flow ends in no model" in refusal.message


class TestWhatTheModelRefuses:
    """It is known only when the model sees it, and is the client's fault all the same."""

    @pytest.mark.parametrize(
        ("setting", "param"),
        [
            ("json_schema", "response_format"),
            ("logit_bias", "logit_bias"),
            ("tools", "tools"),
            ("messages", "messages"),
        ],
    )
    def test_it_is_400_and_named(self, setting: str, param: str) -> None:
        refusal = refusal_of(RequestRefused("cannot be", setting, by_run=True).for_clients())
        assert (refusal.status, refusal.param, refusal.message) == (400, param, "cannot be")

    def test_what_a_step_says_of_it_is_for_the_log(self) -> None:
        refusal = refusal_of(RequestRefused("the secret schema", "json_schema", by_run=True))
        assert (refusal.status, refusal.param) == (400, "response_format")
        assert "secret" not in refusal.message
        assert "response_format" in refusal.message

    def test_what_a_flow_asks_for_itself_is_no_clients_fault(self) -> None:
        refusal = refusal_of(RequestRefused("the secret schema", "json_schema"))
        assert (refusal.status, refusal.code) == (500, "model_error")
        assert "secret" not in refusal.message

    def test_over_http(self) -> None:
        model = LocalModel(tiny_engine(), sampling={"max_tokens": 2})
        with running(model) as server:
            status, _, answer = server.post(question(logit_bias={"99999": 1}))
        assert status == 400
        assert answer["error"]["param"] == "logit_bias"
        assert "has the token id 99999" in answer["error"]["message"]


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
NAMES = [*NUMBERS, *NEUTRAL, *HARMLESS, *OWN]
ROLE = st.sampled_from(["system", "user", "assistant", "tool", "x"])
BODIES = st.dictionaries(st.sampled_from(NAMES), JSON) | st.fixed_dictionaries(
    {"messages": st.lists(st.fixed_dictionaries({"role": ROLE, "content": JSON}), max_size=3)},
    optional={name: JSON for name in NAMES if name != "messages"},
)


@given(BODIES, st.sampled_from([ABLE, Abilities()]))
@settings(deadline=None)
def test_any_json_is_parsed_or_refused(body: dict[str, Any], able: Abilities) -> None:
    try:
        request = ChatRequest.parse(body, 600, able)
    except Refusal as error:
        refusal = error
    else:
        Sampling(**request.sampling)
        assert request.messages[-1].role in ("user", "tool")
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
            (b'{"n": ' + b"9" * 5000 + b"}", "too many digits"),
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
