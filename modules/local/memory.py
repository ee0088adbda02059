"""How much memory is reserved for keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["KV", "PoolSize"]

DTYPES = ("auto", "float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True, slots=True)
class KV:
    """The pool of keys and values, reserved once at the start.

    Args:
        fraction: the share of the free memory to reserve, above 0 and up to 1. `"auto"`: on CUDA 0.85 of what is
            free after the weights; on the CPU 0.25 of what is available (of the cgroup's limit, where there is
            one), at most 4 GiB. Never more than all running requests at full context could use.
        dtype: of the keys and values; `"auto"` is the model's.
        block_size: tokens in one block, the unit in which memory is given to requests.

    Raises:
        ValueError: a value is out of range; names the field, the value and the range.
    """

    fraction: float | Literal["auto"] = "auto"
    dtype: str = "auto"
    block_size: int = 16

    def __post_init__(self) -> None:
        if self.fraction != "auto":
            number = isinstance(self.fraction, (int, float)) and not isinstance(self.fraction, bool)
            if not number or not 0 < self.fraction <= 1:
                raise ValueError(
                    f"KV(fraction={self.fraction!r}): give a share above 0 and up to 1 (such as 0.5 for half of "
                    'the free memory) or "auto"'
                )
        if self.dtype not in DTYPES:
            raise ValueError(f"KV(dtype={self.dtype!r}): give one of {', '.join(DTYPES)}")
        if not isinstance(self.block_size, int) or not 1 <= self.block_size <= 1024:
            raise ValueError(f"KV(block_size={self.block_size!r}): give a whole number from 1 to 1024")


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How many blocks a pool has, and what one costs."""

    blocks: int
    """Blocks for requests; the padding block comes on top."""
    block_size: int
    """Tokens in one block."""
    block_bytes: int
    """Bytes of one block over all layers, keys and values together."""

    @property
    def tokens(self) -> int:
        return self.blocks * self.block_size

    @property
    def bytes(self) -> int:
        return (self.blocks + 1) * self.block_bytes
