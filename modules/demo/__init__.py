"""The bundled demo: a tiny language model that has learned millrace's glossary, and the topics it knows."""

from __future__ import annotations

from pathlib import Path

__all__ = ["weights_path"]


def weights_path() -> Path:
    """The directory that holds the demo's weights, configuration, tokenizer and chat template."""
    return Path(__file__).resolve().parent
