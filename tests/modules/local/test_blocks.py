from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from millrace.modules.local.blocks import PADDING_BLOCK, BlockManager
from millrace.modules.local.sampling import Sampling
from millrace.modules.local.sequences import Sequence


def sequence_of(length: int) -> Sequence:
    return Sequence([1] * length, length, 10, Sampling())


def test_a_sequence_gets_blocks_for_all_its_tokens() -> None:
    blocks, sequence = BlockManager(8, 4), sequence_of(9)
    assert blocks.admit(sequence) == 0
    assert len(sequence.blocks) == 3
    assert blocks.used == 3
    assert blocks.grow(sequence, 12)
    assert blocks.used == 3, "the last block had room"
    assert blocks.grow(sequence, 13)
    assert blocks.used == 4


def test_what_does_not_fit_changes_nothing() -> None:
    blocks, sequence = BlockManager(2, 4), sequence_of(9)
    assert blocks.admit(sequence) is None
    assert not blocks.grow(sequence, 9)
    assert sequence.blocks == []
    assert blocks.used == 0


def test_release_says_which_blocks_are_free_again() -> None:
    blocks, sequence = BlockManager(4, 4), sequence_of(5)
    blocks.admit(sequence)
    held = list(sequence.blocks)
    assert blocks.release(sequence) == held
    assert sequence.blocks == []
    assert blocks.release(sequence) == []
    assert blocks.used == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), max_size=60))
def test_no_block_has_two_owners(operations: list[tuple[int, int]]) -> None:
    blocks = BlockManager(20, 3)
    sequences = [sequence_of(1) for _ in range(6)]
    for which, length in operations:
        sequence = sequences[which]
        if length % 4 == 0:
            blocks.release(sequence)
        else:
            blocks.grow(sequence, length)
        owned = [block for owner in sequences for block in owner.blocks]
        assert len(owned) == len(set(owned)) == blocks.used
        assert PADDING_BLOCK not in owned
        assert all(1 <= block <= blocks.total for block in owned)
