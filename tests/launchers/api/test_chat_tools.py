"""Tools, demands and forms of a chat request: for flows that can, as the run gets them; each fault is named."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from millrace.launchers.abilities import Abilities
from millrace.launchers.api.chat_requests import NUMBERS, OWN
from millrace.launchers.api.schemas.chat_forms import CALLS, FORMS
from millrace.modules.local import Sampling
from tests.launchers.api.chat_bodies import ABLE, CALL, NAMED, TOOL, USER, deep, parsed, refused


def function(**more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "look", **more}}


TOOL_FAULTS = [
    ({}, "tools", "must be a list"),
    ("look", "tools", "must be a list"),
    ([5], "tools[0]", "must be an object"),
    ([{"type": "custom"}], "tools[0].type", "is custom, and only tools of type function"),
    ([{}], "tools[0].type", "only tools of type function"),
    ([TOOL, {"type": "function"}], "tools[1].function", "must be an object with a name"),
    ([function(name=5)], "tools[0].function.name", "1 to 64 letters"),
    ([function(name="a b")], "tools[0].function.name", "1 to 64 letters"),
    ([function(name="x" * 65)], "tools[0].function.name", "1 to 64 letters"),
    ([TOOL, TOOL], "tools[1].function.name", "a second time"),
    ([function(description=5)], "tools[0].function.description", "must be text"),
    ([function(description="\ud800")], "tools[0].function.description", "half a surrogate pair"),
    ([function(parameters=[])], "tools[0].function.parameters", "must be a JSON schema"),
    ([function(parameters={"a": ["\ud800"]})], "tools[0].function.parameters", "half a surrogate pair"),
    ([function(parameters={"maximum": 1e999})], "tools[0].function.parameters", "too large"),
    ([function(parameters=deep(65))], "tools[0].function.parameters", "levels deep"),
    ([function(strict="yes")], "tools[0].function.strict", "true or false"),
    ([function(examples=[])], "tools[0].function.examples", "unknown parameter"),
    ([{**TOOL, "cache": 1}], "tools[0].cache", "unknown parameter"),
    ([function(name=f"f{i}") for i in range(129)], "tools", "128 functions at most"),
]


class TestTools:
    def test_they_are_for_the_run(self) -> None:
        request = parsed(tools=[function(description=None, parameters=None, strict=None)], tool_choice="auto")
        assert request.tools == ({"type": "function", "function": {"name": "look"}},)
        assert request.tool_choice is None
        whole = function(description="Looks.", parameters={"type": "object"}, strict=True)
        assert parsed(tools=[whole]).tools == (whole,)
        assert parsed(tools=[function(parameters=deep(64))]).tools
        assert parsed(tools=[], parallel_tool_calls=True).tools is None
        assert (
            refused(ABLE, messages=[USER], tools=[function(name="look\n")]).param == "tools[0].function.name"
        )

    @pytest.mark.parametrize(("tools", "param", "told"), TOOL_FAULTS)
    def test_faults_are_named(self, tools: Any, param: str, told: str) -> None:
        refusal = refused(ABLE, messages=[USER], tools=tools)
        assert refusal.param == param
        assert told in refusal.message

    def test_where_there_is_no_model_there_are_none(self) -> None:
        refusal = refused(messages=[USER], tools=[TOOL])
        assert (refusal.param, refusal.code) == ("tools", "unsupported_parameter")
        assert "this flow ends in no model" in refusal.message
        assert parsed(Abilities(), tools=[], tool_choice="none").tool_choice is None
        assert parsed(Abilities(), tools=[], tool_choice="auto").tool_choice is None

    def test_choices(self) -> None:
        assert parsed(tools=[TOOL], tool_choice="none").tool_choice == "none"
        assert parsed(tool_choice="none").tool_choice == "none", "the model may have tools of its own"
        assert parsed(tools=[TOOL], tool_choice="required").tool_choice == "required"
        assert parsed(tools=[TOOL], tool_choice=NAMED).tool_choice == NAMED

    @pytest.mark.parametrize(
        ("body", "told"),
        [
            ({"tools": [TOOL], "tool_choice": "sometimes"}, "must be none, auto, required"),
            ({"tools": [TOOL], "tool_choice": 5}, "must be none, auto, required"),
            ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "must be none, auto, required"),
            ({"tools": [TOOL], "tool_choice": {**NAMED, "type": "custom"}}, "must be none, auto, required"),
            ({"tools": [TOOL], "tool_choice": {**NAMED, "more": 1}}, "must be none, auto, required"),
            (
                {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "fly"}}},
                "names a function that tools does not have",
            ),
            ({"tool_choice": "required"}, "needs tools"),
            ({"tool_choice": NAMED}, "needs tools"),
        ],
    )
    def test_choices_that_are_none(self, body: dict[str, Any], told: str) -> None:
        refusal = refused(ABLE, messages=[USER], **body)
        assert refusal.param == "tool_choice"
        assert told in refusal.message

    def test_a_call_can_be_demanded_only_where_a_model_always_answers(self) -> None:
        some = Abilities(tools=True, logprobs=True, lack="not every way through this flow ends in a model")
        assert parsed(some, tools=[TOOL]).tools
        refusal = refused(some, messages=[USER], tools=[TOOL], tool_choice="required")
        assert refusal.message == (
            "tool_choice can be none or auto only: not every way through this flow ends in a model; leave it out"
        )


def form(**more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, **more}}


class TestForms:
    def test_they_are_for_the_model(self) -> None:
        assert parsed(response_format={"type": "text"}).sampling == {}
        assert parsed(response_format={"type": "json_object"}).sampling == {"json_schema": {"type": "object"}}
        schema = {"type": "array", "items": {"type": "integer"}}
        wanted = form(schema=schema, strict=True, description="Numbers.")
        assert parsed(response_format=wanted).sampling == {"json_schema": schema}
        Sampling(**parsed(response_format=wanted).sampling)

    @pytest.mark.parametrize(
        ("wanted", "param", "told"),
        [
            ("json", "response_format", "must be text, json_object or json_schema"),
            ({"type": "grammar"}, "response_format", "must be text, json_object or json_schema"),
            ({"type": ["text"]}, "response_format", "must be text, json_object or json_schema"),
            ({"type": "text", "x": 1}, "response_format.x", "unknown parameter"),
            ({"type": "json_object", "json_schema": {}}, "response_format.json_schema", "unknown parameter"),
            ({"type": "json_schema"}, "response_format.json_schema", "must be an object"),
            (form(name="a b"), "response_format.json_schema.name", "1 to 64 letters"),
            (form(schema=None), "response_format.json_schema.schema", "must be a JSON schema"),
            (form(schema=[]), "response_format.json_schema.schema", "must be a JSON schema"),
            (
                form(schema={"enum": ["\ud800"]}),
                "response_format.json_schema.schema",
                "half a surrogate pair",
            ),
            (form(schema={"minimum": -1e999}), "response_format.json_schema.schema", "too large"),
            (form(schema=deep(900)), "response_format.json_schema.schema", "levels deep"),
            (form(strict=1), "response_format.json_schema.strict", "true or false"),
            (form(description=1), "response_format.json_schema.description", "must be text"),
            (form(x=1), "response_format.json_schema.x", "unknown parameter"),
        ],
    )
    def test_faults_are_named(self, wanted: Any, param: str, told: str) -> None:
        refusal = refused(ABLE, messages=[USER], response_format=wanted)
        assert refusal.param == param
        assert told in refusal.message

    def test_where_a_model_does_not_always_answer_there_is_text_only(self) -> None:
        assert parsed(Abilities(), response_format={"type": "text"}).sampling == {}
        for wanted in ({"type": "json_object"}, form()):
            refusal = refused(messages=[USER], response_format=wanted)
            assert (refusal.param, refusal.code) == ("response_format", "unsupported_parameter")
            assert "this flow ends in no model" in refusal.message


BEYOND = ("a second time", "half a surrogate pair", "too large", "levels deep")
"""Faults that a JSON schema cannot tell."""


class TestSchemas:
    """What the document of the service says is what the checks do."""

    ACCEPTED = (
        {"n": 16},
        {"tools": [function(description=None, parameters=deep(9), strict=True)], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": NAMED},
        {"tool_choice": "none", "logprobs": True, "top_logprobs": 20},
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "json_object"}},
        {"response_format": form(strict=None, description="x")},
    )

    @pytest.mark.parametrize("body", ACCEPTED)
    def test_what_is_accepted(self, body: dict[str, Any]) -> None:
        parsed(**body)
        for name, value in body.items():
            jsonschema.validate(value, FORMS[name])

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("tools", tools) for tools, _, told in TOOL_FAULTS if told not in BEYOND),
            ("n", 17),
            ("n", "2"),
            ("tool_choice", {}),
            ("tool_choice", "sometimes"),
            ("response_format", {"type": "grammar"}),
            ("response_format", form(name="a b")),
            ("top_logprobs", 21),
            ("logprobs", "yes"),
        ],
    )
    def test_what_is_refused(self, name: str, value: Any) -> None:
        refused(ABLE, messages=[USER], **{name: value})
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value, FORMS[name])

    def test_calls(self) -> None:
        jsonschema.validate([CALL], CALLS)
        assert set(FORMS) < OWN
        assert not set(FORMS) & set(NUMBERS)
