"""`millrace top`: look at a service that runs, from a terminal."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..streaming.errors import MillraceError
from .exits import errors

if TYPE_CHECKING:
    import httpx

__all__ = ["top"]

PATIENCE = 5.0
"""Seconds that a service has to answer."""

LOCAL = ("localhost", "127.0.0.1", "::1")


def top(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Where the service is.")
    ] = "http://127.0.0.1:8000",
    key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable that has the API key.")
    ] = None,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print it once.")] = False,
) -> None:
    """Watch a service: its runs, its line, and what its engines do. Ctrl-C leaves it alone."""
    from rich.console import Console

    from .service_views import ServiceView

    with errors(), Service(url, key_env) as service:
        console = Console(highlight=False)
        view = ServiceView(service.address)
        view.take(service.figures())
        if once or not console.is_terminal:
            console.print(view)
        else:
            _watch(service, view, console, interval)


def _watch(service: Service, view: Any, console: Any, interval: float) -> None:
    """Looks again and again; a service that is gone for a while is waited for."""
    from rich.live import Live

    with Live(view, console=console, auto_refresh=False, screen=True, vertical_overflow="crop") as shown:
        while True:
            time.sleep(interval)
            try:
                view.take(service.figures())
            except MillraceError as error:
                view.miss(str(error))
            shown.refresh()


class Service:
    """The way to a service's `/status`; a context manager.

    Raises:
        MillraceError: there can be nothing at that URL.
        BadParameter: the environment variable is not there.
    """

    def __init__(self, url: str, key_env: str | None) -> None:
        import httpx

        self._key_env = key_env
        try:
            base = httpx.URL(url if "://" in url else f"http://{url}")
        except httpx.InvalidURL:
            base = httpx.URL("")
        if base.scheme not in ("http", "https") or not base.host:
            raise typer.BadParameter(f"{url!r} is no URL; write it as http://127.0.0.1:8000")
        base = base.copy_with(path=base.path.rstrip("/").removesuffix("/v1") or "/", query=None)
        self.address = str(base.copy_with(userinfo=b"")).rstrip("/")
        headers = {} if key_env is None else {"authorization": f"Bearer {_key(key_env)}"}
        self._client = httpx.Client(
            base_url=base, headers=headers, timeout=PATIENCE, trust_env=base.host not in LOCAL
        )

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def figures(self) -> dict[str, Any]:
        """What the service says of itself now.

        Raises:
            MillraceError: nothing answers there, it wants a key, or it is something else.
        """
        import httpx

        try:
            answer = self._client.get("status")
        except httpx.TransportError as error:
            raise MillraceError(
                f"nothing answers at {self.address} ({_words(error)}); "
                "is the service up? start one with: millrace serve app:flow"
            ) from None
        if answer.status_code in (401, 403):
            raise MillraceError(self._refusal(answer))
        figures = _object(answer) if answer.status_code == 200 else {}
        if not {"status", "model", "uptime", "runs", "admission", "lately", "engines"} <= figures.keys():
            raise MillraceError(
                f"what answers at {self.address} is no service of this version of millrace "
                f"(/status gave {answer.status_code}); give the address that millrace serve has printed"
            )
        return figures

    def _refusal(self, answer: httpx.Response) -> str:
        if answer.status_code == 403:
            return f"{self.address} refuses the name {self._client.base_url.host}; ask for it as 127.0.0.1"
        if self._key_env is None:
            return f"{self.address} wants an API key; put it into a variable and name that: --key-env NAME"
        return f"{self.address} does not know the API key in {self._key_env}"


def _key(name: str) -> str:
    key = os.environ.get(name, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise typer.BadParameter(f"the environment variable {name} has no API key in it")
    return key


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _words(error: Exception) -> str:
    import httpx

    if isinstance(error, httpx.TimeoutException):
        return f"no answer within {PATIENCE:g} s"
    return str(error) or type(error).__name__
