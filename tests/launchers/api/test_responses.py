"""/v1/responses as the openai client sees it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import openai
import pytest
from openai.types.responses import Response

from millrace import Limits, Message
from millrace.launchers.api.patience import Timings
from millrace.launchers.owners import KEY, Owner
from millrace.streaming import current_run
from tests.launchers.support import RESPONSES, Running, Source, client_of, echo, running, words
from tests.support.leaks import eventually

SECRET = "the password is 123"


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with client_of(server) as client:
        yield client


class TestOpenAIClient:
    def test_a_stream(self, client: openai.OpenAI) -> None:
        events = list(client.responses.create(model="words", input="hello there you", stream=True))
        assert [event.type for event in events] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            *["response.output_text.delta"] * 3,
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
        assert [event.sequence_number for event in events] == list(range(11))
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert deltas == ["hello ", "there ", "you "]
        (done,) = (event for event in events if event.type == "response.output_text.done")
        assert done.text == "hello there you "
        first, last = events[0], events[-1]
        assert first.type == "response.created"
        assert last.type == "response.completed"
        assert (first.response.status, first.response.output) == ("in_progress", [])
        assert last.response.output_text == "hello there you "
        assert last.response.status == "completed"
        assert first.response.id == last.response.id

    def test_the_clients_own_way_to_stream(self, client: openai.OpenAI) -> None:
        with client.responses.stream(model="words", input="hello there you") as stream:
            kinds = [event.type for event in stream]
            answer = stream.get_final_response()
        assert kinds[-1] == "response.completed"
        assert answer.output_text == "hello there you "

    def test_a_whole_answer(self, client: openai.OpenAI) -> None:
        answer = client.responses.create(
            model="words", input="hello there you", instructions="Be brief.", metadata={"a": "b"}, top_p=0.5
        )
        assert answer.output_text == "hello there you "
        assert (answer.status, answer.object, answer.model) == ("completed", "response", "words")
        assert answer.completed_at is not None
        assert answer.completed_at >= answer.created_at
        assert (answer.error, answer.incomplete_details) == (None, None)
        assert (answer.instructions, answer.metadata, answer.top_p) == ("Be brief.", {"a": "b"}, 0.5)
        assert answer.usage is not None
        assert answer.usage.total_tokens == 0
        (item,) = answer.output
        assert item.type == "message"
        assert (item.role, item.status) == ("assistant", "completed")

    def test_an_answer_goes_back_as_it_came(self) -> None:
        async def flow(messages: list[Message]) -> str:
            return "|".join(f"{message.role}: {message.content}" for message in messages)

        with running(flow) as server, client_of(server) as client:
            first = client.responses.create(model="flow", input="One?")
            turns: Any = [{"role": "user", "content": "One?"}, *first.output]
            turns.append({"role": "user", "content": "Two?"})
            second = client.responses.create(model="flow", input=turns, instructions="Be brief.")
        assert second.output_text == "system: Be brief.|user: One?|assistant: user: One?|user: Two?"

    def test_text_with_history(self) -> None:
        async def flow(text: str) -> str:
            run = current_run()
            assert run is not None
            return "|".join([text, *(f"{turn.role}: {turn.content}" for turn in run.history)])

        with running(flow) as server, client_of(server) as client:
            answer = client.responses.create(model="flow", input="Two?", instructions="Be brief.")
        assert answer.output_text == "Two?|system: Be brief."

    def test_an_unknown_model(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match="this server has 'words'"):
            client.responses.create(model="other", input="hello")

    def test_what_is_refused(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="POST /v1/runs") as refused:
            client.responses.create(model="words", input="hello", background=True)
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "background")

    @pytest.mark.parametrize("text", ["", "ä€😀\u2028", '"\\\n\t\x00', "a" * 100_000])
    def test_any_text_comes_back_as_it_is(self, text: str) -> None:
        with running(echo) as server, client_of(server) as client:
            assert client.responses.create(model="echo", input=text).output_text == text
            *_, last = client.responses.create(model="echo", input=text, stream=True)
            assert last.type == "response.completed"
            assert last.response.output_text == text


class TestWire:
    def test_events_are_named_and_there_is_no_done(self, server: Running) -> None:
        with server.ask("a b", path=RESPONSES) as connection:
            reply = connection.reply()
            assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert len(reply.headers["x-run-id"]) == 32
            frames = connection.read().decode().split("\n\n")
        assert frames.pop() == ""
        for frame in frames:
            fields = dict(line.split(": ", 1) for line in frame.splitlines())
            assert fields["event"] == json.loads(fields["data"])["type"]

    def test_a_piece_has_the_number_from_which_the_run_goes_on(self, server: Running) -> None:
        with server.ask("a b", path=RESPONSES) as connection:
            run_id = connection.reply().headers["x-run-id"]
            body = connection.read().decode()
        seqs = [line.removeprefix("id: ") for line in body.splitlines() if line.startswith("id: ")]
        assert len(seqs) == 2
        with server.connect() as connection:
            connection.send("GET", f"/v1/runs/{run_id}/events?after={seqs[0]}")
            pieces = [json.loads(event) for event in connection.events()]
        assert [piece.get("text") for piece in pieces] == ["b ", None]

    def test_other_methods_and_paths(self, server: Running) -> None:
        for method, path, status in (
            ("GET", RESPONSES, 405),
            ("PUT", f"{RESPONSES}/resp_1", 405),
            ("GET", f"{RESPONSES}/resp_1/cancel", 405),
            ("GET", f"{RESPONSES}/resp_1/input_items", 404),
            ("POST", f"{RESPONSES}/compact", 405),
        ):
            with server.connect() as connection:
                connection.send(method, path)
                assert connection.reply().status == status, path

    def test_a_chosen_id(self, server: Running) -> None:
        chosen = {"x-run-id": uuid4().hex}
        status, _, answer = server.post({"input": "a"}, chosen, RESPONSES)
        assert (status, answer["id"]) == (200, f"resp_{chosen['x-run-id']}")
        assert server.post({"input": "a"}, chosen, RESPONSES)[0] == 409

    def test_comments_while_it_is_silent(self) -> None:
        async def slow(text: str) -> str:
            await asyncio.sleep(0.1)
            return "at last"

        timings = Timings(first_output=0.02, heartbeat=0.02)
        with running(slow, timings=timings) as server:
            with server.ask(path=RESPONSES) as connection:
                assert b": keep-alive\n\n" in connection.read()
            with client_of(server) as client:
                *_, last = client.responses.create(model="slow", input="x", stream=True)
            assert last.type == "response.completed"
            assert last.response.output_text == "at last"


class TestStops:
    MOST = 2

    def test_leaving_a_stream(self) -> None:
        source = Source(items=10_000_000)
        with running(source) as server, client_of(server) as client:
            source.allow(3)
            stream = client.responses.create(model="Source", input="go", stream=True)
            deltas = (event for event in stream if event.type == "response.output_text.delta")
            assert [next(deltas).delta for _ in range(3)] == ["0 ", "1 ", "2 "]
            stream.close()
            eventually(lambda: source.cleaned == 1)
            eventually(server.idle)
            source.open()
        assert source.produced <= 3 + self.MOST

    def test_leaving_without_a_stream(self) -> None:
        source = Source(items=10_000_000)
        with running(source) as server:
            connection = server.ask(stream=False, path=RESPONSES)
            source.allow(3)
            eventually(lambda: source.produced == 3)
            connection.close()
            eventually(lambda: source.cleaned == 1)
            eventually(server.idle)
            source.open()
        assert source.produced <= 3 + self.MOST

    @pytest.mark.parametrize("stream", [True, False])
    def test_leaving_the_line(self, stream: bool) -> None:
        source = Source()
        with running(source, limits=Limits(running=1, waiting=1)) as server:
            first = server.ask(path=RESPONSES)
            eventually(lambda: source.started == 1)
            second = server.ask(stream=stream, path=RESPONSES)
            eventually(lambda: server.service.admission.waiting == 1)
            second.close()
            eventually(lambda: server.service.admission.waiting == 0)
            first.close()
            eventually(server.idle)
        assert source.started == 1

    def test_too_many(self) -> None:
        source = Source()
        with running(source, limits=Limits(running=1, waiting=0)) as server, client_of(server) as client:
            with server.ask(path=RESPONSES):
                eventually(lambda: source.started == 1)
                with pytest.raises(openai.RateLimitError) as full:
                    client.responses.create(model="Source", input="go")
                assert full.value.code == "overloaded"
                assert "retry-after" in full.value.response.headers
            eventually(server.idle)


async def fails_later(text: str) -> AsyncIterator[str]:
    yield "some "
    await asyncio.sleep(0.01)
    raise ValueError(SECRET)


class TestAfterwards:
    def test_a_response_is_there_for_a_while(self, client: openai.OpenAI) -> None:
        asked = client.responses.create(model="words", input="a b")
        kept = client.responses.retrieve(asked.id)
        Response.model_validate(kept.model_dump())
        assert (kept.id, kept.status, kept.output_text) == (asked.id, "completed", "a b ")
        assert kept.output == asked.output
        assert kept.usage == asked.usage

    def test_from_a_queue_on_disk(self, tmp_path: Path) -> None:
        with running(words, queue=f"file://{tmp_path}") as server, client_of(server) as client:
            *_, last = client.responses.create(model="words", input="a b", stream=True)
            assert last.type == "response.completed"
            assert client.responses.retrieve(last.response.id).output == last.response.output

    def test_one_that_failed(self) -> None:
        with running(fails_later) as server, client_of(server) as client:
            with server.ask(path=RESPONSES) as connection:
                run_id = connection.reply().headers["x-run-id"]
                connection.read()
            kept = client.responses.retrieve(f"resp_{run_id}")
        Response.model_validate(kept.model_dump())
        assert (kept.status, kept.output) == ("failed", [])
        assert kept.error is not None
        assert SECRET not in kept.error.message

    def test_stopping_one_that_goes_on(self) -> None:
        source = Source(items=10_000_000)
        with running(source) as server, client_of(server) as client:
            source.allow(1)
            stream = client.responses.create(model="Source", input="go", stream=True)
            first = next(iter(stream))
            assert first.type == "response.created"
            going_on = client.responses.retrieve(first.response.id)
            assert (going_on.status, going_on.output) == ("in_progress", [])
            stopped = client.responses.cancel(first.response.id)
            assert (stopped.status, source.cleaned) == ("cancelled", 1)
            assert stopped.error is not None
            assert "cancelled by its client" in stopped.error.message
            *_, last = stream
            assert last.type == "response.failed"
            source.open()
            again = client.responses.cancel(first.response.id)
            assert again.status == "cancelled"
        assert source.produced <= 1 + TestStops.MOST

    def test_one_that_waits_in_line(self) -> None:
        source, run_id = Source(), uuid4().hex
        with running(source, limits=Limits(running=1, waiting=1)) as server, client_of(server) as client:
            with server.ask(path=RESPONSES), server.connect() as waiting:
                eventually(lambda: source.started == 1)
                waiting.send("POST", RESPONSES, {"input": "x"}, {"x-run-id": run_id})
                eventually(lambda: server.service.admission.waiting == 1)
                assert client.responses.retrieve(f"resp_{run_id}").status == "queued"
                assert client.responses.cancel(f"resp_{run_id}").status == "cancelled"
                assert waiting.reply().status == 503
            eventually(server.idle)
        assert source.started == 1

    def test_one_that_is_not_there(self, client: openai.OpenAI, server: Running) -> None:
        asked = client.responses.create(model="words", input="a b")
        for missing in ("resp_1", "chatcmpl-1", asked.id.removeprefix("resp_"), f"resp_{'0' * 32}"):
            for ask_for in (client.responses.retrieve, client.responses.cancel):
                with pytest.raises(openai.NotFoundError, match="there is no response") as error:
                    ask_for(missing)
                assert error.value.code == "response_not_found"

    def test_what_cannot_be_asked_of_it(self, client: openai.OpenAI) -> None:
        asked = client.responses.create(model="words", input="a b")
        run_id = asked.id.removeprefix("resp_")
        with pytest.raises(openai.BadRequestError, match=f"GET /v1/runs/{run_id}/events") as refused:
            client.responses.retrieve(asked.id, stream=True)
        assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "stream")
        with pytest.raises(openai.BadRequestError, match="include"):
            client.responses.retrieve(asked.id, include=["message.output_text.logprobs"])
        with pytest.raises(openai.BadRequestError) as unknown:
            client.responses.retrieve(asked.id, extra_query={"x": "1"})
        assert unknown.value.code == "unknown_parameter"

    def test_of_somebody_else(self) -> None:
        class Named:
            """Takes the key's name for whoever asks with it."""

            def __init__(self, app: Any) -> None:
                self.app = app

            async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
                if scope["type"] == "http":
                    scope[KEY] = Owner(dict(scope["headers"])[b"x-owner"].decode())
                await self.app(scope, receive, send)

        with running(words, lambda service: service.app.add_middleware(Named)) as server:
            mine, theirs = (client_of(server, default_headers={"x-owner": name}) for name in ("alice", "bob"))
            with mine, theirs:
                asked = mine.responses.create(model="words", input="a b")
                assert mine.responses.retrieve(asked.id).output_text == "a b "
                with pytest.raises(openai.NotFoundError):
                    theirs.responses.retrieve(asked.id)
                with pytest.raises(openai.NotFoundError):
                    theirs.responses.cancel(asked.id)
