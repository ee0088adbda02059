"""The document says all that there is: endpoints, fields, examples, errors, and the flow's own types."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import jsonschema
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field

from millrace import Service
from millrace.launchers.api import chat_requests as chats
from millrace.launchers.api import response_requests as responses
from millrace.launchers.api.run_requests import FIELDS, SETTINGS
from millrace.streaming import events
from millrace.streaming.events import Event
from tests.launchers.api.schemas.described import (
    EMBEDDINGS,
    ENDPOINTS,
    GET,
    POST,
    Data,
    Question,
    answer,
    check,
    check_stream,
)
from tests.launchers.support import PATH, RESPONSES, question, running
from tests.support.servers import serving


async def strict(question: Question) -> Data:
    return await answer(question)


async def spell(text: Annotated[str, Field(max_length=20)]) -> AsyncIterator[str]:
    for letter in text:
        yield letter


async def numbers(count: int) -> AsyncIterator[int]:
    for i in range(count):
        yield i


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        yield from ((method, path, item[method]) for method in (GET, POST) if method in item)


def contents(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All bodies that are described, of requests and of answers."""
    for method, path, operation in operations(document):
        asked = operation.get("requestBody", {}).get("content", {})
        yield from ((f"{method} {path}", body) for body in asked.values())
        for status, told in operation["responses"].items():
            yield from ((f"{method} {path} {status}", body) for body in told.get("content", {}).values())


class TestWhatThereIs:
    def test_every_endpoint(self, document: dict[str, Any]) -> None:
        assert document["openapi"].startswith("3.1")
        assert {(method, path) for method, path, _ in operations(document)} == ENDPOINTS
        names = [operation["operationId"] for _, _, operation in operations(document)]
        assert len(set(names)) == len(names)
        used = {tag for _, _, operation in operations(document) for tag in operation["tags"]}
        assert used == {tag["name"] for tag in document["tags"]}

    def test_every_field_of_a_request(self, document: dict[str, Any]) -> None:
        schemas = document["components"]["schemas"]
        for name, module in (("ChatCompletionRequest", chats), ("ResponseRequest", responses)):
            known = {*module.NUMBERS, *module.HARMLESS, *module.NEUTRAL, *module.OWN}
            assert set(schemas[name]["properties"]) == known
        assert set(schemas["RunRequest"]["properties"]) == set(FIELDS)
        sampling = schemas["RunRequest"]["properties"]["sampling"]
        assert set(sampling["properties"]) == set(SETTINGS)
        assert all("description" in field for field in schemas["RunRequest"]["properties"].values())

    def test_every_pointer_leads_somewhere(self, document: dict[str, Any]) -> None:
        def pointers(part: Any) -> Iterator[str]:
            if isinstance(part, dict):
                if isinstance(part.get("$ref"), str):
                    yield part["$ref"]
                part = list(part.values())
            if isinstance(part, list):
                for item in part:
                    yield from pointers(item)

        schemas = document["components"]["schemas"]
        found = set(pointers(document))
        assert found == {pointer for pointer in found if pointer.rpartition("/")[2] in schemas}
        assert "$defs" not in json.dumps(document)

    def test_every_schema_is_one(self, document: dict[str, Any]) -> None:
        for schema in document["components"]["schemas"].values():
            jsonschema.Draft202012Validator.check_schema(schema)

    def test_every_example_fits_its_schema(self, document: dict[str, Any]) -> None:
        for where, body in contents(document):
            told = [example["value"] for example in body.get("examples", {}).values()]
            assert told or "example" in body, where
            for example in [*told, *([body["example"]] if "example" in body else [])]:
                if "schema" in body:
                    check(example, body["schema"], document)

    def test_every_event_of_an_example_stream_is_described(self, document: dict[str, Any]) -> None:
        streams = [body for _, body in contents(document) if "itemSchema" in body]
        assert len(streams) == 4
        for body in streams:
            check_stream(body["example"], body["itemSchema"], document)

    def test_errors_say_their_status_and_their_headers(self, document: dict[str, Any]) -> None:
        for method, path, operation in operations(document):
            assert list(operation["responses"]) == sorted(operation["responses"])
            if method == POST and "requestBody" in operation:
                assert set(operation["responses"]) >= {"200", "400", "403", "408", "413", "415"}, path
        answers = document["paths"]["/v1/runs"]["post"]["responses"]
        assert set(answers["429"]["headers"]) == {"Retry-After", "retry-after-ms"}
        assert "x-run-id" in answers["200"]["headers"]
        assert "x-run-id" in answers["202"]["headers"]

    def test_every_kind_of_event(self, document: dict[str, Any]) -> None:
        schemas = document["components"]["schemas"]
        kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event)}
        told = schemas["RunEvent"]["discriminator"]["mapping"]
        assert set(told) == {kind.kind for kind in kinds - {Event}}
        for kind in kinds - {Event}:
            own = {field.name for field in dataclasses.fields(kind)}
            assert set(schemas[kind.__name__]["properties"]) == {"kind", "seq", "path", "time"} | own


