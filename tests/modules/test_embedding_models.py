"""LocalEmbedding and RemoteEmbedding as steps: twins, over real servers that stand on the same encoder.

The servers are a small one of Starlette's, as others' are, and our own service.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from millrace import LocalEmbedding, Parallel, Pipeline, RemoteEmbedding, Warp
from millrace.modules.embeddings import EmbeddingEngine, RemoteEmbeddingEngine
from millrace.streaming import (
    ContextLengthExceeded,
    ModelError,
    Progress,
    RunFinished,
    RunTimeout,
    TokenUsage,
)
from tests.launchers.support import Running, running
from tests.support.encoders import GatedEncoderEngine, gated_encoder, save, tiny_encoder
from tests.support.gated import Gate
from tests.support.leaks import eventually
from tests.support.servers import Served, serving

TEXTS = ["the mill", "water of a river turns the wheel", "corn"]
Embedding = LocalEmbedding | RemoteEmbedding


def application(engine: EmbeddingEngine) -> Starlette:
    """`/v1/embeddings` as small as it can be: a client that leaves ends the work for it."""

    async def embeddings(request: Request) -> JSONResponse:
        body = await request.json()
        work = asyncio.create_task(engine.embed(body["input"]))
        leaving = asyncio.create_task(request.receive())
        try:
            await asyncio.wait([work, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return JSONResponse({"error": "the client has left"}, 499)
            found = work.result()
        except ContextLengthExceeded as error:
            told = {"message": str(error), "code": "context_length_exceeded"}
            return JSONResponse({"error": told}, 400)
        finally:
            work.cancel()
            leaving.cancel()
        data = [{"index": at, "embedding": vector} for at, vector in enumerate(found.vectors)]
        return JSONResponse({"data": data, "usage": {"prompt_tokens": found.usage.prompt_tokens}})

    return Starlette(routes=[Route("/v1/embeddings", embeddings, methods=["POST"])])


@pytest.fixture(scope="module")
def encoder() -> Iterator[EmbeddingEngine]:
    engine = EmbeddingEngine(tiny_encoder)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def served(encoder: EmbeddingEngine) -> Iterator[Served]:
    with serving(application(encoder)) as server:
        yield server


@pytest.fixture(scope="module")
def service(encoder: EmbeddingEngine) -> Iterator[Running]:
    with running(LocalEmbedding(encoder, name="tiny")) as server:
        yield server


@pytest.fixture(params=["local", "remote", "service"])
def embedding(
    request: pytest.FixtureRequest, encoder: EmbeddingEngine, served: Served, service: Running
) -> Iterator[Embedding]:
    if request.param == "local":
        yield LocalEmbedding(encoder)
        return
    url = served.url if request.param == "remote" else service.url
    remote = RemoteEmbedding(f"{url}/v1", "tiny", retries=0)
    yield remote
    asyncio.run(remote.release())


@pytest.fixture(scope="module")
def expected(encoder: EmbeddingEngine) -> list[list[float]]:
    return asyncio.run(encoder.embed(TEXTS)).vectors


def close(found: Any, wanted: Any) -> bool:
    return max(abs(a - b) for a, b in zip(found, wanted, strict=True)) < 1e-9


def test_one_text_or_many(embedding: Embedding, expected: list[list[float]]) -> None:
    one, many = embedding(TEXTS[0]), embedding(TEXTS)
    assert close(one, expected[0])
    assert len(many) == 3
    assert all(close(found, wanted) for found, wanted in zip(many, expected, strict=True))
    assert embedding(tuple(TEXTS)) == many
    assert embedding([]) == []
    assert close(asyncio.run(embedding.acall("corn")), expected[2])


@pytest.mark.parametrize("wrong", [5, None, ["a", 5], {"a": 1}])
def test_what_is_no_text(embedding: Embedding, wrong: Any) -> None:
    with pytest.raises(TypeError, match="a text or a list of texts"):
        embedding(wrong)


def test_in_flows(embedding: Embedding, expected: list[list[float]]) -> None:
    assert Pipeline(str.strip, embedding, len)(" the mill ") == 32
    assert all(map(close, Warp(embedding)(TEXTS), expected))
    both = Parallel(text=str.upper, vector=embedding)("corn")
    assert both["text"] == "CORN"
    assert close(both["vector"], expected[2])
    last = list(embedding.stream("the mill"))[-1]
    assert isinstance(last, RunFinished)
    assert last.usage == TokenUsage(4, 0)
    assert close(last.result, expected[0])


def test_a_text_that_is_too_long(embedding: Embedding) -> None:
    with pytest.raises(ContextLengthExceeded, match="102 tokens, more than the 64"):
        embedding("the " * 100)


def test_a_prompt_stands_before_each_text(encoder: EmbeddingEngine, served: Served) -> None:
    plain = LocalEmbedding(encoder)
    for prompted in (
        LocalEmbedding(encoder, prompt="query "),
        RemoteEmbedding(RemoteEmbeddingEngine(f"{served.url}/v1", "tiny"), prompt="query "),
    ):
        assert close(prompted("mill"), plain("query mill"))
        assert not close(prompted("mill"), plain("mill"))
        asyncio.run(prompted.engine.aclose()) if isinstance(prompted, RemoteEmbedding) else None
    with pytest.raises(TypeError, match="prompt=None"):
        LocalEmbedding(encoder, prompt=None)  # type: ignore[arg-type]


# ---------------------------------------------------------------- stops


@contextmanager
def gated() -> Iterator[tuple[Gate, GatedEncoderEngine]]:
    gate = Gate()
    engine = gated_encoder(gate, batch_tokens=16)
    engine.start()
    eventually(lambda: engine.status().ready, timeout=60)
    yield gate, engine
    engine.close()


@asynccontextmanager
async def subject(kind: str, engine: GatedEncoderEngine) -> AsyncIterator[Embedding]:
    if kind == "local":
        yield LocalEmbedding(engine)
        return
    ours = kind == "service"
    served = running(LocalEmbedding(engine, name="tiny")) if ours else serving(application(engine))
    with served as server:
        remote = RemoteEmbedding(f"{server.url}/v1", "tiny", retries=0)
        yield remote
        await remote.release()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["local", "remote", "service"])
@pytest.mark.parametrize("way", ["outer", "deadline"])
async def test_a_stop_ends_the_work_with_the_forward_at_hand(kind: str, way: str) -> None:
    with gated() as (gate, engine):
        async with subject(kind, engine) as embedding:
            timeout = 1.0 if way == "deadline" else None
            task = asyncio.create_task(embedding.acall(["the mill"] * 100, timeout=timeout))
            for _ in range(3):
                await gate.areached()
                gate.open(1)
            await gate.areached()
            if way == "outer":
                task.cancel()
            with pytest.raises(asyncio.CancelledError if way == "outer" else RunTimeout):
                await task
            await asyncio.to_thread(eventually, lambda: engine.status().running == 0)
            gate.open_all()
            assert len(await embedding.acall("corn")) == 32
            assert gate.forwards.left == 5, "the one at hand, and the next one's"


# ---------------------------------------------------------------- its life


def test_it_loads_at_its_first_use_and_says_so(tmp_path: Path, expected: list[list[float]]) -> None:
    save(tmp_path)
    embedding = LocalEmbedding(tmp_path)
    assert embedding.status().state == "cold"
    events = list(embedding.stream("corn"))
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert len(fractions) > 2
    assert fractions == sorted(fractions)
    assert close(events[-1].result, expected[2])  # type: ignore[attr-defined]
    assert (embedding.status().state, embedding.status().context_length) == ("ready", 64)
    asyncio.run(embedding.release())
    assert embedding.status().state == "closed"
    assert close(embedding("corn"), expected[2]), "it is set up again"
    asyncio.run(embedding.release())


def test_an_engine_that_was_given_stays_open(encoder: EmbeddingEngine) -> None:
    embedding = LocalEmbedding(encoder)
    embedding("corn")
    asyncio.run(embedding.release())
    assert encoder.status().state == "ready"


def test_what_is_no_source(tmp_path: Path) -> None:
    for source in (None, 5, ""):
        with pytest.raises(ModelError, match="path of a directory"):
            LocalEmbedding(source)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="there is no directory"):
        LocalEmbedding(tmp_path / "nothing")("Hi")
    with pytest.raises(ValueError, match="give the model's name too"):
        RemoteEmbedding("http://localhost:8000/v1")


def test_making_one_loads_nothing() -> None:
    code = (
        "import sys; from millrace import LocalEmbedding, RemoteEmbedding; LocalEmbedding('a/b'); "
        "RemoteEmbedding('http://localhost/v1', 'a'); print(sorted({'httpx', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
