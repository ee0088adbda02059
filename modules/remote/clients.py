"""Clients: the connections to a server, for each event loop its own; the one file that knows httpx.

Imported when the first request is made.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx

from ...streaming.errors import RemoteError
from .addresses import Address
from .cleanups import to_its_end
from .failures import Failure, failure_of_reply
from .timeouts import Timeouts

__all__ = ["Clients"]

_contexts: dict[bool, ssl.SSLContext] = {}
"""What certificates are checked by, with and without the environment's."""
Life = AsyncGenerator[httpx.AsyncClient, None]
Refusal = Callable[[Address, int, Mapping[str, str], bytes], Failure]

LOCAL = ("localhost", "127.0.0.1", "::1")
DIRECT = ("all://localhost", "all://127.0.0.1", "all://[::1]")
"""Where no proxy stands between, in httpx's patterns."""
LONGEST_REFUSAL = 64 * 1024
"""Bytes of an error's body that are read."""
REFUSAL_TIME = 5.0
"""Seconds that an error's body may take to come."""


@dataclass(eq=False)
class Opened:
    """A client at work in one event loop."""

    life: Life
    client: httpx.AsyncClient
    exchanges: int = 0
    retired: bool = False
    """Nothing new is sent over it, and it ends with its last exchange."""


class Progress:
    """How far the sending of a request is; httpcore tells, as its extension `trace`."""

    def __init__(self) -> None:
        self._connection: Any = None
        self._sent = False

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._connection = info["return_value"]
        elif event.startswith("http"):
            self._sent = True

    async def abandon(self) -> bool:
        """Closes a connection that was made and not used; false where there is none.

        httpcore never does: stopped at this moment, it keeps it for ever.
        """
        if self._connection is None or self._sent:
            return False
        await self._connection.aclose()
        return True


class Clients:
    """Opens a client in each event loop that asks, and closes it with the loop or by `aclose`.

    Each client is held by an asynchronous generator: an event loop closes those that are left when it shuts down,
    so a script's last `asyncio.run` leaves no connection behind. `refusal` says what an answer means that is none.
    """

    def __init__(
        self,
        address: Address,
        timeouts: Timeouts,
        options: Mapping[str, Any],
        refusal: Refusal = failure_of_reply,
    ) -> None:
        self._address = address
        self._timeouts = timeouts
        self._options = options
        self._refusal_of = refusal
        self._opened: dict[asyncio.AbstractEventLoop, Opened] = {}

    async def open(self) -> Opened:
        """The client of the running event loop."""
        loop = asyncio.get_running_loop()
        found = self._opened.get(loop)
        if found is not None and not found.retired:
            return found
        verify = await self._verification()
        found = self._opened.get(loop)
        if found is None or found.retired:  # nobody has opened one meanwhile
            for known in list(self._opened):
                if known.is_closed():
                    self._opened.pop(known, None)
            life = self._life(verify)
            found = self._opened[loop] = Opened(life, await anext(life))  # begins at once, without waiting
        return found

    async def _verification(self) -> Any:
        """How certificates are checked. Reading those of the system takes long, so a thread does, and once."""
        if any(name in self._options for name in ("verify", "cert", "transport")):
            return self._options.get("verify", True)
        if not self._address.secure and self._address.host in LOCAL:
            return False  # no TLS, no proxy, nothing to check
        trust_env = bool(self._options.get("trust_env", True))
        if trust_env not in _contexts:
            _contexts[trust_env] = await asyncio.to_thread(httpx.create_ssl_context, trust_env=trust_env)
        return _contexts[trust_env]

    async def _life(self, verify: Any) -> Life:
        """A client from its opening to its close."""
        client = self._made(verify)
        try:
            yield client
        finally:
            await client.aclose()

    def _made(self, verify: Any) -> httpx.AsyncClient:
        options = dict(self._options)
        headers = {
            "user-agent": "millrace",
            **self._address.headers(),
            **dict(options.pop("headers", None) or {}),
        }
        direct: dict[str, Any] = dict.fromkeys(DIRECT)
        defaults: dict[str, Any] = {
            "verify": verify,
            "timeout": httpx.Timeout(None, connect=self._timeouts.connect),
            "limits": httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=30.0),
        }
        if "proxy" not in options and "transport" not in options:
            defaults["mounts"] = direct
        return httpx.AsyncClient(headers=headers, **{**defaults, **options})

    async def aclose(self) -> None:
        """Closes the clients of all loops that run; they open again when they are needed."""
        here = asyncio.get_running_loop()
        for loop, opened in list(self._opened.items()):
            if loop is not here and not loop.is_running():
                continue  # it ends with that loop
            opened.retired = True
            self._opened.pop(loop, None)
            if loop is here:
                await opened.life.aclose()
            else:
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_end(opened.life), loop))

    # ------------------------------------------------------------ one exchange

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        answers: Container[int] = (200,),
    ) -> AsyncIterator[httpx.Response]:
        """Sends a request and gives its answer, whose body is still to be read; leaving it closes the connection
        unless all of it was.

        A `body` of bytes is JSON already. Of other statuses than `answers` it is a refusal.

        Raises:
            Failure: no connection, a broken one, or an answer that is a refusal.
        """
        opened = await self.open()
        opened.exchanges += 1
        try:
            response = await self._send(opened, method, path, body, headers)
            try:
                if response.status_code not in answers:
                    raise await self._refusal(response)
                yield response
            finally:  # httpcore does not take up a close that a cancel has come into: the connection would stay
                await to_its_end(response.aclose)
        except httpx.HTTPError as error:
            raise self._failure(error) from error
        finally:
            opened.exchanges -= 1
            if opened.retired and not opened.exchanges:
                await to_its_end(partial(_end, opened.life))

    async def _send(
        self, opened: Opened, method: str, path: str, body: Any, headers: Mapping[str, str] | None
    ) -> httpx.Response:
        """The head of the answer."""
        progress = Progress()
        url = self._address.endpoint(path)
        content: dict[str, Any] = {"json": body}
        if isinstance(body, bytes):
            content, headers = {"content": body}, {"content-type": "application/json", **(headers or {})}
        request = opened.client.build_request(
            method, url, **content, headers=headers, extensions={"trace": progress}
        )
        try:
            return await opened.client.send(request, stream=True)
        except BaseException:
            if await progress.abandon():
                opened.retired = True
            raise

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
        return self._refusal_of(self._address, response.status_code, response.headers, body[:LONGEST_REFUSAL])

    def _failure(self, error: httpx.HTTPError) -> Failure:
        """Whether the server was reached, in words."""
        reason = self._address.hide(" ".join(str(error).split())) or type(error).__name__
        if isinstance(error, httpx.ConnectTimeout):
            said = f"took no connection within {self._timeouts.connect:g} s, which is Timeouts(connect)"
        elif "CERTIFICATE_VERIFY_FAILED" in reason:
            told = f"{self._address} has a certificate that is not trusted ({reason}); say what to trust: "
            return Failure(RemoteError(told + "http={'verify': ssl.create_default_context(cafile=...)}"))
        elif isinstance(error, (httpx.ConnectError, httpx.ProxyError)):
            said = f"cannot be reached ({reason}); does it run, and is the address right?"
        elif isinstance(error, httpx.TransportError):
            said = f"broke the connection ({reason})"
        else:
            said = f"answered what cannot be read ({reason})"
        return Failure(
            RemoteError(f"{self._address} {said}"),
            again=isinstance(error, httpx.TransportError),
            sent=not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)),
        )


async def _end(life: Life) -> None:
    await life.aclose()
