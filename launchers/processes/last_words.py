"""Last words between a worker and its supervisor, who says them when the worker has died without a word.

With each stream that begins the supervisor is handed its socket and what to say; with each that ends, its number. What
the worker had written before is with the kernel by then; only where a client was so slow that a part of it was still
with the worker, do the words come in the midst of something, and the client sees a connection that breaks.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import struct
from collections import deque

__all__ = ["Keeper", "Speaker", "pair"]

NUMBER = struct.Struct("!Q")
LARGEST = 64 * 1024
"""Bytes of a message."""
SPARE = 64
"""Descriptors that the supervisor keeps for itself, of those that it may have: it must be able to start workers."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that keep messages apart; neither waits."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


class Speaker:
    """The worker's end. Belongs to its loop."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._count = 0
        self._late: deque[bytes] = deque()
        """What could not be told yet."""

    def leave(self, connection: int, words: bytes) -> int | None:
        """As `LastWords.leave`. Where the supervisor does not listen at the moment, it cannot be."""
        if self._late or len(words) + NUMBER.size > LARGEST:
            return None
        self._count += 1
        try:
            socket.send_fds(self._end, [NUMBER.pack(self._count), words], [connection])
        except OSError:
            return None
        return self._count

    def take_back(self, number: int) -> None:
        """As `LastWords.take_back`; it is told as soon as that can be."""
        if not self._late and self._told(NUMBER.pack(number)):
            return
        if not self._late:
            asyncio.get_running_loop().add_writer(self._end.fileno(), self._tell_late)
        self._late.append(NUMBER.pack(number))

    def _tell_late(self) -> None:
        while self._late and self._told(self._late[0]):
            self._late.popleft()
        if not self._late:
            asyncio.get_running_loop().remove_writer(self._end.fileno())

    def _told(self, message: bytes) -> bool:
        try:
            self._end.send(message)
        except BlockingIOError:
            return False
        except OSError:  # there is no supervisor any more
            pass
        return True


class Keeper:
    """The supervisor's end: holds what one worker has left."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._held: dict[int, tuple[socket.socket, bytes]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end.fileno(), self._hear)

    def __len__(self) -> int:
        return len(self._held)

    def close(self) -> None:
        """The worker is gone: says what it has left to say, and holds nothing any more."""
        self._hear()
        self._loop.remove_reader(self._end.fileno())
        self._end.close()
        for connection, words in self._held.values():
            with connection:
                say(connection, words)
        self._held.clear()

    def _hear(self) -> None:
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._end, LARGEST, 1)
            except OSError:  # there is nothing more
                return
            if len(message) < NUMBER.size:
                return
            (number,) = NUMBER.unpack_from(message)
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
                connection = socket.socket(fileno=descriptor)
                if descriptor < resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE:
                    self._held[number] = connection, message[NUMBER.size :]
                else:
                    connection.close()
            if len(message) == NUMBER.size and number in self._held:
                self._held.pop(number)[0].close()


def say(connection: socket.socket, words: bytes) -> None:
    """As the last on this connection, where that can be at once: its client may have left, or not be reading."""
    connection.setblocking(False)
    try:
        connection.send(words)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(
            LARGEST
        ):  # a close while something unread lies there would take the words along
            pass
    except OSError:
        pass
