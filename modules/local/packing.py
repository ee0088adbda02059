"""Packing: the tokens and block tables of one step, in one copy to the device."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass

import torch

from .blocks import PADDING_BLOCK
from .pools import KVPool, PagedAttention, Rows, Scratch, Segment, Table
from .sequences import Sequence

__all__ = ["Packed", "pack"]

SIMILAR = 2
"""Rows are padded to a common length when the longest has at most this many times the blocks of the shortest..."""
SHORT = 8
"""...or at most so many blocks: each group of rows costs a few calls per layer."""


@dataclass(slots=True)
class Packed:
    """What goes into one forward."""

    sequences: list[Sequence]
    """In the order of their tokens."""
    ids: torch.Tensor
    """(1, tokens)"""
    positions: torch.Tensor
    """(1, tokens)"""
    paged: PagedAttention


def pack(scheduled: Several[Sequence], pool: KVPool, scratch: Scratch) -> Packed:
    """Packs each sequence's next `scheduled` tokens: first those that run one, then chunks of prompts."""
    rows = sorted((found for found in scheduled if found.scheduled == 1), key=length_after)
    chunks = [sequence for sequence in scheduled if sequence.scheduled > 1]
    groups = similar(rows, pool.block_size)
    lengths = [array("q", map(length_after, group)) for group in groups]
    tables = [table_of(group, pool.block_size) for group in (*groups, *([chunk] for chunk in chunks))]
    columns = token_columns((*rows, *chunks), pool.block_size)
    on_device = iter(to_device([*columns, *lengths, *tables], pool.device))
    ids, positions, slots = next(on_device), next(on_device), next(on_device)
    lengths_there = [next(on_device) for _ in groups]
    sizes = [*map(len, groups), *(1 for _ in chunks)]
    there = [
        Table(numbers, size, consecutive(found))
        for numbers, size, found in zip(on_device, sizes, tables, strict=True)
    ]
    paged = PagedAttention(
        pool,
        scratch,
        slots,
        list(rows_of(groups, lengths_there, there)),
        list(segments_of(len(rows), chunks, there[len(groups) :])),
    )
    return Packed([*rows, *chunks], ids[None], positions[None], paged)


def length_after(sequence: Sequence) -> int:
    """How many tokens are in the pool once this step is done."""
    return sequence.computed + sequence.scheduled


def similar(rows: list[Sequence], block_size: int) -> list[list[Sequence]]:
    """Rows in rising length, cut into groups of similar length."""
    groups: list[list[Sequence]] = []
    most = 0
    for sequence in rows:
        blocks = -(-length_after(sequence) // block_size)
        if blocks > most:
            groups.append([])
            most = max(SHORT, SIMILAR * blocks)
        groups[-1].append(sequence)
    return groups


def token_columns(sequences: Several[Sequence], block_size: int) -> tuple[array[int], array[int], array[int]]:
    """Ids, positions and places in the pool of all tokens, one sequence after another."""
    ids, positions, slots = array("q"), array("q"), array("q")
    for sequence in sequences:
        at = range(sequence.computed, length_after(sequence))
        ids.extend(sequence.tokens[at.start : at.stop])
        positions.extend(at)
        blocks = sequence.blocks
        slots.extend([blocks[place // block_size] * block_size + place % block_size for place in at])
    return ids, positions, slots


def table_of(group: list[Sequence], block_size: int) -> array[int]:
    """The blocks that hold what a group of rising length sees, each row padded to the longest."""
    width = -(-length_after(group[-1]) // block_size)
    table = array("q")
    for sequence in group:
        blocks = sequence.blocks[:width]
        table.extend(blocks)
        table.extend([PADDING_BLOCK] * (width - len(blocks)))
    return table


def consecutive(table: array[int]) -> int | None:
    """The first block, where all stand one after another in the pool; never so for padded ones."""
    first = table[0]
    return first if table == array("q", range(first, first + len(table))) else None


def rows_of(groups: list[list[Sequence]], lengths: list[torch.Tensor], tables: list[Table]) -> Iterator[Rows]:
    start = 0
    for group, seen, table in zip(groups, lengths, tables, strict=False):
        longest = length_after(group[-1])
        even = length_after(group[0]) == longest
        yield Rows(start, start + len(group), table, seen, longest, even)
        start += len(group)


def segments_of(start: int, chunks: list[Sequence], tables: list[Table]) -> Iterator[Segment]:
    for sequence, table in zip(chunks, tables, strict=True):
        end = start + sequence.scheduled
        yield Segment(start, end, length_after(sequence), table if sequence.computed else None)
        start = end


def to_device(parts: list[array[int]], device: torch.device) -> tuple[torch.Tensor, ...]:
    """All parts as int64 tensors, in one copy."""
    whole = array("q")
    for part in parts:
        whole.extend(part)
    packed = torch.frombuffer(whole, dtype=torch.int64).to(device)
    return torch.split(packed, [len(part) for part in parts])
