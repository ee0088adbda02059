"""Listeners: bound before anything else, and dealt out to processes."""

from __future__ import annotations

import socket
import sys
from contextlib import ExitStack, closing, suppress

import pytest

from millrace import MillraceError
from millrace.launchers.listeners import bind, bind_each, url_of


def test_url() -> None:
    for host, shown in {"127.0.0.1": "127.0.0.1", "0.0.0.0": "127.0.0.1", "localhost": "127.0.0.1"}.items():
        with closing(bind(host, 0)) as listener:
            assert url_of(listener) == f"http://{shown}:{listener.getsockname()[1]}"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_url_of_ipv6() -> None:
    for host in ("::1", "::", "[::1]"):
        with closing(bind(host, 0)) as listener:
            assert url_of(listener) == f"http://[::1]:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("host", "told"),
    [("192.0.2.1", "cannot listen on 192.0.2.1.*--host"), ("no.such.host.invalid", "cannot listen.*--host")],
)
def test_an_address_that_cannot_be_had(host: str, told: str) -> None:
    with pytest.raises(MillraceError, match=told):
        bind(host, 0)


@pytest.mark.parametrize("count", [1, 3])
def test_each_has_a_line_of_its_own_on_one_address(count: int) -> None:
    with ExitStack() as stack:
        listeners = [stack.enter_context(listener) for listener in bind_each("127.0.0.1", 0, count)]
        assert len(listeners) == count
        address = listeners[0].getsockname()
        assert {listener.getsockname() for listener in listeners} == {address}
        for _ in range(60):
            stack.enter_context(socket.create_connection(address))
        taken = [len(accepted(listener, stack)) for listener in listeners]
    assert sum(taken) == 60
    assert sys.platform != "linux" or min(taken) > 3


def test_a_port_in_use_is_found_out_by_one_of_many_too() -> None:
    with ExitStack() as stack:
        for listener in bind_each("127.0.0.1", 0, 2):
            stack.enter_context(listener)
        for count in (1, 2):
            with pytest.raises(MillraceError, match=r"in use by another program; .* --port"):
                bind_each("127.0.0.1", listener.getsockname()[1], count)


def accepted(listener: socket.socket, stack: ExitStack) -> list[socket.socket]:
    """Those that wait in its line."""
    listener.setblocking(False)
    found: list[socket.socket] = []
    with suppress(BlockingIOError):
        while True:
            found.append(stack.enter_context(listener.accept()[0]))
    return found
