"""Who is logged in, below the list at the side, and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio

from ..owners import owner_of
from .logins import LOGGED_IN
from .markup import escaped
from .words import language_of, said

__all__ = ["Account", "account"]


class Account:
    """Is made where it is to stand; `connect` has each page ask for its own."""

    def __init__(self) -> None:
        self.area = gradio.HTML(
            "", elem_id="mr-account", padding=False, apply_default_css=False, js_on_load=None
        )

    def connect(self, blocks: Any) -> None:
        blocks.load(
            self.show, outputs=[self.area], queue=False, show_progress="hidden", api_visibility="private"
        )

    async def show(self, request: gradio.Request) -> str:
        return account(getattr(request.request, "scope", None) or {})


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
