"""BlockManager: which blocks of the pool belong to whom."""

from __future__ import annotations

from .sequences import Sequence

__all__ = ["BlockManager"]

PADDING_BLOCK = 0
"""The block that pads short rows; it is always zero and belongs to nobody."""


class BlockManager:
    """Gives blocks of the pool to sequences and takes them back.

    Sequences get blocks in whole; the last one of a sequence is filled as the sequence grows. Callers go through
    sequences, never through block numbers, so that blocks may one day be shared between sequences with the same
    prefix: `admit` says how many tokens are there already, `release` gives back one hold of each block.
    """

    def __init__(self, blocks: int, block_size: int) -> None:
        self.total = blocks
        self.block_size = block_size
        self._free = list(range(blocks, PADDING_BLOCK, -1))

    @property
    def used(self) -> int:
        return self.total - len(self._free)

    @property
    def tokens(self) -> int:
        """How many tokens fit when one sequence has all blocks."""
        return self.total * self.block_size

    def blocks_for(self, length: int) -> int:
        return -(-length // self.block_size)

    def admit(self, sequence: Sequence) -> int | None:
        """Gives a sequence blocks for all its tokens; None when there are not enough.

        Returns how many of its leading tokens are already in the pool and need not be computed.
        """
        if not self.grow(sequence, len(sequence.tokens)):
            return None
        return 0

    def grow(self, sequence: Sequence, length: int) -> bool:
        """Makes room for `length` tokens in total; False, and nothing changed, when there are not enough blocks."""
        missing = self.blocks_for(length) - len(sequence.blocks)
        if missing > len(self._free):
            return False
        for _ in range(missing):
            sequence.blocks.append(self._free.pop())
        return True

    def release(self, sequence: Sequence) -> list[int]:
        """Takes all blocks of a sequence back; returns those that nobody holds any more."""
        released = sequence.blocks
        sequence.blocks = []
        self._free.extend(reversed(released))
        return released
