"""Words of the page for Gradio, which translates them in the browser."""

from __future__ import annotations

from typing import Any

import gradio

from .words import CHINESE, key_of, translations

__all__ = ["i18n", "label"]

i18n = gradio.I18n(**translations())


def label(words: str) -> Any:
    """Words in the language of whoever sees them; as they are where words.py does not have them."""
    return i18n(key_of(words)) if words in CHINESE else words
