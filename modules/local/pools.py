"""KVPool: the reserved memory for keys and values. PagedAttention: one step's use of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from .attention import Attention, LayerShape, causal, masked, segment_mask

__all__ = ["KVPool", "PagedAttention", "Rows", "Scratch", "Segment", "Table"]


class KVPool:
    """Keys and values of all layers, each `[block, block_size, kv_heads, head_dim]`; block 0 is padding.

    The memory is taken and touched here, once.
    """

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.blocks = blocks
        self.block_size = block_size
        self.dtype = dtype
        self.device = device

        def reserve(heads: int, dim: int) -> torch.Tensor:
            size = (blocks + 1, block_size, heads, dim)
            return torch.empty(size, dtype=dtype, device=device).zero_()

        self.keys = [reserve(shape.kv_heads, shape.key_dim) for shape in shapes]
        self.values = [reserve(shape.kv_heads, shape.value_dim) for shape in shapes]
        self.key_slots = [as_slots(keys) for keys in self.keys]
        self.value_slots = [as_slots(values) for values in self.values]

    def zero(self, blocks: Sequence[int]) -> None:
        """Clears blocks that may hold NaN: what is masked out still counts, as 0 times NaN."""
        if blocks:
            index = torch.tensor(blocks, dtype=torch.int64, device=self.device)
            for tensor in (*self.keys, *self.values):
                tensor.index_fill_(0, index, 0)


def as_slots(blocks: torch.Tensor) -> torch.Tensor:
    """The same memory as attention sees it, its tokens in one line: (1, kv_heads, slots, head_dim)."""
    return blocks.flatten(0, 1).transpose(0, 1)[None]


class Scratch:
    """Memory that every layer of every step uses anew: fresh pages cost more than the work done in them."""

    def __init__(self) -> None:
        self._buffers: dict[str, torch.Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
        """A tensor of this shape with undefined content, valid until the next one of the same name."""
        size = 1
        for length in shape:
            size *= length
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size or buffer.dtype != like.dtype:
            buffer = torch.empty(size + size // 2, dtype=like.dtype, device=like.device)
            self._buffers[name] = buffer
        return buffer[:size].view(shape)


@dataclass(slots=True)
class Table:
    """The blocks of one row or of several, each padded with block 0 to the same number."""

    numbers: torch.Tensor
    """Flattened; (rows * blocks,)."""
    rows: int
    first: int | None = None
    """Where all the blocks stand one after another in the pool: the first, and nothing need be copied."""
    copies: dict[tuple[str, int, int], tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    """Where its blocks are copied to, and how attention sees them there: the same for all layers of one shape.

    A table is made for one step, and for one Rows or Segment, which always sees the same number of tokens.
    """


@dataclass(slots=True)
class Rows:
    """Sequences of similar length that run one token each: neighbours in the packed forward."""

    start: int
    end: int
    """Their tokens in the packed forward."""
    table: Table
    lengths: torch.Tensor
    """Tokens that each row sees, itself included; (rows,)."""
    longest: int
    """The largest of `lengths`."""
    even: bool
    """All of `lengths` are the same, so no mask is needed."""
    masks: dict[int | None, torch.Tensor | None] = field(default_factory=dict)

    def mask(self, window: int | None, query: torch.Tensor) -> torch.Tensor | None:
        """What each row sees, (rows, 1, 1, longest); None for everything. Made once for all layers."""
        if window is not None and window >= self.longest:
            window = None
        if window not in self.masks:
            self.masks[window] = self._make_mask(window, query)
        return self.masks[window]

    def _make_mask(self, window: int | None, query: torch.Tensor) -> torch.Tensor | None:
        if window is None and self.even:
            return None
        positions = torch.arange(self.longest, device=query.device)
        hidden = positions >= self.lengths[:, None]
        if window is not None:
            hidden |= positions < self.lengths[:, None] - window
        mask = torch.zeros(hidden.shape, dtype=query.dtype, device=query.device)
        return mask.masked_fill_(hidden, float("-inf"))[:, None, None]


@dataclass(slots=True)
class Segment:
    """A chunk of one prompt in the packed forward: its tokens, and the blocks that hold what came before."""

    start: int
    end: int
    """Its tokens in the packed forward."""
    length: int
    """Tokens of the sequence that are in the pool once this chunk is."""
    table: Table | None
    """None for a first chunk, which sees nothing but itself."""
    masks: dict[int | None, torch.Tensor] = field(default_factory=dict)

    def mask(self, window: int | None, query: torch.Tensor) -> torch.Tensor:
        """What each token of the chunk sees, (tokens, length). Made once for all layers."""
        if window not in self.masks:
            start = self.length - (self.end - self.start)
            self.masks[window] = segment_mask(start, self.length, window, query.dtype, query.device)
        return self.masks[window]


@dataclass(slots=True)
class PagedAttention:
    """One packed forward over the pool: first the rows of one token each, then the segments."""

    pool: KVPool
    scratch: Scratch
    slots: torch.Tensor
    """Where each token's key and value go: block * block_size + offset; (tokens,)."""
    rows: list[Rows]
    segments: list[Segment]

    def attend(
        self, asked: Attention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        pool, layer = self.pool, asked.layer
        if pool.dtype != key.dtype:  # so that a token sees the same values in its own chunk and in later ones
            key, value = key.to(pool.dtype), value.to(pool.dtype)
        pool.key_slots[layer].index_copy_(2, self.slots, key)
        pool.value_slots[layer].index_copy_(2, self.slots, value)
        if len(self.rows) == 1 and not self.segments:
            return self._decode(asked, query, self.rows[0])
        if pool.dtype != query.dtype:
            key, value = key.to(query.dtype), value.to(query.dtype)
        heads, tokens = query.shape[1:3]
        out = self.scratch.take("out", (1, tokens, heads, value.shape[3]), query)
        for rows in self.rows:
            part = slice(rows.start, rows.end)
            out[:, part] = self._decode(asked, query[:, :, part], rows)
        for segment in self.segments:
            part = slice(segment.start, segment.end)
            if segment.table is None:
                found = causal(query[:, :, part], key[:, :, part], value[:, :, part], asked)
            else:
                found = self._continue(asked, query[:, :, part], segment, segment.table)
            out[0, part] = found[0].transpose(0, 1)
        return out

    def _decode(self, asked: Attention, query: torch.Tensor, rows: Rows) -> torch.Tensor:
        """Rows of one token each; the heads that share keys stand where a prompt's tokens would."""
        keys, values = self._blocks(asked, rows.table, rows.longest, query)
        _, heads, count, dim = query.shape
        query = query.transpose(1, 2).reshape(count, keys.shape[1], -1, dim)
        found = masked(query, keys, values, rows.mask(asked.window, query), asked)
        return found.reshape(1, count, heads, -1)

    def _continue(
        self, asked: Attention, query: torch.Tensor, segment: Segment, table: Table
    ) -> torch.Tensor:
        """A later chunk of a prompt, which sees the chunks before it."""
        keys, values = self._blocks(asked, table, segment.length, query)
        return masked(query, keys, values, segment.mask(asked.window, query), asked)

    def _blocks(
        self, asked: Attention, table: Table, length: int, like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a table's first `length` tokens, each (rows, kv_heads, length, dim)."""
        pool, layer = self.pool, asked.layer
        if table.first is not None and table.rows == 1:
            start = table.first * pool.block_size
            keys = pool.key_slots[layer][:, :, start : start + length]
            values = pool.value_slots[layer][:, :, start : start + length]
        else:
            keys = self._gather("keys", pool.keys[layer], table, length)
            values = self._gather("values", pool.values[layer], table, length)
        if pool.dtype != like.dtype:
            keys, values = keys.to(like.dtype), values.to(like.dtype)
        return keys, values

    def _gather(self, name: str, pool: torch.Tensor, table: Table, length: int) -> torch.Tensor:
        """A table's blocks of one layer. The fewer calls the better: each one lets go of the interpreter."""
        _, block_size, heads, dim = pool.shape
        count = table.numbers.shape[0]
        if table.first is not None:
            return seen(pool[table.first : table.first + count], table.rows, length)
        copy = table.copies.get((name, heads, dim))
        if copy is None:
            found = self.scratch.take(name, (count, block_size, heads, dim), pool)
            copy = table.copies[name, heads, dim] = found, seen(found, table.rows, length)
        torch.index_select(pool, 0, table.numbers, out=copy[0])
        return copy[1]


def seen(blocks: torch.Tensor, rows: int, length: int) -> torch.Tensor:
    """Blocks as attention sees their first `length` tokens: (rows, kv_heads, length, dim)."""
    _, _, heads, dim = blocks.shape
    return blocks.view(rows, -1, heads, dim).transpose(1, 2)[:, :, :length]
