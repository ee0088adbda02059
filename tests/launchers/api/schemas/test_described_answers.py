"""What the document says is so: its examples are sent, and answers are held against it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millrace import LocalEmbedding, Pipeline, Service
from millrace.launchers.api import embedding_requests as embeddings
from millrace.modules.embeddings import EmbeddingEngine
from millrace.streaming import Logprobs, Progress, ReasoningDelta, ToolCall, ToolCallDelta, Usage, emit
from tests.launchers.api.schemas.described import EMBEDDINGS, ENDPOINTS, GET, POST, check, check_stream
from tests.launchers.support import PATH, RESPONSES, Running, question, running
from tests.support.encoders import tiny_encoder


def check_answer(kind: str, body: bytes, told: dict[str, Any], document: dict[str, Any]) -> None:
    content = told["content"][kind.partition(";")[0]]
    if kind == "application/json":
        check(json.loads(body), content["schema"], document)
    elif kind.startswith("text/event-stream"):
        check_stream(body.decode(), content["itemSchema"], document)


class Asking:
    """Holds answers against what the document says of them."""

    def check_examples(self, server: Running, document: dict[str, Any], path: str, run_id: str = "") -> None:
        """Sends every example of a request, and the bare request where nothing need be sent."""
        operation = document["paths"][path]["post"]
        asked = operation.get("requestBody", {"content": {"application/json": {}}})
        examples = asked["content"]["application/json"].get("examples", {"nothing": {}})
        for name, example in examples.items():
            with server.connect() as connection:
                connection.send("POST", placed(path, run_id), example.get("value"))
                reply = connection.reply()
                told = operation["responses"][str(reply.status)]
                assert reply.status in (200, 202), name
                check_answer(reply.headers["content-type"], connection.read(), told, document)


def placed(path: str, run_id: str) -> str:
    return path.replace("{run_id}", run_id).replace("{response_id}", f"resp_{run_id}")


class TestWhatIsSaidIsSo(Asking):
    @pytest.mark.parametrize("path", [path for method, path in sorted(ENDPOINTS) if method == POST])
    def test_examples_of_requests_work(self, server: Running, document: dict[str, Any], path: str) -> None:
        self.check_examples(server, document, path, self.started(server))

    @pytest.mark.parametrize("path", [path for method, path in sorted(ENDPOINTS) if method == GET])
    def test_answers_are_as_described(self, server: Running, document: dict[str, Any], path: str) -> None:
        place = placed(path, self.started(server)).replace("{name}", "answer")
        with server.connect() as connection:
            connection.send("GET", place)
            reply = connection.reply()
            told = document["paths"][path]["get"]["responses"][str(reply.status)]
            assert reply.status == 200
            check_answer(reply.headers["content-type"], connection.read(), told, document)

    def started(self, server: Running) -> str:
        with server.connect() as connection:
            connection.send("POST", "/v1/runs", {"input": {"text": "What is a Warp?"}})
            connection.read()
            return connection.reply().headers["x-run-id"]


class TestEmbeddings(Asking):
    def test_a_flow_of_vectors_has_embeddings_and_no_chat(self) -> None:
        for flow in (LocalEmbedding("nowhere/at-all"), Pipeline(str.strip, LocalEmbedding("nowhere/at-all"))):
            document = Service(flow).app.openapi()
            assert not {PATH, RESPONSES} & set(document["paths"])
            known = {*embeddings.HARMLESS, *embeddings.NEUTRAL, *embeddings.OWN}
            assert set(document["components"]["schemas"]["EmbeddingRequest"]["properties"]) == known

    def test_examples_of_requests_work(self) -> None:
        engine = EmbeddingEngine(tiny_encoder)
        with running(LocalEmbedding(engine)) as server:
            document = server.get("/openapi.json")[1]
            self.check_examples(server, document, EMBEDDINGS)
            for body in document["paths"][EMBEDDINGS]["post"]["responses"]["200"]["content"].values():
                check(body["example"], body["schema"], document)
        engine.close()


async def chatty(text: str) -> AsyncIterator[Any]:
    """Says all that an answer may have."""
    yield ReasoningDelta("hm")
    yield ToolCallDelta(0, "1", "look", '{"a":')
    yield ToolCallDelta(0, None, None, "1}")
    yield ToolCall("1", "look", '{"a":1}')
    yield Logprobs([{"token": "a", "bytes": [97], "logprob": -0.25, "top_logprobs": []}])
    yield "a"
    yield 3
    emit(Progress(0.5, "half"))
    emit(Usage(1, 2))
    yield "b"
    if text == "fail":
        raise ValueError(text)


class TestRichAnswers:
    @pytest.mark.parametrize("text", ["go", "fail"])
    def test_all_that_may_be_said_is_described(self, text: str) -> None:
        with running(chatty, events="all") as server:
            document = server.get("/openapi.json")[1]
            for path, body in (
                (PATH, question(text)),
                (PATH, question(text, n=2)),
                ("/v1/runs", {"input": text}),
            ):
                for stream in (False, True):
                    with server.connect() as connection:
                        connection.send("POST", path, {**body, "stream": stream})
                        reply = connection.reply()
                        told = document["paths"][path]["post"]["responses"][str(reply.status)]
                        check_answer(reply.headers["content-type"], connection.read(), told, document)
                        assert reply.status == (500 if (text, stream) == ("fail", False) else 200)
