"""Clients: the connections to a server, for each event loop its own; the one file that knows httpx.

Imported when the first request is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from ...streaming.errors import RemoteError
from .addresses import Address
from .failures import Failure, failure_of_reply
from .timeouts import Timeouts

__all__ = ["Clients"]

Life = AsyncGenerator[httpx.AsyncClient, None]

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
LONGEST_REFUSAL = 64 * 1024
"""Bytes of an error's body that are read."""
REFUSAL_TIME = 5.0
"""Seconds that an error's body may take to come."""


class Clients:
    """Opens a client in each event loop that asks, and closes it with the loop or by `aclose`.

    Each client is held by an asynchronous generator: an event loop closes those that are left when it shuts down,
    so a script's last `asyncio.run` leaves no connection behind.
    """

    def __init__(self, address: Address, timeouts: Timeouts, options: Mapping[str, Any]) -> None:
        self._address = address
        self._timeouts = timeouts
        self._options = options
        self._lives: dict[asyncio.AbstractEventLoop, tuple[Life, httpx.AsyncClient]] = {}

    async def client(self) -> httpx.AsyncClient:
        """The client of the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._lives.get(loop)
        if found is None or found[1].is_closed:
            for closed in [known for known in list(self._lives) if known.is_closed()]:
                self._lives.pop(closed, None)
            life = self._life()
            found = self._lives[loop] = life, await anext(life)
        return found[1]

    async def _life(self) -> Life:
        """A client from its opening to its close."""
        client = self._open()
        try:
            yield client
        finally:
            await client.aclose()

    def _open(self) -> httpx.AsyncClient:
        options = dict(self._options)
        headers = {
            "user-agent": "millrace",
            **self._address.headers(),
            **dict(options.pop("headers", None) or {}),
        }
        direct: dict[str, Any] = {f"all://{host}": None for host in LOOPBACK}
        defaults: dict[str, Any] = {
            "timeout": httpx.Timeout(None, connect=self._timeouts.connect),
            "limits": httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30.0),
        }
        if "proxy" not in options and "transport" not in options:
            defaults["mounts"] = direct
        return httpx.AsyncClient(headers=headers, **{**defaults, **options})

    async def aclose(self) -> None:
        """Closes the clients of all loops that run; they open again when they are needed."""
        here = asyncio.get_running_loop()
        for loop, (life, _) in list(self._lives.items()):
            if loop is here:
                await life.aclose()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_end(life), loop))
            else:
                continue  # it ends with that loop
            self._lives.pop(loop, None)

    # ------------------------------------------------------------ one exchange

    @asynccontextmanager
    async def exchange(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        """Sends a request and gives its answer, whose body is still to be read; leaving it closes the connection
        unless all of it was.

        Raises:
            Failure: no connection, a broken one, or an answer that is a refusal.
        """
        client = await self.client()
        try:
            url = self._address.endpoint(path)
            request = client.build_request(method, url, json=body, headers=headers)
            response = await client.send(request, stream=True)
        except httpx.HTTPError as error:
            raise self._failure(error) from error
        try:
            if response.status_code != 200:
                raise await self._refusal(response)
            yield response
        except httpx.HTTPError as error:
            raise self._failure(error) from error
        finally:
            await response.aclose()

    async def _refusal(self, response: httpx.Response) -> Failure:
        body = b""
        try:
            async with asyncio.timeout(REFUSAL_TIME):
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > LONGEST_REFUSAL:
                        break
        except (TimeoutError, httpx.HTTPError):
            pass  # its status says enough
        return failure_of_reply(self._address, response.status_code, response.headers, body[:LONGEST_REFUSAL])

    def _failure(self, error: httpx.HTTPError) -> Failure:
        """Whether the server was reached, in words."""
        reason = self._address.hide(" ".join(str(error).split())) or type(error).__name__
        if isinstance(error, httpx.ConnectTimeout):
            said = f"took no connection within {self._timeouts.connect:g} s, which is Timeouts(connect)"
        elif isinstance(error, (httpx.ConnectError, httpx.ProxyError)):
            said = f"cannot be reached ({reason}); does it run, and is the address right?"
        elif isinstance(error, httpx.TransportError):
            said = f"broke the connection ({reason})"
        else:
            said = f"answered what cannot be read ({reason})"
        return Failure(RemoteError(f"{self._address} {said}"), again=isinstance(error, httpx.TransportError))


async def _end(life: Life) -> None:
    await life.aclose()
