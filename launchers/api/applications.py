"""The service's ASGI application: its routes, its errors, and who may ask."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ...streaming.errors import MissingExtra
from ..owners import owner_of
from ..web.logins import Login
from .completions import ChatCompletions
from .desks import Desk
from .embeddings import Embeddings
from .figures import seen_by, told
from .guards import Guard, Keys
from .manuals import add_manual
from .metrics import Metrics
from .model_endpoints import unknown_model
from .readiness import Readiness
from .refusals import Refusal, failure_of
from .replies import STARTED
from .responses import Responses
from .run_endpoints import Runs
from .schemas.documents import Guarding, complete
from .wire import model_card

__all__ = ["make_app"]

logger = logging.getLogger("millrace.service")


def make_app(
    desk: Desk,
    readiness: Readiness,
    title: str,
    keys: Keys | None,
    hosts: Iterable[str] | None,
    figures: Callable[[], Awaitable[dict[str, Any]]],
    login: Login | None = None,
) -> FastAPI:
    """The application around one desk; `keys`, `hosts` and `login` as Guard takes them."""
    runs, responses = Runs(desk), Responses(desk)
    shortcuts = {endpoint.path: endpoint for endpoint in (ChatCompletions(desk), responses, Embeddings(desk))}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        readiness.begin()
        try:
            yield
        finally:
            await desk.end()
            await readiness.end()

    app = Application(title=title, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    _add_models(app, desk.model)
    _add_health(app, readiness)
    _add_figures(app, figures)
    add_manual(app)
    routes: dict[str, ASGIApp] = {
        "/v1/runs": runs,
        "/v1/runs/{rest:path}": runs,
        "/v1/responses/{rest:path}": responses,
    }
    for path, endpoint in routes.items():
        app.router.routes.append(Route(path, Endpoint(endpoint), include_in_schema=False))
    for path in OURS:
        app.add_route(path, _nothing_here, methods=list(METHODS), include_in_schema=False)
    app.add_exception_handler(Refusal, _answer_refusal)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_failure)
    app.add_middleware(Shortcut, endpoints=shortcuts)
    app.add_middleware(Guard, keys=keys, hosts=hosts, login=login)
    app.lead_straight(
        {
            path: Guard(endpoint, keys=keys, hosts=hosts, login=login).lead
            for path, endpoint in shortcuts.items()
        }
    )
    _describe(app, desk, Guarding(keys is not None, hosts is not None))
    return app


class Application(FastAPI):
    """The service's FastAPI, which leads to its busiest endpoints past all of its layers: they cost as much again.

    Where somebody has added middleware, it stands before these endpoints too.
    """

    _straight: Mapping[str, ASGIApp] = MappingProxyType({})
    _layers = 0

    def lead_straight(self, endpoints: Mapping[str, ASGIApp]) -> None:
        """From now on these answer for their paths, until middleware is added."""
        self._straight, self._layers = endpoints, len(self.user_middleware)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        straight = None
        if scope["type"] == "http" and len(self.user_middleware) == self._layers:
            straight = self._straight.get(scope["path"].removeprefix(scope.get("root_path", "")))
        if straight is None:
            await super().__call__(scope, receive, send)
            return
        try:
            await straight(scope, receive, send)
        except Exception as error:
            if STARTED not in scope:
                await failure_of(error).send_to(send)
            raise


class Shortcut:
    """Leads to some endpoints, by path, past the router and the layers before it, which cost as much as an endpoint.

    Middleware that is added to the application later stands before it, as before everything else.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, ASGIApp]) -> None:
        self.app = app
        self.endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self.app
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            endpoint = self.endpoints.get(path, self.app)
        await endpoint(scope, receive, send)


class Endpoint:
    """A bare ASGI application as a route takes it: given as an object, it is left as it is."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)


def _add_models(app: FastAPI, model: str) -> None:
    card = model_card(model, int(time.time()))

    @app.head("/v1/models", include_in_schema=False)
    @app.get("/v1/models", summary="The flow, as the one model of this server")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [card]}

    @app.head("/v1/models/{name:path}", include_in_schema=False)
    @app.get("/v1/models/{name:path}", summary="The flow, by its name")
    async def retrieve_model(name: str) -> dict[str, Any]:
        if name != model:
            raise unknown_model(name, model)
        return card


def _add_health(app: FastAPI, readiness: Readiness) -> None:
    @app.head("/health/live", include_in_schema=False)
    @app.get("/health/live", summary="Whether the process answers")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.head("/health/ready", include_in_schema=False)
    @app.get("/health/ready", summary="Whether the flow can serve", responses={503: {}})
    async def ready() -> JSONResponse:
        can_serve, report = readiness.report()
        return JSONResponse(report, 200 if can_serve else 503)


def _add_figures(app: FastAPI, read: Callable[[], Awaitable[dict[str, Any]]]) -> None:
    """How the service is, for people and for Prometheus: answered beside the line, however long that is."""
    metrics: list[Metrics] = []

    @app.head("/status", include_in_schema=False)
    @app.get("/status", summary="How the service and its engines are, in numbers")
    async def status() -> dict[str, Any]:
        return told(await read())

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", summary="The same for Prometheus", response_class=PlainTextResponse)
    async def prometheus(request: Request) -> Response:
        try:
            if not metrics:
                metrics.append(Metrics())
        except MissingExtra as error:
            raise Refusal(501, str(error), "missing_extra") from None
        figures = seen_by(owner_of(request.scope), await read())
        return Response(metrics[0].text(figures), media_type="text/plain; version=0.0.4; charset=utf-8")


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")

OURS = (
    "/v1/{rest:path}",
    "/health/{rest:path}",
    "/docs/{rest:path}",
    "/docs",
    "/status",
    "/metrics",
    "/openapi.json",
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/models",
    "/responses",
    "/runs",
)
"""What nobody else answers, such as a chat at `/`, though there be nothing or another method be meant."""


async def _nothing_here(request: Request) -> Response:
    others = (route for route in request.app.routes if route.matches(request.scope)[0] is Match.PARTIAL)
    allowed = {method for route in others for method in getattr(route, "methods", None) or ()}
    if allowed:
        raise HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))})
    raise HTTPException(404)


async def _answer_refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return Response(error.as_json(), error.status, error.headers, "application/json")


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """What the router refuses, in OpenAI's shape."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        refusal = Refusal(404, f"there is nothing at {request.url.path}", "not_found")
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        refusal = Refusal(
            405, f"{request.url.path} takes {allowed}, not {request.method}", "method_not_allowed"
        )
    else:
        refusal = Refusal(error.status_code, str(error.detail), "http_error")
    refusal.headers = dict(error.headers or {})
    return await _answer_refusal(request, refusal)


async def _answer_failure(request: Request, error: Exception) -> Response:
    return await _answer_refusal(request, failure_of(error))


def _describe(app: FastAPI, desk: Desk, guarding: Guarding) -> None:
    """Has the schema say all, when it is first asked for: FastAPI reads what was added to the application."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            added = [route for route in app.routes if _module_of(route) != __name__]
            document = get_openapi(title=app.title, version=app.version, summary=SUMMARY, routes=added)
            app.openapi_schema = complete(document, desk, guarding)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


SUMMARY = "A flow behind HTTP: typed runs, and the routes that clients of OpenAI know"


def _module_of(route: Any) -> str | None:
    return getattr(getattr(route, "endpoint", None), "__module__", None)
