"""ModelRunner: packs what was scheduled into one forward of the model."""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Several
from typing import Any

import torch

from .blocks import PADDING_BLOCK
from .pools import KVPool, PagedAttention, Scratch, Segment
from .sequences import Sequence

__all__ = ["ModelRunner"]


class ModelRunner:
    """Runs sequences through a transformers model whose attention is ours.

    All tokens of a step go through one forward, packed as `[1, tokens]`: first those sequences that run a single
    token, then the longer chunks of prompts.
    """

    def __init__(self, model: Any, pool: KVPool) -> None:
        self.model = model
        self.pool = pool
        self.device = pool.keys[0].device
        self.scratch = Scratch()

    @torch.inference_mode()
    def run(self, scheduled: Several[Sequence]) -> tuple[list[Sequence], torch.Tensor]:
        """Runs each sequence's next `scheduled` tokens.

        Returns the sequences that have no token left to run, in the order of their rows in the logits
        (sequences, vocabulary).
        """
        rows = [sequence for sequence in scheduled if sequence.scheduled == 1]
        chunks = [sequence for sequence in scheduled if sequence.scheduled > 1]
        ids, positions, paged = self._pack(rows, chunks)
        complete = [sequence for sequence in (*rows, *chunks) if sequence.scheduled == sequence.remaining]
        keep: int | torch.Tensor = 0
        if len(complete) != ids.shape[1]:
            keep = torch.tensor(self._last_tokens(rows, chunks) or [0], device=self.device)
        logits = self.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=None,
            past_key_values=None,
            use_cache=False,
            logits_to_keep=keep,
            paged=paged,
        ).logits[0]
        return complete, logits

    def _last_tokens(self, rows: Several[Sequence], chunks: Several[Sequence]) -> list[int]:
        """Where in the packed forward the last tokens of the complete sequences are."""
        found, end = [], 0
        for sequence in (*rows, *chunks):
            end += sequence.scheduled
            if sequence.scheduled == sequence.remaining:
                found.append(end - 1)
        return found

    def _pack(
        self, rows: list[Sequence], chunks: list[Sequence]
    ) -> tuple[torch.Tensor, torch.Tensor, PagedAttention]:
        """Token ids and positions, both (1, tokens), and the block tables; one copy to the device."""
        size = self.pool.block_size
        ids, positions, slots = array("q"), array("q"), array("q")
        for sequence in rows:
            at = sequence.computed
            ids.append(sequence.tokens[at])
            positions.append(at)
            slots.append(sequence.blocks[at // size] * size + at % size)
        for sequence in chunks:
            start, end = sequence.computed, sequence.computed + sequence.scheduled
            ids.extend(sequence.tokens[start:end])
            positions.extend(range(start, end))
            blocks = sequence.blocks
            slots.extend(blocks[at // size] * size + at % size for at in range(start, end))
        lengths = array("q", (sequence.computed + 1 for sequence in rows))
        width = max((-(-length // size) for length in lengths), default=0)
        tables = array("q")
        for sequence in rows:
            table = sequence.blocks[:width]
            tables.extend(table)
            if len(table) < width:
                tables.extend([PADDING_BLOCK] * (width - len(table)))
        earlier = [self._earlier_blocks(sequence) for sequence in chunks]
        parts = self._to_device([ids, positions, slots, lengths, tables, *earlier])
        segments = self._segments(len(rows), chunks, parts[5:])
        paged = PagedAttention(
            pool=self.pool,
            scratch=self.scratch,
            slots=parts[2],
            rows=len(rows),
            tables=parts[4],
            lengths=parts[3],
            longest=max(lengths, default=0),
            even=len(set(lengths)) <= 1,
            segments=segments,
        )
        return parts[0][None], parts[1][None], paged

    def _earlier_blocks(self, sequence: Sequence) -> array[int]:
        """The blocks that a chunk must see; none for a first chunk, which sees itself."""
        if not sequence.computed:
            return array("q")
        length = sequence.computed + sequence.scheduled
        return array("q", sequence.blocks[: -(-length // self.pool.block_size)])

    def _segments(self, start: int, chunks: list[Sequence], tables: Several[torch.Tensor]) -> list[Segment]:
        segments = []
        for sequence, table in zip(chunks, tables, strict=True):
            end = start + sequence.scheduled
            length = sequence.computed + sequence.scheduled
            segments.append(Segment(start, end, length, table if sequence.computed else None))
            start = end
        return segments

    def _to_device(self, parts: list[array[int]]) -> tuple[torch.Tensor, ...]:
        whole = array("q")
        for part in parts:
            whole.extend(part)
        packed = torch.frombuffer(whole, dtype=torch.int64).to(self.device)
        return torch.split(packed, [len(part) for part in parts])

    def free_memory(self) -> None:
        """Gives cached memory back to the device, after it ran out."""
        self.scratch = Scratch()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
