"""/v1/responses, described: what a request may have, the response, and the events of a stream."""

from __future__ import annotations

from typing import Any, TypeVar

from ....streaming.events import Event, RunFinished, TextDelta
from ....streaming.usage import TokenUsage
from ...abilities import Abilities
from ..chat_messages import FIELDS, PART_FIELDS, ROLES
from ..chat_requests import CUTS
from ..refusals import Refusal
from ..response_items import MESSAGE, Output
from ..response_objects import DEFAULTS, PREFIX, ResponseObject
from ..response_replies import ResponseStream, ended
from ..response_requests import HARMLESS, NEUTRAL, NUMBERS, PARTS
from .answers import COUNT, TEXT, either, json_answer, stream_answer
from .chats import CREATED, MODEL_REFUSED
from .components import Components, Schema
from .refusals import Refused, refusals
from .requests import (
    NO_CALLS,
    body,
    harmless,
    logit_bias,
    model_name,
    neutral,
    request_of,
    run_id_header,
    stop,
    stream_flag,
    stream_options,
    unbound,
    unused,
)

__all__ = ["describe_responses"]

Said = TypeVar("Said", bound=Event)

RUN = "2f0c5a1e7d544d5e9d0a5b2f1c3e4a6b"
STATUSES = ("queued", "in_progress", "completed", "incomplete", "cancelled", "failed")
ITEM_EVENTS = ("output_item.added", "content_part.added", "content_part.done", "output_item.done")
EVENTS = (
    *("created", "in_progress"),
    *ITEM_EVENTS,
    *(f"{kind}.{event}" for kind in ("output_text", "reasoning_text") for event in ("delta", "done")),
    *("completed", "incomplete", "failed"),
)
MAYBE: Schema = {"type": ["string", "null"]}
ANY: Schema = {}

NO_RESPONSE = Refused(
    "There is no such response, or it is somebody else's",
    Refusal(404, f"there is no response '{PREFIX}{RUN}'", "response_not_found"),
)


def describe_responses(components: Components, model: str, longest: float, able: Abilities) -> dict[str, Any]:
    """The paths of responses; the arguments are those of `describe_chats`."""
    request = components.name("ResponseRequest", _request(model, longest, able))
    item = components.name("ResponseItem", _item())
    response = components.name("Response", _response(item))
    event = components.name("ResponseEvent", _event(item, response))
    example = _example(model)
    asked = {"model": model, "input": "What is a Warp?"}
    whole = json_answer(
        'The response. With `"stream": true` its events, as server-sent events; the last is `response.completed`, '
        "`response.incomplete` or `response.failed`",
        response,
        example,
    )
    streamed = stream_answer("", event, _stream(model))
    schema = {"type": "string", "pattern": f"^{PREFIX}[0-9a-f]{{32}}$"}
    response_id = {"name": "response_id", "in": "path", "required": True, "schema": schema}
    below = {"parameters": [{**response_id, "example": f"{PREFIX}{RUN}"}]}
    kept = {
        "200": json_answer("The response, without what its request said", response, example),
        **refusals(components, 400, NO_RESPONSE, 410, 500),
    }
    return {
        "/v1/responses": {
            "post": {
                "operationId": "create_response",
                "tags": ["OpenAI"],
                "summary": "Runs the flow on the last message of the input; those before it are its history",
                "parameters": [run_id_header()],
                "requestBody": body(
                    request,
                    {
                        "whole": ("The whole response at once", asked),
                        "stream": ("Streamed, with instructions", {**asked, **STREAM}),
                    },
                ),
                "responses": {"200": either(whole, streamed), **refusals(components, *MODEL_REFUSED)},
            }
        },
        "/v1/responses/{response_id}": {
            **below,
            "get": {
                "operationId": "retrieve_response",
                "tags": ["OpenAI"],
                "summary": "What became of a response",
                "responses": kept,
            },
        },
        "/v1/responses/{response_id}/cancel": {
            **below,
            "post": {
                "operationId": "cancel_response",
                "tags": ["OpenAI"],
                "summary": "Stops the run of a response; one that is over stays as it is",
                "responses": {status: told for status, told in kept.items() if status != "400"},
            },
        },
    }


STREAM = {"stream": True, "instructions": "Answer in one sentence."}


# ---------------------------------------------------------------- requests


