"""Clients who have asked a service and leave it: at work, or in its line."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from millrace import Limits
from millrace.streaming import status
from tests.launchers.support import Running, Source, asked
from tests.leaving.kinds import KINDS
from tests.leaving.subjects import Subject
from tests.support.leaks import eventually
from tests.support.servers import Connection

__all__ = ["LEAVES", "Client", "leave_at_work", "leave_in_line"]

Serve = Callable[..., AbstractContextManager[Running]]
"""What serves a flow for the length of a block, with a service's options."""

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


def leave_at_work(kind: str, serve: Serve, path: str, stream: bool, how: str) -> float:
    """Leaves while a step of this kind is at work, which must stop; seconds that it took."""
    subject: Subject = KINDS[kind]()
    client = None
    try:
        with serve(subject.flow) as server:
            client = Client(server, path, stream, LEAVES[how])
            subject.reach()
            left = time.monotonic()
            client.leave()
            subject.stopped()
            took = time.monotonic() - left
            eventually(server.idle)
    finally:
        if client is not None:
            client.close()
        subject.close()
    return took


def leave_in_line(serve: Serve, path: str, stream: bool, how: str) -> None:
    """Leaves admission's line, where the request must never start."""
    source = Source()
    with serve(source, limits=Limits(running=1, waiting=2)) as server:
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
