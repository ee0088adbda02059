"""How large the pool of keys and values may be, by the memory that there is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from ...streaming.errors import ModelError
from .attention import LayerShape
from .memory import KV, PoolSize

__all__ = ["available_memory", "pool_size"]

GIB = 1 << 30
CPU_SHARE, CPU_MOST = 0.25, 4 * GIB
CUDA_SHARE = 0.85
CGROUP, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""Of a cgroup, what may be used and what is."""


def pool_size(
    kv: KV,
    shapes: Iterable[LayerShape],
    dtype: torch.dtype,
    device: torch.device,
    free: int,
    longest: int,
) -> PoolSize:
    """The blocks that fit into the share of the free memory that `kv` names.

    Args:
        free: bytes of the device's memory.
        longest: tokens of all running requests at full context; more than that is of no use.

    Raises:
        ModelError: not even one block fits; names the figures.
    """
    token_bytes = sum(shape.kv_heads * (shape.key_dim + shape.value_dim) for shape in shapes) * dtype.itemsize
    block_bytes = token_bytes * kv.block_size
    if kv.fraction != "auto":
        share = int(free * kv.fraction)
    elif device.type == "cuda":
        share = int(free * CUDA_SHARE)
    else:
        share = min(int(free * CPU_SHARE), CPU_MOST)
    blocks = min(share // block_bytes - 1, -(-longest // kv.block_size))
    if blocks < 1:
        raise ModelError(
            f"KV(fraction={kv.fraction!r}) of {free / GIB:.2f} GiB free memory is {share / GIB:.3f} GiB, less than "
            f"one block of {kv.block_size} tokens ({block_bytes / GIB:.3f} GiB); raise it, or free memory"
        )
    return PoolSize(blocks, kv.block_size, block_bytes)


def available_memory(device: torch.device) -> int:
    """Bytes that are free on a device; on the CPU of the machine or of this process's cgroups, whichever is least."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min([_machine_memory(), *_cgroup_memory()])


def _machine_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return 4 * GIB


def _cgroup_memory() -> Iterator[int]:
    """What is left of each limit on this process's cgroup, or on one around it (versions 2 and 1)."""
    for group in _cgroups():
        for limit, used in LIMITS:
            try:
                most = (group / limit).read_text(encoding="ascii").strip()
                if most != "max":
                    taken = int((group / used).read_text(encoding="ascii")) - _file_cache(group)
                    yield max(0, int(most) - taken)
            except (OSError, ValueError):
                continue  # of the other version, or without a limit of its own


def _file_cache(group: Path) -> int:
    """What a cgroup has of files that were read, weights among them: it counts as used, and gives way."""
    try:
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}
    return sum(found.get(f"total_{kind}", found.get(kind, 0)) for kind in ("active_file", "inactive_file"))


def _cgroups() -> Iterator[Path]:
    """The cgroup that this process is in, then those around it."""
    try:
        lines = MEMBERSHIP.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = CGROUP / "memory" if controllers else CGROUP
        group = root / path.lstrip("/")
        yield from (group, *(around for around in group.parents if around.is_relative_to(root)))
