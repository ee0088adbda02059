"""The page that asks for a key, as HTML: no script, nothing to load, as dark as its reader likes it."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path

from .markup import escaped
from .words import said

__all__ = ["HEADERS", "login_page"]

HERE = Path(__file__).resolve().parent

CONTENT = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)

HEADERS = [
    (b"content-security-policy", CONTENT.encode()),
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
]


def login_page(title: str, action: str, back: str, failure: str, language: str) -> str:
    """The page. `action` is where the form goes, `back` the path to go on to, `failure` why it is shown again."""
    tell = f'<p id="failure" class="failure" role="alert">{escaped(failure)}</p>' if failure else ""
    wrong = ' aria-invalid="true" aria-describedby="failure"' if failure else ""
    return f"""<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escaped(said("Log in", language))} · {escaped(title)}</title>
<link rel="icon" href="{_icon()}">
<style>{_style()}</style>
</head>
<body>
<main>
<span class="icon" style="--icon: url('{_icon()}')"></span>
<h1>{escaped(title)}</h1>
<form method="post" action="{escaped(action)}">
<input type="hidden" name="next" value="{escaped(back)}">
<label for="key">{escaped(said("Your key", language))}</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus{wrong}>
{tell}
<button type="submit">{escaped(said("Log in", language))}</button>
</form>
</main>
</body>
</html>
"""


@cache
def _icon() -> str:
    return "data:image/svg+xml;base64," + base64.b64encode((HERE / "chat.svg").read_bytes()).decode()


@cache
def _style() -> str:
    return (HERE / "login.css").read_text(encoding="utf-8")
