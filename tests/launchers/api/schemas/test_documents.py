"""The document says all that there is, and what it says is so: its examples are sent, answers are held against it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import jsonschema
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field

from millrace import Service
from millrace.launchers.api.chat_requests import HARMLESS, NEUTRAL, NUMBERS, OWN
from millrace.launchers.api.run_requests import FIELDS, SETTINGS
from tests.launchers.support import PATH, Running, question, running
from tests.support.servers import serving

POST, GET = ("post", "get")

ENDPOINTS = {
    (POST, "/v1/chat/completions"),
    (GET, "/v1/models"),
    (GET, "/v1/models/{name}"),
    (POST, "/v1/runs"),
    (GET, "/v1/runs"),
    (GET, "/v1/runs/{run_id}"),
    (GET, "/v1/runs/{run_id}/events"),
    (POST, "/v1/runs/{run_id}/cancel"),
    (GET, "/health/live"),
    (GET, "/health/ready"),
    (GET, "/status"),
    (GET, "/metrics"),
}


class Question(BaseModel):
    """What is asked."""

    text: str = Field(examples=["What is a Warp?"])
    hits: int = Field(3, ge=1)


class Data(BaseModel):
    """Is called what one of our own schemas is called."""

    text: str
    score: float


async def answer(question: Question | str) -> Data:
    if isinstance(question, str):
        question = Question(text=question, hits=1)
    return Data(text=question.text, score=question.hits)


async def strict(question: Question) -> Data:
    return await answer(question)


async def spell(text: Annotated[str, Field(max_length=20)]) -> AsyncIterator[str]:
    for letter in text:
        yield letter


async def numbers(count: int) -> AsyncIterator[int]:
    for i in range(count):
        yield i


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(answer) as server:
        yield server


@pytest.fixture(scope="module")
def document(server: Running) -> dict[str, Any]:
    found: dict[str, Any] = server.get("/openapi.json")[1]
    return found


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


def check(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    whole = {"allOf": [schema], "components": document["components"]}
    jsonschema.validate(value, whole, jsonschema.Draft202012Validator)


def check_stream(text: str, schema: dict[str, Any], document: dict[str, Any]) -> None:
    """Holds each event of a stream, and what it carries, against the schema of one."""
    frames = [frame for frame in text.split("\n\n") if frame]
    assert frames
    data = schema["properties"]["data"]
    carried = data.get("anyOf", [data])[0]["contentSchema"]
    for frame in frames:
        event = dict(line.split(": ", 1) for line in frame.splitlines())
        check(event, schema, document)
        if event["data"] != "[DONE]":
            check(json.loads(event["data"]), carried, document)


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
        known = {*NUMBERS, *HARMLESS, *NEUTRAL, *OWN}
        assert set(schemas["ChatCompletionRequest"]["properties"]) == known
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
        assert len(streams) == 3
        for body in streams:
            check_stream(body["example"], body["itemSchema"], document)

    def test_errors_say_their_status_and_their_headers(self, document: dict[str, Any]) -> None:
        for method, path, operation in operations(document):
            assert list(operation["responses"]) == sorted(operation["responses"])
            if method == POST:
                assert set(operation["responses"]) >= {"200", "400", "403", "408", "413", "415"}, path
        answers = document["paths"]["/v1/runs"]["post"]["responses"]
        assert set(answers["429"]["headers"]) == {"Retry-After", "retry-after-ms"}
        assert "x-run-id" in answers["200"]["headers"]
        assert "x-run-id" in answers["202"]["headers"]


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
        assert schemas["Data"]["properties"]["kind"] == {"enum": ["data"]}

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
        assert PATH not in document["paths"]
        taken = document["components"]["schemas"]["RunRequest"]["properties"]["input"]
        assert taken == {"$ref": "#/components/schemas/Question", "description": FIELDS["input"]}
        with running(strict) as server:
            status, _, answer = server.post(question())
        assert (status, answer["error"]["code"]) == (400, "unsupported_content")
        assert "POST /v1/runs" in answer["error"]["message"]


class TestWhatIsSaidIsSo:
    @pytest.mark.parametrize("path", [path for method, path in sorted(ENDPOINTS) if method == POST])
    def test_examples_of_requests_work(self, server: Running, document: dict[str, Any], path: str) -> None:
        operation = document["paths"][path]["post"]
        for name, example in operation["requestBody"]["content"]["application/json"]["examples"].items():
            place = path.replace("{run_id}", self.started(server))
            with server.connect() as connection:
                connection.send("POST", place, example["value"])
                reply = connection.reply()
                told = operation["responses"][str(reply.status)]
                assert reply.status in (200, 202), name
                self.check_answer(reply.headers["content-type"], connection.read(), told, document)

    @pytest.mark.parametrize("path", [path for method, path in sorted(ENDPOINTS) if method == GET])
    def test_answers_are_as_described(self, server: Running, document: dict[str, Any], path: str) -> None:
        place = path.replace("{run_id}", self.started(server)).replace("{name}", "answer")
        with server.connect() as connection:
            connection.send("GET", place)
            reply = connection.reply()
            told = document["paths"][path]["get"]["responses"][str(reply.status)]
            assert reply.status == 200
            self.check_answer(reply.headers["content-type"], connection.read(), told, document)

    def started(self, server: Running) -> str:
        with server.connect() as connection:
            connection.send("POST", "/v1/runs", {"input": {"text": "What is a Warp?"}})
            connection.read()
            return connection.reply().headers["x-run-id"]

    def check_answer(self, kind: str, body: bytes, told: dict[str, Any], document: dict[str, Any]) -> None:
        content = told["content"][kind.partition(";")[0]]
        if kind == "application/json":
            check(json.loads(body), content["schema"], document)
        elif kind.startswith("text/event-stream"):
            check_stream(body.decode(), content["itemSchema"], document)


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
            assert {"enum": allowed} in field["anyOf"]
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
