"""A reader that stops reading a stream of 80 MB: the flow waits, nothing piles up, nobody else notices."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.launchers.support import PATH, question
from tests.support.leaks import eventually
from tests.support.mixed_server import PIECE, MixedServer, mixed_server
from tests.support.servers import HOST, Connection

pytestmark = pytest.mark.slow

PIECES = 80 * 2**20 // PIECE
GROWTH = 10 * 2**20
IDLE = 6.0
"""Seconds without a byte taken after which the reader is cut off."""
WORDS = 1500
RUNS = "/v1/runs"


class Stubborn(Connection):
    """A connection whose kernel takes little for whoever does not read."""

    def __post_init__(self) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(self.timeout)
        self.socket.connect((HOST, self.port))


def chat(connection: Connection) -> None:
    connection.send("POST", PATH, question(f"flood {PIECES}", stream=True))


def run(connection: Connection) -> None:
    connection.send("POST", RUNS, {"input": f"flood {PIECES}", "stream": True})


def stands_still(server: MixedServer) -> int:
    """How many pieces there were and still are a while later; 0 if they are not the same."""
    before = server.counters()["produced"]
    time.sleep(0.2)
    return before if server.counters()["produced"] == before else 0


def seconds(server: MixedServer) -> float:
    """How long another client's answer takes."""
    with server.connect() as connection:
        began = time.perf_counter()
        connection.send("POST", PATH, question(f"words {WORDS}", stream=True))
        connection.reply()
        assert len(connection.events()) == WORDS + 3
        return time.perf_counter() - began


class Race:
    """Two servers in turn, each by its best time: on a machine that is busy, both suffer now and then."""

    def __init__(self, quiet: MixedServer, beside: MixedServer) -> None:
        self._servers = quiet, beside
        self.best = [float("inf")] * 2

    def turn(self) -> float:
        """One more turn of each; the speed of the second as a share of the first's."""
        self.best = [
            min(best, seconds(server)) for best, server in zip(self.best, self._servers, strict=True)
        ]
        return self.best[0] / self.best[1]


@pytest.fixture(scope="module")
def quiet() -> Iterator[MixedServer]:
    """A server without such a reader, to compare with."""
    with mixed_server() as server:
        yield server


@pytest.mark.parametrize("ask", [chat, run])
def test_who_stops_reading_harms_nobody(ask: Callable[[Connection], None], quiet: MixedServer) -> None:
    with mixed_server(write_idle=IDLE) as server:
        seconds(server)  # warm
        before, held, produced = server.memory(), server.holds(), server.counters()["produced"]
        with Stubborn(server.port) as reader:
            ask(reader)
            assert reader.reply().status == 200
            began = time.monotonic()
            ahead = eventually(lambda: stands_still(server), timeout=IDLE) - produced
            grown = server.memory() - before
            race = Race(quiet, server)
            eventually(lambda: race.turn() > 0.6, timeout=IDLE - 1.0, message=lambda: race.best)
            assert server.status()["admission"]["running"] == 1, "it was cut off before all was measured"
            eventually(server.idle, timeout=2 * IDLE)
            cut_off = time.monotonic() - began
        print(f"{ahead} pieces ahead, {grown >> 10} kB more, {race.best}, cut off after {cut_off:.2f} s")
        assert 0 < ahead < PIECES / 10
        assert grown < GROWTH
        assert cut_off < IDLE + 2
        (line,) = [line for line in server.lines() if line["outcome"] != "completed"]
        assert (line["outcome"], line["reason"]) == ("cancelled", "client stopped reading")
        counters = server.counters()
        assert (counters["runs"], counters["opened"] - counters["closed"]) == (0, 0)
        eventually(lambda: not server.holds_more(held), message=lambda: f"{server.holds()}, before {held}")
        assert server.complaints() == []
