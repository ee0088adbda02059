from __future__ import annotations

from array import array

import pytest
import torch

from millrace.modules.local.attention import LayerShape
from millrace.modules.local.packing import Packed, consecutive, pack, similar
from millrace.modules.local.pools import KVPool, Scratch
from millrace.modules.local.sampling import Sampling
from millrace.modules.local.sequences import Sequence

SIZE = 4


def sequence_of(computed: int, scheduled: int, blocks: list[int]) -> Sequence:
    length = computed + scheduled
    sequence = Sequence(list(range(100, 100 + length)), length, 9, Sampling())
    sequence.computed, sequence.scheduled, sequence.blocks = computed, scheduled, blocks
    return sequence


def packed(*sequences: Sequence) -> Packed:
    pool = KVPool([LayerShape(1, 2, 2, None)], 40, SIZE, torch.float32, torch.device("cpu"))
    return pack(sequences, pool, Scratch())


def test_rows_come_first_in_rising_length_then_the_chunks() -> None:
    long, short = sequence_of(6, 1, [5, 9]), sequence_of(2, 1, [3])
    first, later = sequence_of(0, 3, [7]), sequence_of(4, 2, [1, 2])
    found = packed(long, first, short, later)
    assert found.sequences == [short, long, first, later]
    assert found.ids.tolist() == [[102, 106, 100, 101, 102, 104, 105]]
    assert found.positions.tolist() == [[2, 6, 0, 1, 2, 4, 5]]
    assert found.paged.slots.tolist() == [14, 38, 28, 29, 30, 8, 9]
    (rows,) = found.paged.rows
    assert (rows.start, rows.end, rows.longest, rows.even) == (0, 2, 7, False)
    assert rows.table.numbers.tolist() == [3, 0, 5, 9]
    assert rows.lengths.tolist() == [3, 7]
    one, two = found.paged.segments
    assert (one.start, one.end, one.length, one.table) == (2, 5, 3, None)
    assert (two.start, two.end, two.length) == (5, 7, 6)
    assert two.table is not None
    assert (two.table.numbers.tolist(), two.table.first) == ([1, 2], 1)


def test_rows_of_one_length_need_no_mask() -> None:
    (rows,) = packed(sequence_of(4, 1, [1, 2]), sequence_of(4, 1, [7, 3])).paged.rows
    query = torch.zeros(2, 1, 1, 2)
    assert rows.even
    assert rows.mask(None, query) is None
    assert rows.mask(99, query) is None, "a window that hides nothing"
    hidden = rows.mask(3, query)
    assert hidden is not None
    assert (hidden[:, 0, 0] == 0).tolist() == [[False, False, True, True, True]] * 2


def test_rows_of_different_lengths_do_not_see_the_padding() -> None:
    (rows,) = packed(sequence_of(1, 1, [4]), sequence_of(5, 1, [7, 3])).paged.rows
    mask = rows.mask(None, torch.zeros(2, 1, 1, 2))
    assert mask is not None
    assert (mask[:, 0, 0] == 0).sum(-1).tolist() == [2, 6]


@pytest.mark.parametrize(
    ("blocks", "groups"), [([1, 1, 8], 1), ([1, 9], 2), ([10, 20, 21], 2), ([1, 9, 18, 40], 3), ([], 0)]
)
def test_rows_are_padded_to_similar_lengths_only(blocks: list[int], groups: int) -> None:
    rows = [sequence_of(SIZE * count - 1, 1, list(range(1, count + 1))) for count in blocks]
    found = similar(rows, SIZE)
    assert len(found) == groups
    assert [row for group in found for row in group] == rows


@pytest.mark.parametrize(
    ("table", "first"),
    [([3], 3), ([3, 4, 5], 3), ([3, 5, 4], None), ([3, 5], None), ([2, 0], None), ([5, 4, 3], None)],
)
def test_blocks_in_order_need_not_be_copied(table: list[int], first: int | None) -> None:
    assert consecutive(array("q", table)) == first
