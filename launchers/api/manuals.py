"""The manual at /docs: a page in which the endpoints can be read and tried, all of it from this server."""

from __future__ import annotations

import html
from functools import cache
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from ...streaming.errors import MissingExtra, require
from .refusals import Refusal

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["add_manual"]

PATH = "/docs"

OURS = ("manual.css", "manual.js")
SWAGGER = ("favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css")

KINDS = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "png": "image/png",
}

CONTENT = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy: scripts of this server alone, which ask nobody else."""

HEADERS = {
    "content-security-policy": CONTENT,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
AN_HOUR = {"cache-control": "private, max-age=3600"}


def add_manual(app: FastAPI) -> None:
    """Puts the page into an application, whose schema it shows."""

    async def page(_: Request) -> Response:
        text = Template(_read("manual.html").decode()).substitute(title=html.escape(f"{app.title}: the API"))
        return Response(text, headers=HEADERS, media_type=KINDS["html"])

    async def part(request: Request) -> Response:
        name = request.url.path.rpartition("/")[2]
        return Response(_read(name), headers=HEADERS | AN_HOUR, media_type=KINDS[name.rpartition(".")[2]])

    app.add_route(PATH, page, include_in_schema=False)
    for name in (*OURS, *SWAGGER):
        app.add_route(f"{PATH}/{name}", part, include_in_schema=False)


@cache
def _read(name: str) -> bytes:
    """A file of the page; Swagger UI's come in a package of their own.

    Raises:
        Refusal: 501, that package is not installed.
    """
    if name not in SWAGGER:
        return files(__package__).joinpath(name).read_bytes()
    try:
        require("fastapi_swagger", "serve")
    except MissingExtra as error:
        raise Refusal(501, str(error), "missing_extra") from None
    return files("fastapi_swagger").joinpath("resources", name).read_bytes()
