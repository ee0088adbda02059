"""What is said on the way to an answer, by errors, or to other owners reaches no client, by any endpoint."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from millrace import Module, Pipeline, step
from millrace.streaming import ModelError, Progress, ReasoningDelta, ToolCall, current_run, emit
from millrace.streaming.registries import MemoryQueue
from tests.launchers.support import PATH, Running, Source, question, running
from tests.support.leaks import eventually
from tests.support.servers import Connection, millrace_process

RUNS = "/v1/runs"

SECRET = re.compile(r"secret-[a-z-]+")
PLACE = re.compile(r"Traceback|\.py\b|\bline \d+|site-packages|0x[0-9a-f]{8}")


async def notes(question: str) -> AsyncIterator[str]:
    """A step on the way, which says much."""
    emit(Progress(0.5, "secret-progress"))
    emit(ReasoningDelta("secret-reasoning"))
    emit(ToolCall("secret-call", "secret-tool", "secret-arguments"))
    yield "secret-note "
    yield question


async def inner(prompt: str) -> AsyncIterator[str]:
    """Whose own run is known by its id, since it asks for it."""
    run = current_run()
    assert run is not None
    assert run.id
    yield "secret-inner "
    if "inner" in prompt:
        raise ValueError("secret-inner-error")


async def answer(prompt: str) -> AsyncIterator[str]:
    """The step that answers, with runs of its own, which are nobody's business."""
    async with step(inner).stream(f"secret-prompt {prompt}") as stream:
        async for _ in stream:
            pass
    await step(inner).abatch([f"secret-batch {prompt}"])
    await step(inner).start(f"secret-start {prompt}").wait()
    if "early" in prompt:
        raise ValueError("secret-error")
    yield "fine"
    await asyncio.sleep(0)
    if "late" in prompt:
        raise ValueError("secret-error")
    if "model" in prompt:
        raise ModelError("secret-model-error")
    if "slow" in prompt:
        await asyncio.sleep(60)


async def refuse(question: str) -> str:
    if "first" in question:
        raise KeyError("secret-first")
    return question


FLOW = Pipeline(refuse, notes, answer)

QUESTIONS = [
    "hello",
    "fail first",
    "fail early",
    "fail late",
    "fail in the model",
    "fail in inner",
    "be slow",
]


