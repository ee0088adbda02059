"""A crowd: clients in threads that do at random what clients do, and check what they are told.

Each has an API key of its own and does one thing after the other. What it has seen goes into its `seen`, by words such
as `done`, `rejected` or `left`; what must not be seen is an AssertionError, which ends the client.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from tests.launchers.support import PATH, Asking, question

__all__ = ["WAYS", "Client", "Crowd"]

RUNS = "/v1/runs"
PATIENCE = 30.0
REFUSED = (429, 503)
GONE = (404, 410)
BAD: Sequence[bytes] = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"input": NaN}',
    b'{"input": "\\ud800"}',
    b'{"input": "plain", "unknown": 1}',
    b'{"input": "plain", "timeout": -1}',
    b'{"input": ' + b"[" * 5000,
    b'{"input": "\xff"}',
)
DOOMED = """
import socket, sys, time
port, key, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
clients = []
for number in range(count):
    client = socket.create_connection(("127.0.0.1", port))
    body = b'{"input": "slowly 400", "stream": true}'
    head = "POST /v1/runs HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: application/json\\r\\n"
    head += f"Authorization: Bearer {key}\\r\\n"
    client.sendall(f"{head}Content-Length: {len(body)}\\r\\n\\r\\n".encode() + body)
    clients.append(client)
