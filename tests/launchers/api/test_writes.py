"""Writes that leave together, on a real transport."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from millrace.launchers.api.writes import LARGEST, JoinedWrites


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


async def written(act: Callable[[JoinedWrites], object], size: int) -> tuple[list[bytes], bytes]:
    """The writes that the transport underneath got in this turn of the loop and the next, and what arrived."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    noted = Noted(transport)
    act(JoinedWrites(noted, loop))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    arrived = await asyncio.wait_for(reader.readexactly(size), 10)
    transport.close()
    writer.close()
    await writer.wait_closed()
    return noted.writes, arrived


def test_what_is_written_in_one_turn_leaves_in_one_piece() -> None:
    def act(transport: JoinedWrites) -> None:
        transport.write(b"head")
        transport.write(b"body")

    assert asyncio.run(written(act, 8)) == ([b"headbody"], b"headbody")


def test_nothing_large_is_held_back() -> None:
    large = b"x" * LARGEST

    def act(transport: JoinedWrites) -> None:
        transport.write(b"head")
        transport.write(large)
        transport.write(b"end")

    writes, arrived = asyncio.run(written(act, LARGEST + 7))
    assert writes == [b"head" + large, b"end"]
    assert arrived == b"head" + large + b"end"


def test_a_close_comes_behind_what_was_written() -> None:
    def act(transport: JoinedWrites) -> None:
        transport.write(b"last")
        transport.close()
        assert transport.is_closing()

    assert asyncio.run(written(act, 4)) == ([b"last"], b"last")


def test_an_end_comes_behind_what_was_written() -> None:
    def act(transport: JoinedWrites) -> None:
        transport.write(b"last")
        transport.write_eof()

    assert asyncio.run(written(act, 4)) == ([b"last"], b"last")
