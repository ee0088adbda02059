"""The noise of sampling: a hash of (seed, position, token id), so that it depends on nothing else.

A token's noise is the same whatever row of the batch its request has, who its neighbours are, and whether the
request was preempted and computed again.
"""

from __future__ import annotations

import torch

__all__ = ["gumbel", "row_key"]

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
FIRST = 0xBF58476D1CE4E5B9
SECOND = 0x94D049BB133111EB


def row_key(seed: int, position: int) -> int:
    """64 bits for one token of one request, as a signed number."""
    return _signed(_mix(_mix(seed + GOLDEN) + (position + 1) * GOLDEN))


def gumbel(keys: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise: keys (rows, 1) and token ids (rows or 1, n), both int64, to (rows, n) float32.

    The largest of `logits + gumbel` is a draw from `softmax(logits)` (Maddison et al. 2014).
    """
    value = keys + ids * _signed(GOLDEN)
    value ^= _shifted(value, 30)
    value *= _signed(FIRST)
    value ^= _shifted(value, 27)
    value *= _signed(SECOND)
    value ^= _shifted(value, 31)
    # A float is finest near 0, so that is where the rare and large noise comes from.
    uniform = _shifted(value, 11).float().add_(0.5).mul_(2.0**-53)
    return uniform.neg_().log1p_().neg_().log_().neg_()


def _mix(value: int) -> int:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014), on a Python int."""
    value &= MASK
    value = ((value ^ (value >> 30)) * FIRST) & MASK
    value = ((value ^ (value >> 27)) * SECOND) & MASK
    return value ^ (value >> 31)


def _signed(value: int) -> int:
    """The same 64 bits as torch's int64 holds them."""
    return value - (1 << 64) if value >> 63 else value


def _shifted(value: torch.Tensor, bits: int) -> torch.Tensor:
    """A logical shift to the right; torch's own copies the sign."""
    return (value >> bits).bitwise_and_((1 << (64 - bits)) - 1)
