"""/v1/runs, described: what goes into the flow and what comes out, as its annotations say it."""

from __future__ import annotations

from typing import Any

from ...abilities import Abilities
from ..desks import Visible
from ..hints import Hint
from ..refusals import Refusal
from ..run_requests import FIELDS, LONGEST_SESSION
from .answers import COUNT, RUN_ID, TEXT, json_answer, nullable, one_of, stream_answer
from .components import Components, Schema
from .refusals import Refused, refusals
from .requests import body, deadline, message, run_id_header, sampling
from .run_events import EVENT_NAMES, example_stream, run_event
from .samples import sample_of

__all__ = ["describe_runs"]

ID = "2f0c5a1e7d544d5e9d0a5b2f1c3e4a6b"
STATUSES = ("queued", "running", "waiting", "done", "cancelled", "timeout", "error", "lost")
REASON = "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]*$"
SESSION = "^[A-Za-z0-9_-][A-Za-z0-9._-]*$"
TOKENS = ("prompt_tokens", "completion_tokens")

NO_RUN = Refused(
    "There is no such run, or it is somebody else's",
    Refusal(404, f"there is no run '{ID}'; GET /v1/runs lists yours", "run_not_found"),
)
HIDDEN = Refused(
    "The service lets the events of the answer be seen, not all",
    Refusal(
        403,
        'this server sends the events of the answer only; events: "all" must be allowed',
        "events_not_allowed",
    ),
)
SEVERAL = Refused(
    "Too many clients follow runs at once; come again after `Retry-After` seconds",
    Refusal(429, "too many clients follow runs here; try again later", "overloaded"),
    ("Retry-After",),
)
BODY = (400, 408, 413, 415)
"""What may be wrong with any body."""


