"""BlockManager: which blocks of the pool belong to whom, and which hold a prefix that comes again."""

from __future__ import annotations

from collections import OrderedDict

from .sequences import Sequence

__all__ = ["BlockManager"]

PADDING_BLOCK = 0
"""The block that pads short rows; it is always zero and belongs to nobody."""

Prefix = tuple[int | str, tuple[int, ...]]
"""What a full block holds: which prefix it continues (a number; at the beginning the salt), and its own tokens."""


class BlockManager:
    """Gives blocks of the pool to sequences and takes them back; equal beginnings share theirs.

    A full block whose values are known to be good is kept under what it holds: the chain of all tokens before it
    and its own. The next sequence that begins with the same tokens, under the same salt, takes it as it is. Tokens
    are compared, not hashes of them, so nobody ever gets a stranger's prefix. Blocks that nobody holds any more
    stay until their room is needed; those longest unused go first (LRU), the end of a chain before its beginning.
    Automatic prefix caching, as in vLLM (https://docs.vllm.ai/en/latest/design/prefix_caching.html).

    Sequences get blocks in whole; the last one of a sequence is filled as the sequence grows.
    """

    def __init__(self, blocks: int, block_size: int) -> None:
        self.total = blocks
        self.block_size = block_size
        self.tokens_reused = 0
        """Prompt tokens that were in the pool already and were not computed again."""
        self._free = list(range(blocks, PADDING_BLOCK, -1))
        self._holders = [0] * (blocks + 1)
        self._kept: dict[Prefix, tuple[int, int]] = {}
        """For each prefix that is in the pool: its block and its number in the chains."""
        self._prefix_of: dict[int, Prefix] = {}
        self._unheld: OrderedDict[int, None] = OrderedDict()
        """Blocks that only hold a prefix; the longest unused first."""
        self._numbers = 0

    @property
    def used(self) -> int:
        """Blocks that some sequence holds."""
        return self.total - len(self._free) - len(self._unheld)

    @property
    def tokens(self) -> int:
        """How many tokens fit when one sequence has all blocks."""
        return self.total * self.block_size

    def blocks_for(self, length: int) -> int:
        return -(-length // self.block_size)

    def admit(self, sequence: Sequence) -> int | None:
        """Gives a sequence blocks for all its tokens; None, and nothing changed, when there are not enough.

        Returns how many of its leading tokens are already in the pool and need not be computed; never all of
        them, since the last one's logits are wanted.
        """
        self._take_prefix(sequence)
        if not self.grow(sequence, len(sequence.tokens)):
            self.release(sequence)
            return None
        cached = sequence.shared * self.block_size
        self.tokens_reused += cached
        return cached

    def grow(self, sequence: Sequence, length: int) -> bool:
        """Makes room for `length` tokens in total; False, and nothing changed, when there are not enough blocks."""
        missing = self.blocks_for(length) - len(sequence.blocks)
        if missing > len(self._free) + len(self._unheld):
            return False
        for _ in range(missing):
            block = self._free.pop() if self._free else self._evict()
            self._holders[block] = 1
            sequence.blocks.append(block)
        return True

    def share(self, sequence: Sequence) -> None:
        """Lets others have the sequence's full blocks; to be called when its values so far are known to be good."""
        size, tokens = self.block_size, sequence.tokens
        while (sequence.shared + 1) * size <= sequence.computed:
            at = sequence.shared * size
            prefix: Prefix = (sequence.prefix, tuple(tokens[at : at + size]))
            found = self._kept.get(prefix)
            if found is None:
                self._numbers += 1
                found = self._kept[prefix] = sequence.blocks[sequence.shared], self._numbers
                self._prefix_of[found[0]] = prefix
            sequence.prefix = found[1]
            sequence.shared += 1

    def release(self, sequence: Sequence) -> list[int]:
        """Takes all blocks of a sequence back; returns those that nobody holds any more and that keep nothing."""
        released = []
        for block in reversed(sequence.blocks):
            self._holders[block] -= 1
            if not self._holders[block]:
                if block in self._prefix_of:
                    self._unheld[block] = None
                else:
                    released.append(block)
        sequence.blocks = []
        sequence.shared, sequence.prefix = 0, sequence.salt
        self._free.extend(released)
        released.reverse()
        return released

    def forget(self) -> None:
        """Drops every prefix that nobody holds."""
        while self._unheld:
            self._free.append(self._evict())

    def _take_prefix(self, sequence: Sequence) -> None:
        size, tokens = self.block_size, sequence.tokens
        for at in range(0, (len(tokens) - 1) // size * size, size):
            found = self._kept.get((sequence.prefix, tuple(tokens[at : at + size])))
            if found is None:
                return
            block, sequence.prefix = found
            self._unheld.pop(block, None)
            self._holders[block] += 1
            sequence.blocks.append(block)
            sequence.shared += 1

    def _evict(self) -> int:
        block, _ = self._unheld.popitem(last=False)
        del self._kept[self._prefix_of.pop(block)]
        return block
