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


def with_tokens(tokens: list[int], salt: str = "") -> Sequence:
    return Sequence(list(tokens), len(tokens), 10, Sampling(), salt=salt)


def computed(blocks: BlockManager, sequence: Sequence) -> int:
    """Admits a sequence and computes all of it; returns how many tokens were there already."""
    cached = blocks.admit(sequence)
    assert cached is not None
    sequence.computed = len(sequence.tokens)
    blocks.share(sequence)
    return cached


def test_an_equal_beginning_is_shared() -> None:
    blocks = BlockManager(16, 4)
    one, other = with_tokens([*range(10), 1]), with_tokens([*range(10), 2])
    assert computed(blocks, one) == 0
    assert computed(blocks, other) == 8
    assert one.blocks[:2] == other.blocks[:2]
    assert one.blocks[2] != other.blocks[2]
    assert blocks.used == 4
    assert blocks.tokens_reused == 8
    blocks.release(one)
    assert blocks.used == 3
    blocks.release(other)
    assert blocks.used == 0


def test_the_last_token_is_always_computed() -> None:
    blocks = BlockManager(16, 4)
    computed(blocks, with_tokens(list(range(8))))
    assert computed(blocks, with_tokens(list(range(8)))) == 4
    assert computed(blocks, with_tokens(list(range(9)))) == 8


def test_what_was_left_is_found_again_until_its_room_is_needed() -> None:
    blocks = BlockManager(4, 4)
    first = with_tokens(list(range(8)))
    computed(blocks, first)
    assert blocks.release(first) == []
    assert blocks.used == 0
    again = with_tokens(list(range(9)))
    assert blocks.admit(again) == 8
    blocks.release(again)
    large = with_tokens([7] * 16)
    assert blocks.admit(large) == 0
    assert blocks.used == 4
    blocks.release(large)
    assert blocks.admit(with_tokens(list(range(9)))) == 0


def test_the_longest_unused_goes_first_and_the_end_of_a_chain_before_its_beginning() -> None:
    blocks = BlockManager(4, 2)
    old, new = with_tokens([1, 2, 3, 4]), with_tokens([5, 6, 7, 8])
    for sequence in (old, new):
        computed(blocks, sequence)
        blocks.release(sequence)
    one = with_tokens([9, 9])
    blocks.admit(one)  # takes the room of the second half of the older one
    assert blocks.admit(with_tokens([1, 2, 3])) == 2
    assert blocks.admit(with_tokens([5, 6, 7, 8, 9])) is None
    assert blocks.used == 3


def test_another_salt_shares_nothing() -> None:
    blocks = BlockManager(16, 4)
    computed(blocks, with_tokens(list(range(8)), salt="alice"))
    assert computed(blocks, with_tokens(list(range(9)), salt="bob")) == 0
    assert computed(blocks, with_tokens(list(range(9)), salt="alice")) == 8


def test_what_is_not_known_to_be_good_is_not_shared() -> None:
    blocks = BlockManager(16, 4)
    bad = with_tokens(list(range(8)))
    blocks.admit(bad)
    bad.computed = 8
    held = list(bad.blocks)
    assert blocks.release(bad) == held
    assert blocks.admit(with_tokens(list(range(9)))) == 0


def test_forgetting_drops_what_nobody_holds() -> None:
    blocks = BlockManager(16, 4)
    one = with_tokens(list(range(8)))
    computed(blocks, one)
    blocks.release(one)
    blocks.forget()
    assert computed(blocks, with_tokens(list(range(9)))) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 30)), max_size=60))
def test_a_block_is_shared_only_where_all_before_it_is_equal(operations: list[tuple[int, int, int]]) -> None:
    blocks, live = BlockManager(12, 3), dict[int, Sequence]()
    for which, kind, length in operations:
        if which in live:
            blocks.release(live.pop(which))
        sequence = with_tokens([kind * (place // 5) for place in range(length)], salt=str(kind // 3))
        cached = blocks.admit(sequence)
        if cached is None:
            assert sequence.blocks == []
            continue
        assert cached % 3 == 0
        assert cached < length
        live[which] = sequence
        sequence.computed = length
        if length % 2:
            blocks.share(sequence)
        owners: dict[int, tuple[str, list[int]]] = {}
        for owner in live.values():
            for place, block in enumerate(owner.blocks):
                holds = (owner.salt, owner.tokens[: (place + 1) * 3])
                assert owners.setdefault(block, holds) == holds
        assert len(owners) == blocks.used
    for sequence in live.values():
        blocks.release(sequence)
    assert blocks.used == 0
    blocks.forget()
    whole = with_tokens([5] * 36)
    assert blocks.admit(whole) == 0
    assert sorted(whole.blocks) == list(range(1, 13))


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
