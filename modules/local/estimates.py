"""How much memory a model will take, read from the headers of its files before any weight is."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...streaming.errors import ModelError
from .sizing import GIB, available_memory

__all__ = ["WeightsEstimate", "activation_bytes", "check_memory", "estimate_weights"]

LONGEST_HEADER = 100_000_000
"""Bytes; the safetensors format allows no more."""
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
SPARE = 1.05
"""The tokenizer, buffers of the libraries and the like, as a factor."""


@dataclass(frozen=True, slots=True)
class WeightsEstimate:
    """What the safetensors of a directory hold."""

    floats: int
    """Parameters in floating point, which take the dtype asked for."""
    float_bytes: int
    """Their size as stored."""
    other_bytes: int
    """Size of everything else, such as quantised weights."""

    def bytes(self, dtype: torch.dtype | None) -> int:
        """Size in memory in this dtype; None keeps the dtypes of the files."""
        return self.other_bytes + (self.float_bytes if dtype is None else self.floats * dtype.itemsize)


def estimate_weights(path: Path) -> WeightsEstimate:
    """Adds up the tensors of a directory's weights.

    Raises:
        ModelError: a file is no safetensors file.
    """
    floats = float_bytes = other_bytes = 0
    for file in weight_files(path):
        for tensor in read_header(file).values():
            start, end = tensor["data_offsets"]
            size = DTYPES.get(tensor["dtype"])
            if size is None:
                other_bytes += end - start
            else:
                floats += (end - start) // size
                float_bytes += end - start
    return WeightsEstimate(floats, float_bytes, other_bytes)


def weight_files(path: Path) -> list[Path]:
    """The files that transformers will read: those of the index, or the one, or all there are."""
    index = path / "model.safetensors.index.json"
    if index.is_file():
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return [path / name for name in sorted(names)]
    single = path / "model.safetensors"
    return [single] if single.is_file() else sorted(path.glob("*.safetensors"))


def read_header(file: Path) -> dict[str, Any]:
    """The names, dtypes and places of a file's tensors (https://github.com/huggingface/safetensors, Format)."""
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > LONGEST_HEADER:
                raise ValueError("its header is too long")
            header: dict[str, Any] = json.loads(opened.read(length))
    except (OSError, ValueError, struct.error) as error:
        raise ModelError(f"{file} is no safetensors file ({error}); fetch it again") from error
    header.pop("__metadata__", None)
    return header


def activation_bytes(config: Any, dtype: torch.dtype, tokens: int) -> int:
    """What the widest part of a forward over so many tokens holds at once: an MLP's gate, what it gates, and both
    together.
    """
    text = config.get_text_config()
    return 3 * tokens * int(getattr(text, "intermediate_size", 0) or 0) * dtype.itemsize


def check_memory(
    path: Path, dtype: torch.dtype | None, device: torch.device, activations: int = 0
) -> WeightsEstimate:
    """Refuses a model whose weights do not fit, with so many bytes of activations beside them.

    Raises:
        ModelError: names what is needed and what is there.
    """
    estimate = estimate_weights(path)
    needed, free = int(estimate.bytes(dtype) * SPARE) + activations, available_memory(device)
    if needed > free:
        raise ModelError(
            f"the weights of {path} take about {needed / GIB:.2f} GiB as {dtype or 'stored'}, but {device} has "
            f"{free / GIB:.2f} GiB free; take a smaller dtype or model, or free memory"
        )
    return estimate