print("sent", flush=True)
time.sleep(60)
"""
"""A process that asks and waits to be killed."""


class Expired(Exception):
    """A run is over and forgotten."""


class Client:
    """One client; `chance` is its own, so that a seed says what it does."""

    def __init__(self, port: int, key: str, chance: random.Random) -> None:
        self.port, self.key, self.chance = port, key, chance
        self.seen: Counter[str] = Counter()

    def send(self, method: str, path: str, body: object = None, **headers: str) -> Asking:
        connection = Asking(self.port, PATIENCE)
        if method == "POST" and path in (RUNS, PATH):
            self.seen["asked"] += 1
        connection.send(method, path, body, {"Authorization": f"Bearer {self.key}", **headers})
        return connection

    def text(self) -> str:
        """A question that is answered in pieces, soon."""
        return f"{self.chance.choice(['words', 'threads', 'slowly'])} {int(self.chance.expovariate(0.05))}"

    def lasting(self) -> str:
        """One that takes half a second or so."""
        return f"slowly {self.chance.randint(20, 150)}"

    def stream(self, text: str, **more: Any) -> Asking:
        """A stream of which nothing has been read, from either endpoint."""
        if not more and self.chance.random() < 0.5:
            return self.send("POST", PATH, question(text, stream=True))
        return self.send("POST", RUNS, {"input": text, "stream": True, **more})

    def admitted(self, connection: Asking) -> bool:
        """Whether there was a place; waits for the head of the answer."""
        reply = connection.reply()
        if reply.status in REFUSED:
            assert int(reply.headers["retry-after"]) >= 1
            self.see("rejected", connection.json()["error"]["code"] in ("overloaded", "queue_timeout"))
            time.sleep(self.chance.random() * 0.2)
            return False
        assert reply.status in (200, 202, 500, 504), reply
        return True

    def see(self, word: str, right: bool = True) -> None:
        assert right, word
        self.seen[word] += 1

    def follow(self, run_id: str, after: int, count: int | None = None) -> list[str]:
        """The next events of a run; all that are still to come by default.

        Raises:
            Expired: so many other runs have ended meanwhile that it is not kept any more.
        """
        with self.send("GET", f"{RUNS}/{run_id}/events?after={after}") as connection:
            if connection.reply().status in GONE:
                raise Expired
            assert connection.reply().status == 200, connection.reply()
            self.see("followed")
            return connection.events(count)

    def cancel(self, run_id: str) -> None:
        with self.send("POST", f"{RUNS}/{run_id}/cancel", b"") as connection:
            if connection.reply().status in GONE:
                raise Expired
            assert connection.reply().status == 200
            told = connection.json()
            self.see("cancelled by id", told["status"] in ("cancelled", "done"))


# ---------------------------------------------------------------- what they do


def read_a_stream(client: Client) -> None:
    text = client.text()
    with client.stream(text) as connection:
        if client.admitted(connection):
            *events, last = connection.events()
            client.see("done", last == "[DONE]" or json.loads(last)["status"] == "done")
            assert said_in(events) == list(range(int(text.split()[1])))


def said_in(events: Sequence[str]) -> list[int]:
    """The numbers that the frames of an answer have, from either endpoint."""
    said: list[int] = []
    for event in map(json.loads, events):
        delta = event["choices"][0]["delta"] if "choices" in event else {"content": event.get("text")}
        said += map(int, (delta.get("content") or "").split())
    return said


def ask_whole(client: Client) -> None:
    text = client.chance.choice(["plain", "wait", client.text()])
    to_chat = client.chance.random() < 0.5
    body = question(text) if to_chat else {"input": text}
    with client.send("POST", PATH if to_chat else RUNS, body) as connection:
        if client.admitted(connection):
            told = connection.json()
            answer = told["choices"][0]["message"]["content"] if to_chat else told["result"]
            client.see("done", text in ("plain", "wait") or len(answer.split()) == int(text.split()[1]))


def ask_for_a_failure(client: Client) -> None:
    with client.stream(f"fail {client.chance.choice([0, 0, 3])}") as connection:
        if client.admitted(connection):
            told = connection.read().decode()
            client.see("failed", "ValueError" in told and "[DONE]" not in told)


def ask_for_too_much(client: Client) -> None:
    with client.stream("late", timeout=0.02 + client.chance.random() * 0.2) as connection:
        if client.admitted(connection):
            client.see("timed out", '"timeout"' in connection.read().decode())


def in_the_background(client: Client) -> None:
    """Followed in two parts, and once more as a whole: the same."""
    with client.send("POST", RUNS, {"input": client.text(), "background": True}) as connection:
        if not client.admitted(connection):
            return
        run_id = connection.json()["id"]
    first = client.follow(run_id, 0, client.chance.randint(1, 10))
    events = first + client.follow(run_id, json.loads(first[-1])["seq"])
    assert events == client.follow(run_id, 0)
    last = json.loads(events[-1])
    if last["status"] == "error":  # its place in the line was needed for another key's
        client.see("rejected", last["error"]["code"] == "overloaded")
    else:
        client.see("done", last["status"] == "done")


def leave_and_come_back(client: Client) -> None:
    text = client.lasting()
    with client.stream(text, on_disconnect="continue") as connection:
        if not client.admitted(connection):
            return
        run_id = connection.reply().headers["x-run-id"]
        first = connection.events(client.chance.randint(1, 20))
        connection.reset() if client.chance.random() < 0.5 else connection.close()
    if client.chance.random() < 0.5:
        client.cancel(run_id)
        return
    rest = client.follow(run_id, json.loads(first[-1])["seq"])
    client.see("done", json.loads(rest[-1])["status"] == "done")
    assert said_in(first + rest) == list(range(int(text.split()[1])))


def cancel_by_id(client: Client) -> None:
    run_id = f"{client.chance.getrandbits(128):032x}"
    body = {"input": client.lasting(), "stream": True}
    with client.send("POST", RUNS, body, **{"x-run-id": run_id}) as connection:
        if client.chance.random() < 0.5:
            if not client.admitted(connection):
                return
            connection.events(client.chance.randint(1, 10))
        with client.send("POST", f"{RUNS}/{run_id}/cancel", b"") as asked:
            if asked.reply().status == 404:  # there was no place for it, or it has not been read yet
                return
            assert asked.reply().status == 200
        client.see("cancelled by id")
        assert connection.reply().status in (200, *REFUSED)
        connection.read()


def leave(client: Client) -> None:
    """At once, after the head, or in the midst; by FIN or RST."""
    connection = client.stream(client.lasting())
    when = client.chance.randint(0, 2)
    if when and not client.admitted(connection):
        return connection.close()
    if when == 2:
        connection.events(client.chance.randint(1, 30))
    client.see("left")
    return connection.reset() if client.chance.random() < 0.5 else connection.close()


def leave_whole(client: Client) -> None:
    connection = client.send("POST", RUNS, {"input": client.lasting()})
    time.sleep(client.chance.random() * 0.05)
    client.see("left")
    return connection.reset() if client.chance.random() < 0.5 else connection.close()


def stop_reading(client: Client) -> None:
    """For a while; then goes on, or leaves."""
    with client.stream("flood 1200") as connection:
        if client.admitted(connection):
            connection.events(3)
            time.sleep(client.chance.random())
            if client.chance.random() < 0.5:
                client.see("done", len(connection.events()) >= 1198)
            else:
                client.see("left")


def ask_badly(client: Client) -> None:
    path = client.chance.choice([RUNS, PATH])
    with client.send("POST", path, client.chance.choice(BAD)) as connection:
        status = connection.reply().status
        told = connection.json()["error"]
        assert status in (400, 422, *REFUSED), (status, told)
        client.see("rejected" if status in REFUSED else "bad")


def ask_halfway(client: Client) -> None:
    connection = client.send("POST", RUNS, b'{"input', **{"Content-Length": "100"})
    time.sleep(client.chance.random() * 0.02)
    client.see("left")
    connection.reset() if client.chance.random() < 0.5 else connection.close()


def ask_as_a_stranger(client: Client) -> None:
    with client.send("GET", RUNS, Authorization="Bearer sk-unknown") as connection:
        client.see("stranger", connection.reply().status == 401)


def look(client: Client) -> None:
    path = client.chance.choice(["/status", "/metrics", f"{RUNS}?limit=100", "/health/live"])
    with client.send("GET", path) as connection:
        client.see("looked", connection.reply().status == 200)
        connection.read()


def be_killed(client: Client) -> None:
    """A process that has asked and dies of SIGKILL."""
    count = client.chance.randint(1, 3)
    client.seen["asked"] += count
    command = [sys.executable, "-S", "-c", DOOMED, str(client.port), client.key, str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(client.chance.random() * 0.2)
        finally:
            process.kill()
    client.see("killed", process.returncode == -9)


WAYS: dict[Callable[[Client], object], int] = {
    read_a_stream: 8,
    ask_whole: 8,
    ask_for_a_failure: 3,
    ask_for_too_much: 3,
    in_the_background: 5,
    leave_and_come_back: 4,
    cancel_by_id: 4,
    leave: 8,
    leave_whole: 4,
    stop_reading: 2,
    ask_badly: 4,
    ask_halfway: 2,
    ask_as_a_stranger: 1,
    look: 2,
    be_killed: 1,
}
"""How often each is done, of all of them together."""


class Crowd:
    """So many clients at once; `seed` says what each of them does, though not when."""

    def __init__(self, port: int, keys: Sequence[str], count: int, seed: int) -> None:
        self.clients = [
            Client(port, keys[number % len(keys)], random.Random(f"{seed}-{number}"))
            for number in range(count)
        ]
        self.done: Counter[str] = Counter()
        self.failures: list[BaseException] = []
        self._until = 0.0

    @property
    def seen(self) -> Counter[str]:
        return sum((client.seen for client in self.clients), Counter())

    def run(self, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Lets them in for so many seconds, and calls `meanwhile` now and then.

        Raises:
            AssertionError: what one of them was told is not right; the others are sent home then.
        """
        self._until = time.monotonic() + seconds
        threads = [threading.Thread(target=self._work, args=(client,)) for client in self.clients]
        for thread in threads:
            thread.start()
        while time.monotonic() < self._until and not self.failures:
            time.sleep(0.1)
            meanwhile()
        self._until = 0.0
        for thread in threads:
            thread.join(2 * PATIENCE)
            assert not thread.is_alive(), "a client hangs"
        for error in self.failures:
            raise error

    def _work(self, client: Client) -> None:
        ways, weights = list(WAYS), list(WAYS.values())
        while time.monotonic() < self._until:
            (way,) = client.chance.choices(ways, weights)
            try:
                way(client)
            except Expired:
                client.see("expired")
            except BaseException as error:
                error.add_note(f"in {way.__name__}")
                self.failures.append(error)
                return
            self.done[way.__name__] += 1
