"""Leaving over HTTP: every kind of step, streamed and whole answers, by FIN, RST and the client's sudden death.

Admission's own line is a row of its own: a request that waits there must never start.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from millrace import Limits
from millrace.streaming import status
from tests.launchers.support import PATH, RESPONSES, Running, Source, asked, running
from tests.leaving.kinds import KINDS
from tests.leaving.subjects import Subject
from tests.support.leaks import eventually
from tests.support.servers import Connection

CLIENT = """
import json, socket, sys
port, body = int(sys.argv[1]), sys.argv[2].encode()
client = socket.create_connection(("127.0.0.1", port))
head = f"POST {sys.argv[3]} HTTP/1.1\\r\\nHost: 127.0.0.1:{port}\\r\\nContent-Type: application/json\\r\\n"
client.sendall(f"{head}Content-Length: {len(body)}\\r\\n\\r\\n".encode() + body)
print("sent", flush=True)
while client.recv(4096):
    pass
"""


class Client:
    """Something that has sent a request and can leave."""

    def __init__(
        self, server: Running, path: str, stream: bool, leave: Callable[[Connection], None] | None
    ) -> None:
        self.connection: Connection | None = None
        self.process: subprocess.Popen[str] | None = None
        self.how = leave
        if leave is not None:
            self.connection = server.ask("x", stream, path)
            return
        body = json.dumps(asked(path, "x", stream=stream))
        command = [sys.executable, "-c", CLIENT, str(server.port), body, path]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "sent\n"

    def leave(self) -> None:
        if self.connection is not None and self.how is not None:
            self.how(self.connection)
        if self.process is not None:
            self.process.kill()

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            assert self.process.stdout is not None
            self.process.stdout.close()


LEAVES: dict[str, Callable[[Connection], None] | None] = {
    "FIN": Connection.close,
    "RST": Connection.reset,
    "kill -9": None,
}
LEFT = [*((PATH, how) for how in LEAVES), (RESPONSES, "FIN")]
"""Which endpoint is left how: one loop answers at all of them."""


@pytest.mark.slow
@pytest.mark.parametrize(("path", "how"), LEFT)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("kind", KINDS)
def test_leaving(kind: str, path: str, stream: bool, how: str) -> None:
    subject: Subject = KINDS[kind]()
    client = None
    try:
        with running(subject.flow) as server:
            client = Client(server, path, stream, LEAVES[how])
            subject.reach()
            client.leave()
            subject.stopped()
            eventually(server.idle)
    finally:
        if client is not None:
            client.close()
        subject.close()


@pytest.mark.slow
@pytest.mark.parametrize(("path", "how"), LEFT)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_leaving_admissions_line(path: str, stream: bool, how: str) -> None:
    source = Source()
    with running(source, limits=Limits(running=1, waiting=2)) as server:
        first = server.ask()
        eventually(lambda: source.started == 1)
        client = Client(server, path, stream, LEAVES[how])
        eventually(lambda: server.service.admission.waiting == 1)
        client.leave()
        eventually(lambda: server.service.admission.waiting == 0)
        first.close()
        eventually(server.idle)
        client.close()
    assert source.started == 1
    assert status().runs == 0
