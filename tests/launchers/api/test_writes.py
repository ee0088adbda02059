"""Heads that leave with their bodies, on a real transport."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from millrace.launchers.api.writes import HeldHeads, JoinedHeads


class Noted(asyncio.Protocol):
    """A transport's writes, as they come."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.writes: list[bytes] = []
        self._transport = transport

    def write(self, data: bytes) -> None:
        self.writes.append(bytes(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


async def written(act: Callable[[JoinedHeads], object], size: int) -> tuple[list[bytes], bytes]:
    """The writes that the transport underneath got in this turn of the loop and the next, and what arrived."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    noted = Noted(transport)
    act(JoinedHeads(noted, HeldHeads(loop)))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    arrived = await asyncio.wait_for(reader.readexactly(size), 10)
    transport.close()
    writer.close()
    await writer.wait_closed()
    return noted.writes, arrived


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def test_a_head_leaves_with_what_stands_behind_it() -> None:
    def act(transport: JoinedHeads) -> None:
        transport.write(HEAD)
        transport.write(b"body")
        transport.write(b"more")

    assert asyncio.run(written(act, len(HEAD) + 8)) == ([HEAD + b"body", b"more"], HEAD + b"bodymore")


def test_a_head_waits_for_nothing_that_does_not_come_at_once() -> None:
    assert asyncio.run(written(lambda transport: transport.write(HEAD), len(HEAD))) == ([HEAD], HEAD)


def test_a_close_comes_behind_what_was_written() -> None:
    def act(transport: JoinedHeads) -> None:
        transport.write(HEAD)
        transport.close()
        assert transport.is_closing()

    assert asyncio.run(written(act, len(HEAD))) == ([HEAD], HEAD)


def test_an_end_comes_behind_what_was_written() -> None:
    def act(transport: JoinedHeads) -> None:
        transport.write(HEAD)
        transport.write_eof()

    assert asyncio.run(written(act, len(HEAD))) == ([HEAD], HEAD)