def _request(model: str, longest: float, able: Abilities) -> Schema:
    flag: Schema = {"type": "boolean"}
    fields: dict[str, Schema] = {
        "model": model_name(model),
        "instructions": {**TEXT, "description": "A system message before the input"},
        "stream": stream_flag(),
        "stream_options": stream_options(),
        "metadata": {
            "type": "object",
            "additionalProperties": TEXT,
            "description": "Comes back with the response",
        },
        "parallel_tool_calls": {**flag, "description": "Accepted, and changes nothing: no tool is called"},
        "text": _text(),
        "stop": stop(),
        "logit_bias": logit_bias(-100, 100),
        "prompt_cache_options": {"description": "Accepted, and changes nothing; `prewarm` is not supported"},
        **{name: number.schema() for name, number in NUMBERS.items()},
        **harmless(HARMLESS),
        **{name: neutral(values) for name, values in NEUTRAL.items()},
    }
    if not able.settings:
        fields |= unbound([name for name in CUTS if name in fields], able)
    items = {"type": "array", "minItems": 1, "items": {"anyOf": [_message(), _reasoning()]}}
    given = {
        "anyOf": [TEXT, items],
        "description": "The last message must be of role user; those before it are the history",
    }
    return request_of("input", given, longest, fields)


def _message() -> Schema:
    part = {
        "type": "object",
        "required": ["type", "text"],
        "additionalProperties": False,
        "properties": {**unused(PART_FIELDS), "type": {"enum": list(PARTS)}, "text": TEXT},
    }
    return {
        "type": "object",
        "required": ["role", "content"],
        "additionalProperties": False,
        "properties": {
            **unused(FIELDS),
            "tool_calls": NO_CALLS,
            "tool_call_id": {"type": "null"},
            "type": {"enum": ["message", None]},
            "role": {"enum": list(ROLES)},
            "content": {"anyOf": [TEXT, {"type": "array", "items": part}]},
        },
    }


def _reasoning() -> Schema:
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": ["reasoning"]}},
        "description": "That of an earlier response, which goes nowhere",
    }


def _text() -> Schema:
    fields = {"format": {"enum": [{"type": "text"}, None]}, "verbosity": {"enum": ["medium", None]}}
    return {"type": "object", "properties": fields, "description": "Text comes as the flow gives it"}


# ---------------------------------------------------------------- answers


def _part() -> Schema:
    return {
        "type": "object",
        "required": ["type", "text"],
        "properties": {"type": {"enum": ["output_text", "reasoning_text"]}, "text": TEXT},
    }


def _item() -> Schema:
    return {
        "type": "object",
        "required": ["id", "type", "status", "content"],
        "properties": {
            "id": TEXT,
            "type": {"enum": ["message", "reasoning"]},
            "status": {"enum": ["in_progress", "completed", "incomplete"]},
            "role": {"enum": ["assistant"]},
            "content": {"type": "array", "items": _part()},
        },
    }


def _response(item: Schema) -> Schema:
    tokens = dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), COUNT)
    error = {**dict.fromkeys(("code", "message", "type"), TEXT), "param": MAYBE}
    properties: dict[str, Schema] = {
        "id": {**TEXT, "description": "`resp_` and the id of the run"},
        "object": {"enum": ["response"]},
        "created_at": COUNT,
        "status": {"enum": list(STATUSES)},
        "completed_at": {"type": ["integer", "null"]},
        "error": {"type": ["object", "null"], "required": list(error), "properties": error},
        "incomplete_details": {
            "type": ["object", "null"],
            "required": ["reason"],
            "properties": {"reason": TEXT},
        },
        "model": TEXT,
        "output": {"type": "array", "items": item},
        "usage": {"type": ["object", "null"], "required": list(tokens), "properties": tokens},
        **dict.fromkeys(DEFAULTS, ANY),
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _event(item: Schema, response: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["type", "sequence_number"],
        "properties": {
            "type": {"enum": [f"response.{name}" for name in EVENTS]},
            "sequence_number": {**COUNT, "description": "From 0, without gaps"},
            "response": response,
            "item": item,
            "part": _part(),
            "item_id": TEXT,
            "output_index": COUNT,
            "content_index": COUNT,
            "delta": {**TEXT, "description": "A piece of the text"},
            "text": {**TEXT, "description": "All of it"},
        },
    }


ANSWER = "A mill for lists."


def _said(event: Said, seq: int) -> Said:
    event.seq, event.path, event.time = seq, (), CREATED + 1.0
    return event


def _finished() -> RunFinished:
    return _said(RunFinished("done", "stop", ANSWER, None, TokenUsage(12, 6)), 3)


def _example(model: str) -> dict[str, Any]:
    output = Output(RUN)
    output.add(MESSAGE, ANSWER)
    return ended(ResponseObject(RUN, model, CREATED), output, _finished())


def _stream(model: str) -> str:
    told = ResponseStream(ResponseObject(RUN, model, CREATED))
    return told.begin() + told.piece(_said(TextDelta(ANSWER), 2)) + told.end(_finished())
