"""Who is logged in, below the list at the side, and the way out."""

from __future__ import annotations

from typing import Any

import gradio

from .account_lines import account

__all__ = ["Account"]


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
