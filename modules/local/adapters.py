"""A LoRA adapter (Hu et al. 2021), merged into the weights when a model loads: it costs nothing afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...streaming.errors import ModelError, require

__all__ = ["check_adapter", "merge_adapter"]


def check_adapter(adapter: str) -> Path:
    """The directory of an adapter; never asks a network, never unpickles.

    Raises:
        ModelError: there is none, it is no LoRA adapter, or its weights are no safetensors; names the cure.
    """
    path = Path(adapter).expanduser()
    config = path / "adapter_config.json"
    if not config.is_file():
        raise ModelError(f"adapter={adapter!r}: there is no {config}; give the directory of a LoRA adapter")
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("peft_type")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{config} cannot be read ({error}); save the adapter again") from error
    if kind != "LORA":
        raise ModelError(f"adapter={adapter!r} is of the type {kind!r}; only LoRA adapters can be merged")
    if not (path / "adapter_model.safetensors").is_file():
        raise ModelError(
            f"adapter={adapter!r} has no adapter_model.safetensors; save it again with safe_serialization=True"
        )
    return path


def merge_adapter(model: Any, adapter: str) -> Any:
    """The model with the adapter's changes in its own weights.

    Raises:
        ModelError: the adapter does not fit the model.
        MissingExtra: peft is not installed.
    """
    path = check_adapter(adapter)
    peft = require("peft", "lora")
    try:
        adapted = peft.PeftModel.from_pretrained(model, str(path), is_trainable=False, local_files_only=True)
        return adapted.merge_and_unload(safe_merge=True)
    except Exception as error:  # whatever peft and safetensors say of a file that does not fit
        reason = " ".join(str(error).split())[:500]
        raise ModelError(f"adapter={adapter!r} could not be merged into the model: {reason}") from error
