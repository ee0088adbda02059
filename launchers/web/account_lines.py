"""Who is logged in, as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..owners import owner_of
from .logins import LOGGED_IN
from .markup import escaped
from .words import language_of, said

__all__ = ["account"]


def account(scope: Mapping[str, Any]) -> str:
    """The name and a button; nothing for those who came with a header, which no button can take away."""
    name = owner_of(scope).name
    if name is None or not scope.get(LOGGED_IN):
        return ""
    leave = escaped(said("Log out", language_of(scope)))
    root = escaped(str(scope.get("root_path", "")))
    return (
        f'<form method="post" action="{root}/logout"><span>{escaped(name)}</span>'
        f'<button type="submit">{leave}</button></form>'
    )