class Describing:
    """What the paths below /v1/runs have in common."""

    def __init__(
        self,
        components: Components,
        takes: Hint,
        gives: Hint,
        longest: float,
        events: Visible,
        able: Abilities,
    ) -> None:
        self.components = components
        self.hidden = [HIDDEN] if events != "all" else []
        components.hold("Run", "RunError", "RunRequest", *EVENT_NAMES)
        taken, given = (components.adopt(named(hint.schema)) for hint in (takes, gives))
        self.input = sample_of(taken, components)
        self.sampled = fits(takes, self.input)
        self.result = sample_of(given, components) if given else self.input
        self.run = components.name("Run", self._run(given))
        self.request = components.name("RunRequest", self._request(taken, longest, able))
        self.event = run_event(components, self._finished(given))
        self.example = self._example()

    def refused(self, *refused: int | Refused) -> dict[str, Any]:
        return refusals(self.components, *refused)

    # ------------------------------------------------------------ the parts

    def _request(self, taken: Schema, longest: float, able: Abilities) -> Schema:
        fields: dict[str, Schema] = {
            "session": {"type": "string", "pattern": SESSION, "maxLength": LONGEST_SESSION},
            "history": {"type": "array", "items": message(self.components)},
            "sampling": sampling(able),
            "stream": {"type": "boolean", "default": False},
            "events": one_of("output", *(() if self.hidden else ("all",))),
            "background": {"type": "boolean", "default": False},
            "on_disconnect": one_of("cancel", "continue"),
        }
        told = {name: {**nullable(schema), "description": FIELDS[name]} for name, schema in fields.items()}
        both = {name: {"const": True} for name in ("stream", "background")}
        return {
            "type": "object",
            "required": ["input"],
            "additionalProperties": False,
            "not": {"required": list(both), "properties": both},
            "properties": {
                "input": {**taken, "description": taken.get("description", FIELDS["input"])},
                **told,
                "timeout": deadline(longest),
            },
        }

    def _failure(self) -> Schema:
        maybe: Schema = {"type": ["string", "null"]}
        properties = {
            "message": TEXT,
            "type": TEXT,
            "param": maybe,
            "code": TEXT,
            "kind": {**TEXT, "description": "The class of the error"},
            "status": {"type": "integer", "description": "The HTTP status that it stands for"},
        }
        told = {"type": "object", "required": list(properties), "properties": properties}
        return nullable(self.components.name("RunError", told))

    def _usage(self) -> Schema:
        return {"type": "object", "required": list(TOKENS), "properties": dict.fromkeys(TOKENS, COUNT)}

    def _run(self, given: Schema) -> Schema:
        maybe: Schema = {"type": ["string", "null"]}
        properties: dict[str, Schema] = {
            "id": RUN_ID,
            "object": one_of("run"),
            "status": one_of(*STATUSES),
            "created": {"type": "number", "description": "Seconds since the epoch"},
            "ended": {"type": ["number", "null"]},
            "session": maybe,
            "name": {**maybe, "description": "The flow's"},
            "events": {**COUNT, "description": "How many it has said"},
            "reason": {
                **maybe,
                "description": "Why it ended as it did: `stop`, `length`, what a stop was given",
            },
            "error": self._failure(),
            "usage": self._usage(),
        }
        result = {**given, "description": "What the flow gives; there where `status` is done"}
        return {
            "type": "object",
            "required": list(properties),
            "properties": {**properties, "result": result},
        }

    def _finished(self, given: Schema) -> dict[str, Schema]:
        return {
            "status": one_of(*STATUSES[3:]),
            "reason": {"type": ["string", "null"]},
            "result": {"anyOf": [given, {"type": "null"}]} if given else {},
            "error": self._failure(),
            "usage": self._usage(),
        }

    def _example(self) -> dict[str, Any]:
        return {
            "id": ID,
            "object": "run",
            "status": "done",
            "created": 1793534400.0,
            "ended": 1793534401.5,
            "session": "alice",
            "name": "answer",
            "events": 5,
            "reason": "stop",
            "error": None,
            "usage": dict.fromkeys(TOKENS, 0),
            "result": self.result,
        }

    # ------------------------------------------------------------ the paths

    def start(self) -> dict[str, Any]:
        whole = json_answer("The run, which is over", self.run, self.example, "x-run-id")
        stream = self._stream('With `"stream": true` its events, as they come. The last is `run_finished`')
        going = {name: value for name, value in self.example.items() if name != "result"}
        going |= {"status": "running", "ended": None, "events": 1, "reason": None}
        accepted = json_answer(
            'With `"background": true` the run, which goes on', self.run, going, "x-run-id"
        )
        answers = {
            "200": {
                **stream,
                "description": f"{whole['description']}. {stream['description']}",
                "content": {**whole["content"], **stream["content"]},
            },
            "202": accepted,
        }
        return {
            "operationId": "create_run",
            "tags": ["Runs"],
            "summary": "Runs the flow",
            "parameters": [run_id_header()],
            "requestBody": body(self.request, self._examples()),
            "responses": {
                **{status: {**answer, "links": LINKS} for status, answer in answers.items()},
                **self.refused(*BODY, *self.hidden, 409, 422, 429, 500, 503, 504),
            },
        }

    def _examples(self) -> dict[str, tuple[str, Any]]:
        if not self.sampled:
            return {}
        asked = {"input": self.input}
        return {
            "whole": ("Wait for the result", asked),
            "stream": ("See its events as they come", {**asked, "stream": True}),
            "background": ("Start it, and come back for it later", {**asked, "background": True}),
            "session": ("One turn of a conversation", {**asked, "session": "alice", "timeout": 30}),
        }

    def _stream(self, text: str) -> dict[str, Any]:
        return stream_answer(text, self.event, example_stream(self.result))

    def listing(self) -> dict[str, Any]:
        properties = {
            "object": one_of("list"),
            "data": {"type": "array", "items": self.run, "description": "Without their results"},
            "has_more": {"type": "boolean"},
        }
        runs = {"type": "object", "required": list(properties), "properties": properties}
        without = {name: value for name, value in self.example.items() if name != "result"}
        limit = {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
        return {
            "operationId": "list_runs",
            "tags": ["Runs"],
            "summary": "Your runs, newest first",
            "parameters": [{"name": "limit", "in": "query", "schema": limit}],
            "responses": {
                "200": json_answer(
                    "As many as asked for", runs, {"object": "list", "data": [without], "has_more": False}
                ),
                **self.refused(400),
            },
        }

    def retrieve(self) -> dict[str, Any]:
        return {
            "operationId": "retrieve_run",
            "tags": ["Runs"],
            "summary": "A run: how it is, and its result once it is over",
            "responses": {"200": json_answer("The run", self.run, self.example), **self.refused(NO_RUN, 410)},
        }

    def follow(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
        after = {"in": "query", "name": "after", "schema": {**number, "default": 0}}
        header = {"in": "header", "name": "Last-Event-ID", "schema": number}
        events = one_of("output", *(() if self.hidden else ("all",)))
        return {
            "operationId": "follow_run",
            "tags": ["Runs"],
            "summary": "What a run says, from any of its events on",
            "description": "Byte for byte what its stream said, also after the connection was lost. Leaving stops "
            "nothing; only where a run goes on without its client, somebody must come back to it in time.",
            "parameters": [
                {**after, "description": "The `id` of the last event that you have; 0: from the beginning"},
                {**header, "description": "The same, as browsers send it; it counts more than `after`"},
                {"in": "query", "name": "events", "schema": events, "description": FIELDS["events"]},
            ],
            "responses": {
                "200": self._stream(
                    "The events after that one, and those still to come; the last is `run_finished`"
                ),
                **self.refused(400, *self.hidden, NO_RUN, 410, SEVERAL),
            },
        }

    def cancel(self) -> dict[str, Any]:
        line = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": REASON}
        reason = {**line, "description": "For the run's `reason`"}
        told = {"type": "object", "properties": {"reason": reason}, "additionalProperties": False}
        stopped = {**self.example, "status": "cancelled", "reason": "enough"}
        del stopped["result"]
        return {
            "operationId": "cancel_run",
            "tags": ["Runs"],
            "summary": "Stops a run; one that is over stays as it is",
            "requestBody": body(told, {"reason": ("Say why", {"reason": "enough"})}, required=False),
            "responses": {
                "200": json_answer("The run, once its cleanup is done", self.run, stopped),
                **self.refused(*BODY, NO_RUN, 410),
            },
        }


def _link(operation: str) -> dict[str, Any]:
    return {"operationId": operation, "parameters": {"run_id": "$response.header.x-run-id"}}


LINKS = {
    "retrieve": _link("retrieve_run"),
    "follow": _link("follow_run"),
    "cancel": _link("cancel_run"),
}
"""What can be done about a run that was started."""


def named(schema: Schema) -> Schema:
    """A class's schema as one of its definitions, so that it keeps its name."""
    name = schema.get("title")
    if schema.get("type") != "object" or not name or name in schema.get("$defs", {}):
        return schema
    own = {key: part for key, part in schema.items() if key != "$defs"}
    return {"$ref": f"#/$defs/{name}", "$defs": {**schema.get("$defs", {}), name: own}}


def fits(takes: Hint, sample: Any) -> bool:
    """Whether the flow would take it."""
    try:
        takes.check(sample, "input")
    except Refusal:
        return False
    return True


def describe_runs(
    components: Components, takes: Hint, gives: Hint, longest: float, events: Visible, able: Abilities
) -> dict[str, Any]:
    """The paths of runs.

    Args:
        takes, gives: what the flow takes and gives.
        longest: the deadline, in seconds, that may be asked for at most.
        events: what clients may see of a run.
        able: what the flow can do.
    """
    told = Describing(components, takes, gives, longest, events, able)
    run_id = {"name": "run_id", "in": "path", "required": True, "schema": RUN_ID, "example": ID}
    below = {"parameters": [run_id]}
    return {
        "/v1/runs": {"post": told.start(), "get": told.listing()},
        "/v1/runs/{run_id}": {**below, "get": told.retrieve()},
        "/v1/runs/{run_id}/events": {**below, "get": told.follow()},
        "/v1/runs/{run_id}/cancel": {**below, "post": told.cancel()},
    }
