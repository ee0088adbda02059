"""Server: an address, how patient we are with it, and the connections to it."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Container, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ...streaming.errors import AdmissionError, RemoteError
from .addresses import EXAMPLE, Address
from .failures import Failure, failure_of_reply
from .timeouts import Timeouts
from .tries import with_retries

if TYPE_CHECKING:
    import httpx

    from .clients import Clients

__all__ = ["Server"]

T = TypeVar("T")

OPTIONS = (
    "cert",
    "headers",
    "http1",
    "http2",
    "limits",
    "mounts",
    "proxy",
    "transport",
    "trust_env",
    "verify",
)
"""Of `httpx.AsyncClient`, what makes sense here."""
NOT_READY = (None, 401, 502, 503, 504)
"""Statuses with which a list of models says that nothing else would be answered either; None is no answer at all."""
READY_TIME = 10.0
"""Seconds that a server may take to say whether it is ready."""


class Server:
    """An OpenAI-compatible server as its modules share it.

    Args:
        url: its base URL; mostly ends in `/v1`.
        api_key: its key; never shown.
        api_key_env: the environment variable that has the key instead.
        timeouts: how long it may take.
        retries: how many more attempts a request gets before its first token.
        http: options of `httpx.AsyncClient`, such as `verify`, `proxy`, `headers`, `trust_env`.

    Raises:
        ValueError: a URL, key or number that cannot be.
        TypeError: an option that httpx does not have, or that belongs elsewhere.
    """

    example = EXAMPLE
    """What the URL of such a server looks like."""
    refusal = staticmethod(failure_of_reply)
    """What an answer means that is none."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        api_key_env: str | None = None,
        timeouts: Timeouts | None = None,
        retries: int = 2,
        http: Mapping[str, Any] | None = None,
    ) -> None:
        self.address = Address(url, api_key, api_key_env, self.example)
        self.timeouts = timeouts or Timeouts()
        if not isinstance(retries, int) or retries < 0:
            raise ValueError(f"retries={retries!r}: give a whole number from 0")
        self.retries = retries
        self._options = dict(http or {})
        if wrong := next((name for name in self._options if name not in OPTIONS), None):
            more = "; give timeouts=Timeouts(...)" if wrong == "timeout" else ""
            raise TypeError(f"http has no option {wrong!r}; it has {', '.join(OPTIONS)}{more}")
        self._clients: Clients | None = None

    def __repr__(self) -> str:
        return f"Server({str(self.address)!r})"

    @property
    def clients(self) -> Clients:
        if self._clients is None:
            clients = importlib.import_module(".clients", __package__)  # loads httpx
            self._clients = clients.Clients(self.address, self.timeouts, self._options, self.refusal)
        return self._clients

    def exchange(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        answers: Container[int] = (200,),
    ) -> AbstractAsyncContextManager[httpx.Response]:
        """One request and its answer; see `Clients.exchange`."""
        return self.clients.exchange(method, path, body, headers, answers)

    async def tried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """What the attempt gives, made again where a failure may pass; see `with_retries`."""
        return await with_retries(attempt, self.retries)

    async def ready(self) -> None:
        """Asks the server for its models, so that one that is down is noticed before it is needed.

        Whatever a server says about that list, it is there: some have none, or fail over it.

        Raises:
            RemoteError: it cannot be reached, is not up yet, or does not know the key.
        """
        await self.tried(partial(self.look, "/models"))

    async def look(self, path: str, answers: Container[int] = (200,)) -> tuple[int, bytes] | None:
        """Status and body of what is at `path`; None where the server is there, but will not say.

        Raises:
            Failure: it is not there, not up yet, or does not know the key.
        """
        try:
            async with asyncio.timeout(READY_TIME), self.exchange("GET", path, answers=answers) as response:
                return response.status_code, await response.aread()
        except TimeoutError:
            error = RemoteError(f"{self.address} did not answer GET {path} within {READY_TIME:g} s")
            raise Failure(error, again=True) from None
        except Failure as failure:
            status = getattr(failure.error, "status", None)
            if not isinstance(failure.error, AdmissionError) and status in NOT_READY:
                raise
            return None

    async def aclose(self) -> None:
        """Closes the connections; they open again when they are needed."""
        if self._clients is not None:
            await self._clients.aclose()
