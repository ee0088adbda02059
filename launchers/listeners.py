"""Listeners: the sockets of a service, bound before anything else is made, one for each process that serves."""

from __future__ import annotations

import errno
import os
import socket
import sys

from ..streaming.errors import MillraceError

__all__ = ["bind", "bind_each", "check_exposure", "url_of"]

BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens; connections wait in its line until somebody accepts them.

    Raises:
        MillraceError: the port is in use, or the address cannot be had; says what to do.
    """
    (listener,) = bind_each(host, port, 1)
    return listener


def bind_each(host: str, port: int, count: int) -> list[socket.socket]:
    """A listener for each of `count` processes, all on one address.

    On Linux each has a line of its own (SO_REUSEPORT), and the kernel deals connections out by chance. Of 32 that
    came at once, two processes got 11 and 21 at worst, and made as many answers a second as two can; from one line
    that they shared they took 1 and 31, as whoever is awake takes what there is, and with connections that stay that
    is so for good. What waits in a line outlives the process that serves it, as long as somebody else holds the
    listener too. Elsewhere the kernel does not deal out, so there it is one line for all.

    Raises:
        MillraceError: as `bind`.
    """
    listeners = [_bound(host, port)]
    try:
        if count > 1 and sys.platform == "linux":
            _share(listeners[0])
            host, port = listeners[0].getsockname()[:2]
            while len(listeners) < count:
                listeners.append(_bound(host, port, shared=True))
        for listener in listeners:
            listener.listen(BACKLOG)
    except BaseException as error:
        for listener in listeners:
            listener.close()
        if isinstance(error, OSError):
            raise MillraceError(_why_not(host, port, error)) from None
        raise
    return listeners + [listeners[0].dup() for _ in range(count - len(listeners))]


def _bound(host: str, port: int, shared: bool = False) -> socket.socket:
    """The first is bound alone and shared afterwards, so that a port in use is found out."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            _share(listener)
        listener.bind((host.strip("[]"), port))
    except OSError as error:
        listener.close()
        raise MillraceError(_why_not(host, port, error)) from None
    return listener


def check_exposure(host: str, api_keys: object, insecure: bool) -> None:
    """Raises MillraceError where a service would answer anybody who reaches this machine."""
    from .api.guards import is_loopback

    if not is_loopback(host) and api_keys is None and not insecure:
        raise MillraceError(
            f"refusing to listen on {host} without API keys: anybody who reaches this machine could use "
            "it; give api_keys (--api-keys FILE), or insecure=True (--insecure) if that is meant"
        )


def _share(listener: socket.socket) -> None:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use by another program; choose another one with --port "
            "(port= in Python, 0 for any that is free)"
        )
    if error.errno == errno.EACCES:
        return f"this user may not listen on port {port}; choose one above 1023 with --port"
    return f"cannot listen on {host}, port {port}: {error.strerror}; choose another address with --host"


def url_of(listener: socket.socket) -> str:
    """Where the server can be reached from this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
