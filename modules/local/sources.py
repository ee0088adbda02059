"""What an engine is made of: its settings, unchanged over its life."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...streaming.limits import Limits
from .memory import KV

__all__ = ["EngineSettings", "Source"]

Source = str | os.PathLike[str] | Callable[[], tuple[Any, Any]]
"""A directory, `org/name` in the hub's local cache, or a function that returns (model, tokenizer)."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """The arguments of `Engine`."""

    source: Source
    device: str
    dtype: str
    quantization: Any
    kv: KV
    limits: Limits
    chat_template: str | None
    adapter: str | None = None