@pytest.fixture(scope="module", params=["memory", "file"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    queue = "memory://" if request.param == "memory" else f"file://{tmp_path_factory.mktemp('runs')}"
    with running(FLOW, queue=queue) as server:
        yield server


def ask(server: Running, method: str, path: str, body: Any = None, key: str | None = None) -> tuple[int, str]:
    """The status, and all that came: headers and body."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    with server.connect() as connection:
        connection.send(method, path, body, headers)
        reply = connection.reply()
        return reply.status, f"{reply.headers}\n{connection.read().decode()}"


def run_ids(text: str) -> set[str]:
    return set(re.findall(r"\b[0-9a-f]{32}\b", text))


def everything_about(server: Running, ids: set[str]) -> Iterator[str]:
    """What all endpoints have to say of runs, and of the service."""
    for run_id in ids:
        for path in ("", "/events", "/events?after=1", "/events?events=output", "/events?events=all"):
            yield ask(server, "GET", f"{RUNS}/{run_id}{path}")[1]
        yield ask(server, "POST", f"{RUNS}/{run_id}/cancel", {"reason": "enough"})[1]
    for path in (
        f"{RUNS}?limit=100",
        "/status",
        "/metrics",
        "/v1/models",
        "/openapi.json",
        "/health/ready",
        "/docs",
    ):
        yield ask(server, "GET", path)[1]


class TestSteps:
    @pytest.mark.parametrize("text", QUESTIONS)
    def test_what_they_say_and_fail_with(self, server: Running, text: str) -> None:
        timeout = {"timeout": 0.05} if "slow" in text else {}
        asked = [
            (PATH, {**question(text), **timeout}),
            (PATH, {**question(text), "stream": True, **timeout}),
            (RUNS, {"input": text, **timeout}),
            (RUNS, {"input": text, "stream": True, "events": "output", **timeout}),
            (RUNS, {"input": text, "background": True, **timeout}),
            (RUNS, {"input": text, "session": "one", **timeout}),
        ]
        told = [ask(server, "POST", path, body)[1] for path, body in asked]
        eventually(server.idle)
        silent = any(word in text for word in ("first", "early", "inner"))
        assert silent != any("fine" in one for one in told)
        listed = ask(server, "GET", f"{RUNS}?limit=100")[1]
        told += everything_about(server, run_ids("".join([*told, listed])))
        for one in told:
            assert SECRET.findall(one) == []
            assert PLACE.findall(one) == [], one

    def test_all_events_must_be_allowed(self, server: Running) -> None:
        status, told = ask(server, "POST", RUNS, {"input": "hello", "stream": True, "events": "all"})
        assert status == 403
        assert "events_not_allowed" in told

    def test_where_all_events_are_allowed_errors_still_say_nothing(self) -> None:
        with running(FLOW, events="all") as server:
            told = ask(server, "POST", RUNS, {"input": "fail late", "stream": True})[1]
        assert {"secret-note", "secret-progress"} <= set(SECRET.findall(told))
        assert not {"secret-error", "secret-first"} & set(SECRET.findall(told))
        assert PLACE.findall(told) == []

    def test_while_they_run(self) -> None:
        """A run's own runs are in no list, and nobody is told their ids."""
        source = Source()

        async def outer(text: str) -> AsyncIterator[str]:
            async with step(source, name="secret-name").stream("secret-prompt") as stream:
                async for _ in stream:
                    yield "fine"

        with running(outer) as server:
            with server.connect() as connection:
                connection.send("POST", RUNS, {"input": "hello", "stream": True})
                source.allow(1)
                told = "".join(connection.events(2))
                (run,) = server.runs
                inside = server.do(lambda: [child.id for child in run._children or ()])
                assert inside
                told += ask(server, "GET", RUNS)[1] + ask(server, "GET", f"{RUNS}/{run.id}")[1]
                assert ask(server, "POST", f"{RUNS}/{run.id}/cancel")[0] == 200
                told += ask(server, "GET", f"{RUNS}?limit=100")[1]
            eventually(server.idle)
        assert run.id in told
        assert not set(inside) & run_ids(told)
        assert SECRET.findall(told) == []

    def test_debug_tells(self) -> None:
        with running(FLOW, debug=True) as server:
            for path, body in (
                (PATH, question("fail early")),
                (PATH, {**question("fail late"), "stream": True}),
                (RUNS, {"input": "fail early"}),
                (RUNS, {"input": "fail late", "stream": True}),
            ):
                told = ask(server, "POST", path, body)[1]
                assert "secret-error" in told
                assert "Traceback" in told


# ---------------------------------------------------------------- owners

ALICE, BOB = "sk-alice-0123456789", "sk-bob-0123456789"
KEYS = [f"alice: {ALICE}", f"bob: {BOB}"]


class Remembering(Module[str, str]):
    """Answers with how many messages its session had before."""

    async def __call__(self, x: str) -> str:
        run = current_run()
        assert run is not None
        return f"{x} after {len(run.take_history(x))}"


@pytest.fixture(scope="module", params=["memory", "file"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    queue = "memory://" if request.param == "memory" else f"file://{tmp_path_factory.mktemp('runs')}"
    with running(Remembering(), queue=queue, api_keys=KEYS) as server:
        yield server


class TestOwners:
    def test_a_run_of_another_is_as_if_it_were_not(self, shared: Running) -> None:
        told = ask(shared, "POST", RUNS, {"input": "private", "session": "mine"}, ALICE)[1]
        (run_id,) = run_ids(told)
        none = "0" * 32
        for method, part in (
            ("GET", ""),
            ("GET", "/events"),
            ("GET", "/events?after=1"),
            ("POST", "/cancel"),
        ):
            assert ask(shared, method, f"{RUNS}/{run_id}{part}", None, ALICE)[0] == 200
            others = ask(shared, method, f"{RUNS}/{run_id}{part}", None, BOB)
            nobodys = ask(shared, method, f"{RUNS}/{none}{part}", None, BOB)
            assert others[0] == 404
            assert without_date(others[1]) == without_date(nobodys[1].replace(none, run_id))
        assert run_id in ask(shared, "GET", RUNS, None, ALICE)[1]
        assert run_id not in ask(shared, "GET", RUNS, None, BOB)[1]

    def test_nor_while_it_runs_and_a_stop_of_another_does_nothing(self) -> None:
        source = Source()
        queue = MemoryQueue()  # of its own: owners of one name in one process are one
        with running(source, queue=queue, api_keys=KEYS) as server, server.connect() as connection:
            connection.send(
                "POST", RUNS, {"input": "x", "stream": True}, {"Authorization": f"Bearer {ALICE}"}
            )
            source.allow(1)
            connection.events(2)
            (run,) = server.runs
            for method, part in (("GET", ""), ("GET", "/events"), ("POST", "/cancel")):
                assert ask(server, method, f"{RUNS}/{run.id}{part}", None, BOB)[0] == 404
            assert json.loads(ask(server, "GET", RUNS, None, BOB)[1].partition("\n")[2])["data"] == []
            source.allow(1)
            assert json.loads(connection.events(1)[0])["text"] == "1 "
            assert ask(server, "POST", f"{RUNS}/{run.id}/cancel", None, ALICE)[0] == 200

    def test_nor_once_it_is_not_kept_any_more(self) -> None:
        with running(Remembering(), queue=MemoryQueue(runs=1), api_keys=KEYS) as server:
            first, _ = (
                ask(server, "POST", RUNS, {"input": "x", "background": True}, ALICE)[1] for _ in range(2)
            )
            eventually(server.idle)
            (run_id,) = run_ids(first)
            assert ask(server, "GET", f"{RUNS}/{run_id}", None, BOB)[0] == 404

    def test_two_sessions_of_one_name_are_two(self, shared: Running) -> None:
        name = f"same-{shared.port}"

        def say(key: str) -> Any:
            told = ask(shared, "POST", RUNS, {"input": "hi", "session": name}, key)[1]
            return json.loads(told.partition("\n")[2])

        runs = [say(key) for key in (ALICE, ALICE, BOB)]
        assert [run["result"] for run in runs] == ["hi after 0", "hi after 2", "hi after 0"]
        assert {run["session"] for run in runs} == {name}

    def test_an_id_that_another_has_chosen_is_taken_and_tells_nothing_else(self, shared: Running) -> None:
        chosen = "a" * 31
        for index, key in enumerate((ALICE, BOB)):
            with shared.connect() as connection:
                headers = {"Authorization": f"Bearer {key}", "x-run-id": f"{chosen}{len(shared.url) % 10}"}
                connection.send("POST", RUNS, {"input": "private"}, headers)
                assert connection.reply().status == (200, 409)[index]
                told = connection.read().decode()
        assert "private" not in told
        assert "alice" not in told


def without_date(text: str) -> str:
    return re.sub(r"'(date|content-length)': '[^']*'", "", text)


# ---------------------------------------------------------------- keys


APP = """
import os


async def flow(text: str) -> str:
    if text == "fail":
        raise ValueError("no")
    if text == "environment":
        return " ".join(f"{name}={value}" for name, value in os.environ.items())
    return text
"""


@pytest.mark.slow
def test_a_key_of_a_file_is_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    keys = tmp_path / "keys.txt"
    keys.write_text(f"{KEYS[0]}\n{BOB}\n")
    keys.chmod(0o600)
    bearer = {"Authorization": f"Bearer {ALICE}"}
    password = {"Authorization": f"Basic {base64.b64encode(f'me:{BOB}'.encode()).decode()}"}
    with millrace_process(
        "serve", "app:flow", "--no-chat", "--api-keys", str(keys), cwd=tmp_path
    ) as launched:
        said: list[str] = []
        requests: list[tuple[str, str, Any, Mapping[str, str]]] = [
            ("POST", PATH, question("hello"), bearer),
            ("POST", PATH, question("fail"), bearer),
            ("POST", PATH, question("environment"), bearer),
            ("POST", PATH, b"{", bearer),
            ("POST", PATH, question(model=ALICE[3:9]), bearer),
            ("POST", RUNS, {"input": "fail", "stream": True}, bearer),
            ("POST", PATH, question(), {"Authorization": f"Bearer {ALICE}x"}),
            ("POST", PATH, question(), {"Authorization": ALICE}),
            ("GET", RUNS, None, bearer),
            ("GET", "/nothing", None, bearer),
            ("GET", "/status", None, bearer),
            ("GET", "/metrics", None, bearer),
            ("GET", "/openapi.json", None, bearer),
            ("GET", "/docs", None, password),
        ]
        statuses = []
        for method, path, body, headers in requests:
            with Connection(launched.port) as connection:
                connection.send(method, path, body, headers)
                reply = connection.reply()
                statuses.append(reply.status)
                said.append(f"{reply.headers}\n{connection.read().decode()}")
        assert statuses == [200, 500, 200, 400, 404, 500, 401, 401, 200, 404, 200, 200, 200, 200]
        process = psutil.Process(launched.process.pid)
        for one in (process, *process.children(recursive=True)):
            said += [" ".join(one.cmdline()), str(one.environ())]
        said.append(launched.output())
    for one in said:
        for key in (ALICE, BOB):
            for hidden in (key, key[3:], base64.b64encode(key.encode()).decode().rstrip("=")):
                assert hidden not in one
    assert "run" in said[-1]
