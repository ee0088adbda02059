"""/v1/embeddings as the openai client sees it, on a real tiny encoder."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from millrace import Limits, LocalEmbedding, Pipeline
from millrace.launchers.api.embedding_requests import HARMLESS, NEUTRAL, OWN, EmbeddingRequest
from millrace.launchers.api.refusals import Refusal
from millrace.modules.embeddings import EmbeddingEngine
from millrace.streaming import TokenUsage
from tests.launchers.support import Asking, Running, client_of, running
from tests.support.encoders import GatedEncoderEngine, gated_encoder, tiny_encoder
from tests.support.gated import Gate
from tests.support.leaks import eventually

PATH = "/v1/embeddings"
TEXTS = ["the mill", "water of a river turns the wheel", "corn"]


class Requests:
    """Bodies, parsed."""

    @staticmethod
    def parse(**body: Any) -> EmbeddingRequest:
        return EmbeddingRequest.parse({"input": "Hi", **body}, 600)

    @classmethod
    def refused(cls, **body: Any) -> Refusal:
        with pytest.raises(Refusal) as refusal:
            cls.parse(**body)
        assert refusal.value.status == 400
        return refusal.value


class TestRequests(Requests):
    def test_each_parameter_of_the_client_is_known(self) -> None:
        client = openai.OpenAI(api_key="none", base_url="http://localhost/v1")
        for name in inspect.signature(client.embeddings.create).parameters:
            if not name.startswith("extra_") and name != "timeout":
                assert sum(name in kind for kind in (HARMLESS, NEUTRAL, OWN)) == 1

    @pytest.mark.parametrize(
        ("given", "param", "told"),
        [
            (None, "input", "input is missing"),
            ([], "input", "input is empty"),
            (5, "input", "text or a list of texts"),
            ({"a": 1}, "input", "text or a list of texts"),
            ([1, 2, 3], "input", "token ids"),
            ([[1, 2], [3]], "input[0]", "token ids"),
            (["a", [3]], "input[1]", "token ids"),
            (["a", None], "input[1]", "must be text"),
            ("a\ud800", "input", "half a surrogate pair"),
            (["a", "b\ud800"], "input[1]", "half a surrogate pair"),
            (["a"] * 2049, "input", "may have 2048 at most"),
        ],
    )
    def test_inputs_that_are_refused(self, given: Any, param: str, told: str) -> None:
        refusal = self.refused(input=given)
        assert refusal.param == param
        assert told in refusal.message

    def test_other_parameters(self) -> None:
        assert "have the length that the model gives them" in self.refused(dimensions=8).message
        assert self.refused(encoding_format="int8").param == "encoding_format"
        assert self.refused(encoding_format=["float"]).param == "encoding_format"
        assert self.refused(temperature=1).code == "unknown_parameter"
        assert self.refused(timeout=601).param == "timeout"
        assert self.refused(model=5).param == "model"
        nothing = dict.fromkeys(["dimensions", "encoding_format", "timeout", "model", "user"])
        assert self.parse(**nothing) == self.parse(user="me")


@pytest.fixture(scope="module")
def encoder() -> Iterator[EmbeddingEngine]:
    engine = EmbeddingEngine(tiny_encoder)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def server(encoder: EmbeddingEngine) -> Iterator[Running]:
    with running(LocalEmbedding(encoder, name="tiny")) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with client_of(server) as client:
        yield client


@pytest.fixture(scope="module")
def expected(encoder: EmbeddingEngine) -> list[list[float]]:
    return asyncio.run(encoder.embed(TEXTS)).vectors


class TestOpenAIClient:
    def test_as_the_client_asks_by_itself(
        self, client: openai.OpenAI, expected: list[list[float]], encoder: EmbeddingEngine
    ) -> None:
        answer = client.embeddings.create(model="tiny", input=TEXTS)  # in base64
        assert [item.index for item in answer.data] == [0, 1, 2]
        for item, vector in zip(answer.data, expected, strict=True):
            assert item.embedding == pytest.approx(vector, abs=1e-7)
        assert (answer.object, answer.model, answer.data[0].object) == ("list", "tiny", "embedding")
        tokens = asyncio.run(encoder.embed(TEXTS)).usage
        assert TokenUsage(answer.usage.prompt_tokens, 0) == tokens
        assert answer.usage.total_tokens == tokens.prompt_tokens > 0

    def test_as_numbers(self, client: openai.OpenAI, expected: list[list[float]]) -> None:
        answer = client.embeddings.create(model="tiny", input=TEXTS[0], encoding_format="float")
        (item,) = answer.data
        assert item.embedding == pytest.approx(expected[0], abs=1e-9)

    def test_refusals(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="this server has 'tiny'"):
            client.embeddings.create(model="other", input="a")
        with pytest.raises(openai.BadRequestError, match="dimensions is not supported"):
            client.embeddings.create(model="tiny", input="a", dimensions=8)
        with pytest.raises(openai.BadRequestError, match="token ids"):
            client.embeddings.create(model="tiny", input=[[1, 2]])
        with pytest.raises(openai.BadRequestError, match="POST /v1/embeddings") as text:
            client.responses.create(model="tiny", input="a")
        assert text.value.code == "unsupported_flow"

    def test_a_text_that_is_too_long(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="102 tokens, more than the 64") as error:
            client.embeddings.create(model="tiny", input="the " * 100)
        assert (error.value.code, error.value.param) == ("context_length_exceeded", "input")


def test_what_is_kept_of_the_run(server: Running) -> None:
    _, headers, _ = server.post({"input": TEXTS}, path=PATH)
    run = server.get(f"/v1/runs/{headers['x-run-id']}")[1]
    assert (run["status"], run["result"]) == ("done", {"vectors": 3, "dimensions": 32})
    assert run["usage"]["prompt_tokens"] > 0


def test_other_methods(server: Running) -> None:
    status, answer = server.get(PATH)
    assert (status, answer["error"]["code"]) == (405, "method_not_allowed")


def test_at_the_end_of_a_pipeline(encoder: EmbeddingEngine, expected: list[list[float]]) -> None:
    flow = Pipeline(str.strip, LocalEmbedding(encoder), name="stripped")
    with running(flow) as server, client_of(server) as client:
        answer = client.embeddings.create(model="stripped", input=[f"  {text} " for text in TEXTS] * 20)
        one = client.embeddings.create(model="stripped", input=" the mill")
    assert [item.index for item in answer.data] == list(range(60))
    for item, vector in zip(answer.data, expected * 20, strict=True):
        assert item.embedding == pytest.approx(vector, abs=1e-7)
    assert one.data[0].embedding == pytest.approx(expected[0], abs=1e-7)


def test_a_pipeline_that_fails(encoder: EmbeddingEngine) -> None:
    def fails(text: str) -> str:
        raise ValueError("the password is 123")

    with running(Pipeline(fails, LocalEmbedding(encoder), name="failing")) as server:
        status, headers, answer = server.post({"input": TEXTS}, path=PATH)
        eventually(server.idle)
        assert server.get(f"/v1/runs/{headers['x-run-id']}")[1]["name"] == "failing"
    assert (status, answer["error"]["code"]) == (500, "flow_error")
    assert "password" not in str(answer)


def test_what_is_no_vector() -> None:
    def several(text: str) -> list[str]:
        return [text, text]

    engine = EmbeddingEngine(tiny_encoder)
    with running(Pipeline(several, LocalEmbedding(engine))) as server:
        status, _, answer = server.post({"input": "a"}, path=PATH)
    engine.close()
    assert (status, answer["error"]["code"]) == (500, "model_error")


# ---------------------------------------------------------------- stops


@contextmanager
def gated(pipeline: bool, **options: Any) -> Iterator[tuple[Gate, GatedEncoderEngine, Running]]:
    """A service whose encoder makes a forward for every two short texts, when the gate lets it."""
    gate = Gate()
    engine = gated_encoder(gate, batch_tokens=8, limits=Limits(running=64))
    embedding = LocalEmbedding(engine)
    with running(Pipeline(str.strip, embedding) if pipeline else embedding, **options) as server:
        eventually(lambda: engine.status().ready, timeout=60)
        yield gate, engine, server
        engine.close()


def ask(server: Running, count: int) -> Asking:
    connection = server.connect()
    connection.send("POST", PATH, {"input": ["the mill"] * count})
    return connection


@pytest.mark.parametrize("pipeline", [False, True], ids=["alone", "pipeline"])
def test_who_leaves_in_mid_batch_stops_it(pipeline: bool) -> None:
    with gated(pipeline) as (gate, engine, server):
        connection = ask(server, 200)
        for _ in range(3):
            eventually(gate.is_reached)
            gate.open(1)
        eventually(gate.is_reached)
        connection.close()
        eventually(lambda: engine.status().running == 0)
        gate.open_all()
        eventually(server.idle)
        assert gate.forwards.left <= 5, "the three, the one at hand, and at most one more"
        status, _, _ = server.post({"input": "the mill"}, path=PATH)
        assert status == 200


def test_who_leaves_the_line_never_starts() -> None:
    with gated(False, limits=Limits(running=1, waiting=1)) as (gate, _, server):
        first = ask(server, 1)
        eventually(gate.is_reached)
        second = ask(server, 1)
        eventually(lambda: server.service.admission.waiting == 1)
        status, headers, answer = server.post({"input": "a"}, path=PATH)
        assert (status, answer["error"]["code"]) == (429, "overloaded")
        assert "retry-after" in headers
        second.close()
        eventually(lambda: server.service.admission.waiting == 0)
        gate.open_all()
        assert first.reply().status == 200
        first.close()
        eventually(server.idle)
        assert gate.forwards.left == 1


def test_a_deadline() -> None:
    with gated(False) as (gate, engine, server):
        status, _, answer = server.post({"input": TEXTS, "timeout": 0.1}, path=PATH)
        assert (status, answer["error"]["code"]) == (504, "timeout")
        gate.open_all()
        eventually(lambda: engine.status().running == 0)


def test_a_client_that_leaves_is_not_waited_for_where_runs_go_on() -> None:
    with gated(False, on_disconnect="continue") as (gate, engine, server):
        connection = ask(server, 200)
        eventually(gate.is_reached)
        connection.close()
        eventually(lambda: engine.status().running == 0)
        gate.open_all()
        eventually(server.idle)
        assert gate.forwards.left <= 2