class TestTypes:
    def test_the_flows_own_stand_in_the_request_and_in_the_result(self, document: dict[str, Any]) -> None:
        schemas = document["components"]["schemas"]
        taken = schemas["RunRequest"]["properties"]["input"]
        either = [{"$ref": "#/components/schemas/Question"}, {"type": "string"}]
        assert taken == {"anyOf": either, "description": FIELDS["input"]}
        assert schemas["Question"]["properties"]["hits"]["minimum"] == 1
        given = schemas["Run"]["properties"]["result"]
        assert given["$ref"] == "#/components/schemas/Data-2"
        assert schemas["Data-2"]["required"] == ["text", "score"]
        assert schemas["Data"]["properties"]["kind"] == {"type": "string", "enum": ["data"]}

    @pytest.mark.parametrize(
        ("flow", "taken", "given"),
        [
            (spell, {"type": "string", "maxLength": 20}, {"type": "string"}),
            (numbers, {"type": "integer"}, {"type": "array", "items": {"type": "integer"}}),
            (lambda x: x, {}, {}),
        ],
    )
    def test_simple_ones(self, flow: Any, taken: dict[str, Any], given: dict[str, Any]) -> None:
        schemas = Service(flow).app.openapi()["components"]["schemas"]
        told = schemas["RunRequest"]["properties"]["input"]
        assert {key: part for key, part in told.items() if key != "description"} == taken
        told = schemas["Run"]["properties"]["result"]
        assert {key: part for key, part in told.items() if key != "description"} == given

    def test_a_flow_that_takes_no_text_has_no_chat(self) -> None:
        document = Service(strict).app.openapi()
        assert not {PATH, RESPONSES, EMBEDDINGS} & set(document["paths"])
        taken = document["components"]["schemas"]["RunRequest"]["properties"]["input"]
        assert taken == {"$ref": "#/components/schemas/Question", "description": FIELDS["input"]}
        with running(strict) as server:
            status, _, answer = server.post(question())
        assert (status, answer["error"]["code"]) == (400, "unsupported_flow")
        assert "POST /v1/runs" in answer["error"]["message"]


class TestGuarded:
    def test_keys(self) -> None:
        document = Service(answer, api_keys=["sk-one"]).app.openapi()
        assert set(document["components"]["securitySchemes"]) == {"key", "password"}
        for _, path, operation in operations(document):
            ways = [name for way in operation["security"] for name in way]
            if path.startswith("/health/"):
                assert ways == []
                assert "401" not in operation["responses"]
            else:
                assert ways == ["key"] if path.startswith("/v1/") else ["key", "password"]
                assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]
        assert "403" not in document["paths"]["/status"]["get"]["responses"]
        assert "sk-one" not in json.dumps(document)

    def test_names_of_the_machine(self, document: dict[str, Any]) -> None:
        assert "securitySchemes" not in document["components"]
        assert "403" in document["paths"]["/status"]["get"]["responses"]
        assert "403" not in document["paths"]["/health/live"]["get"]["responses"]

    def test_events_that_may_all_be_seen(self) -> None:
        some, everything = (
            Service(answer, insecure=True, events=events).app.openapi() for events in ("output", "all")
        )
        for document, allowed in ((some, ["output"]), (everything, ["output", "all"])):
            field = document["components"]["schemas"]["RunRequest"]["properties"]["events"]
            assert {"type": "string", "enum": allowed} in field["anyOf"]
            answers = document["paths"]["/v1/runs"]["post"]["responses"]
            assert ("403" in answers) == (allowed == ["output"])


class Run(BaseModel):
    """A class of the user's that is called what one of ours is called."""

    distance: int


class TestWithOthers:
    def test_routes_that_a_user_adds_are_described_too(self) -> None:
        app = Service(answer).app

        @app.get("/runs/{name}", tags=["Mine"])
        async def found(name: str) -> Run:
            return Run(distance=len(name))

        document = app.openapi()
        schemas = document["components"]["schemas"]
        (told,) = document["paths"]["/runs/{name}"]["get"]["responses"]["200"]["content"].values()
        assert told["schema"] == {"$ref": "#/components/schemas/Run"}
        assert schemas["Run"]["required"] == ["distance"]
        (told,) = document["paths"]["/v1/runs/{run_id}"]["get"]["responses"]["200"]["content"].values()
        assert told["schema"] == {"$ref": "#/components/schemas/Run-2"}
        assert "session" in schemas["Run-2"]["required"]

    def test_mounted_it_says_where(self) -> None:
        outer = FastAPI()
        outer.mount("/flows", Service(answer).app)
        with serving(outer) as server, server.connect() as connection:
            connection.send("GET", "/flows/openapi.json")
            connection.reply()
            document = connection.json()
        assert document["servers"] == [{"url": "/flows"}]
        assert PATH in document["paths"]
