"""The part of the page with the model's settings, folded at first; only for flows whose answer a model gives."""

from __future__ import annotations

from typing import Any

import gradio

from ..inputs import answering_models
from .handlers import Handlers
from .labels import label
from .settings import Settings

__all__ = ["Adjusting"]


class Adjusting:
    """Is made where it is to stand; `connect` has it follow the conversation that `side` tells of."""

    def __init__(self, page: Handlers) -> None:
        self.page = page
        usual = answering_models(page.tabs.flow)[0].sampling
        with gradio.Accordion(label("Settings"), open=False, elem_id="mr-settings"):
            system = gradio.Textbox(
                label=label("Instructions"),
                info=label("Said to the model before the conversation."),
                lines=3,
                max_lines=8,
            )
            temperature = _number(
                "Temperature",
                "0 always takes the likeliest word; more is more varied.",
                usual.temperature,
                0.1,
            )
            top_p = _number(
                "Top-p", "Only the likeliest words, which together make up this share.", usual.top_p, 0.05
            )
            most = _number("Longest answer", "In tokens; a word has one or two.", usual.max_tokens, 1)
            seed = _number(
                "Seed", "The same seed gives the same answer again, as far as it can.", usual.seed, 1
            )
            whose = gradio.Textbox(visible="hidden", container=False, elem_id="mr-whose")
        self.parts = [whose, system, temperature, top_p, most, seed]

    def connect(self, side: Any) -> None:
        quiet = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        side.change(self.show, outputs=self.parts, **quiet)
        for part in self.parts[1:]:  # Gradio may keep the first input to itself; leaving the field tells all
            for told in (part.input, part.blur):
                told(self.take, inputs=self.parts, trigger_mode="always_last", **quiet)

    async def show(self, request: gradio.Request) -> Any:
        """The settings of the conversation, when it is another one; what is being typed is left alone."""
        tab = self.page.tab(request)
        if tab.adjusted == tab.conversation.id:
            return [gradio.skip()] * len(self.parts)
        tab.adjusted = tab.conversation.id
        settings = tab.conversation.settings
        return [
            tab.adjusted,
            settings.system,
            settings.temperature,
            settings.top_p,
            settings.max_tokens,
            settings.seed,
        ]

    async def take(
        self,
        whose: str,
        system: str,
        temperature: Any,
        top_p: Any,
        most: Any,
        seed: Any,
        request: gradio.Request,
    ) -> None:
        """They hold from the next question on; `whose` they are is told, as their conversation may have been left."""
        tab = self.page.tab(request)
        if whose != tab.conversation.id:
            return
        tab.conversation.settings = Settings.of(
            {"system": system, "temperature": temperature, "top_p": top_p, "max_tokens": most, "seed": seed}
        )
        if not tab.busy:
            tab.conversations.keep(tab.conversation)


def _number(name: str, info: str, usual: float | None, step: float) -> Any:
    whole = step == 1
    return gradio.Number(
        label=label(name),
        info=label(info),
        value=None,
        placeholder="" if usual is None else f"{usual:g}",
        step=step,
        precision=0 if whole else None,
    )
