"""What a flow is for: each endpoint refuses the flows that it cannot use, and says where to go instead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from millrace import If, LocalEmbedding, LocalModel, Message, Parallel, Pipeline, RemoteEmbedding, Warp, step
from millrace.flow.functions import as_step
from millrace.launchers.api.purposes import Purpose, conversation, embedding, is_embedding
from millrace.launchers.api.refusals import Refusal
from tests.launchers.support import echo, question, running, words

if TYPE_CHECKING:
    from somewhere import Thing  # type: ignore[import-not-found]


@dataclass
class Order:
    count: int


def of_order(order: Order) -> str: ...


def of_number(number: int) -> str: ...


def of_two(a, b): ...  # type: ignore[no-untyped-def]


def of_texts(texts: list[str]) -> str: ...


def of_messages(messages: list[Message]) -> str: ...


def of_sequence(messages: Sequence[Message]) -> str: ...


def of_either(x: str | list[Message]) -> str: ...


def of_pieces(pieces: AsyncIterator[str]) -> str: ...


def of_pieces_at_once(pieces: Iterator[str]) -> str: ...


def unresolved(x: Thing) -> str: ...


VECTORS = LocalEmbedding("nowhere/at-all")
FAR = RemoteEmbedding("http://localhost:1/v1", "tiny")
EMBEDDINGS = [
    VECTORS,
    FAR,
    step(VECTORS, retry=2),
    Pipeline(str.strip, FAR),
    Pipeline(Pipeline(echo, VECTORS)),
    If(str.isdigit, VECTORS, FAR),
]


def fault(purpose: Purpose) -> str:
    with pytest.raises(Refusal) as refused:
        purpose.check()
    assert (refused.value.status, refused.value.code, refused.value.param) == (
        400,
        "unsupported_flow",
        "model",
    )
    return refused.value.message


@pytest.mark.parametrize(
    "flow",
    [
        echo,
        words,
        len,
        str.upper,
        lambda x: x,
        of_messages,
        of_sequence,
        of_either,
        of_pieces,
        of_pieces_at_once,
        unresolved,
        LocalModel("nowhere"),
        Pipeline(),
        Pipeline(VECTORS, len),
        Parallel(echo, words),
    ],
)
def test_these_can_be_talked_to(flow: Any) -> None:
    conversation(as_step(flow), "m").check()
    assert "gives no embeddings" in fault(embedding(as_step(flow), "m"))


@pytest.mark.parametrize(
    ("flow", "takes"),
    [
        (of_order, "takes Order, neither text nor messages"),
        (of_number, "takes int, neither text nor messages"),
        (of_texts, "takes list[str], neither text nor messages"),
        (step(of_order, retry=3), "takes Order, neither"),
        (Pipeline(of_order, echo), "takes Order, neither"),
        (of_two, "does not take text"),
        (Warp(echo), "takes list[str], neither"),
    ],
)
def test_these_take_something_else(flow: Any, takes: str) -> None:
    message = fault(conversation(as_step(flow), "m"))
    assert message.startswith(f"'m' {takes}")
    assert message.endswith("use POST /v1/runs, whose input is what the flow takes")


@pytest.mark.parametrize("flow", EMBEDDINGS)
def test_these_give_embeddings(flow: Any) -> None:
    embedding(as_step(flow), "m").check()
    assert "use POST /v1/embeddings" in fault(conversation(as_step(flow), "m"))


def test_only_an_embedding_itself_takes_many_texts_at_once() -> None:
    assert [is_embedding(flow) for flow in EMBEDDINGS] == [True, True, True, False, False, False]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"])
def test_over_http_before_anything_is_read(path: str) -> None:
    with running(of_order) as server, server.connect() as connection:
        connection.send("POST", path, b"", {"Content-Length": "1000"})  # and never sends them
        assert connection.reply().status == 400
        assert "use POST /v1/" in connection.json()["error"]["message"]


def test_runs_take_what_the_flow_takes() -> None:
    def count(order: Order) -> int:
        return order.count

    with running(count) as server:
        assert server.post({"input": {"count": 3}}, path="/v1/runs")[2]["result"] == 3
        assert server.post(question())[0] == 400
