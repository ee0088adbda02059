"""Heads that leave with their bodies, on a real transport."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from millrace.launchers.api.writes import HeldHeads, JoinedHeads

pytestmark = pytest.mark.anyio


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


class Broken(asyncio.Transport):
    """A transport that is there and cannot be written to."""

    def is_closing(self) -> bool:
        return False

    def write(self, data: object) -> None:
        raise RuntimeError("this one cannot")


async def test_the_heads_of_a_turn_leave_although_one_cannot() -> None:
    loop, told = asyncio.get_running_loop(), list[str]()
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    held = HeldHeads(loop)
    for one in (Broken(), Broken(), transport):
        JoinedHeads(one, held).write(HEAD)
    theirs.setblocking(False)
    arrived = await asyncio.wait_for(loop.sock_recv(theirs, 100), 10)
    JoinedHeads(transport, held).write(HEAD)
    again = await asyncio.wait_for(loop.sock_recv(theirs, 100), 10)
    transport.close()
    theirs.close()
    assert (arrived, again) == (HEAD, HEAD)
    assert told == ["the head of an answer could not be written"] * 2


async def test_what_comes_behind_the_end_or_an_abort_is_lost_and_no_error() -> None:
    loop, told = asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, context: told.append(context))
    for end in ("write_eof", "abort"):
        ours, theirs = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        joined = JoinedHeads(transport, HeldHeads(loop))
        getattr(joined, end)()
        joined.write(HEAD)
        await asyncio.sleep(0.01)
        theirs.setblocking(False)
        assert await asyncio.wait_for(loop.sock_recv(theirs, 100), 10) == b""
        transport.close()
        theirs.close()
    assert told == []
