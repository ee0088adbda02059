"""ModelRunner: runs what was scheduled in one forward of the model."""

from __future__ import annotations

from collections.abc import Sequence as Several
from typing import Any

import torch

from .packing import Packed, pack
from .pools import KVPool, Scratch
from .sequences import Sequence

__all__ = ["ModelRunner"]


class ModelRunner:
    """Runs sequences through a transformers model whose attention is ours, packed as `[1, tokens]`."""

    def __init__(self, model: Any, pool: KVPool) -> None:
        self.model = model
        self.pool = pool
        self._scratch = Scratch()

    @torch.inference_mode()
    def run(self, scheduled: Several[Sequence]) -> tuple[list[Sequence], torch.Tensor]:
        """Runs each sequence's next `scheduled` tokens.

        Returns the sequences that have no token left to run, in the order of their rows in the logits
        (sequences, vocabulary). Running the same tokens again does the same again.
        """
        packed = pack(scheduled, self.pool, self._scratch)
        complete = [found for found in packed.sequences if found.scheduled == found.remaining]
        logits = self.model(
            input_ids=packed.ids,
            position_ids=packed.positions,
            attention_mask=None,
            past_key_values=None,
            use_cache=False,
            logits_to_keep=self._keep(packed, len(complete)),
            paged=packed.paged,
        ).logits[0]
        return complete, logits

    def free_memory(self) -> None:
        """Gives cached memory back to the device, after it ran out."""
        self._scratch = Scratch()
        if self.pool.device.type == "cuda":
            torch.cuda.empty_cache()

    def _keep(self, packed: Packed, complete: int) -> int | torch.Tensor:
        """Which tokens' logits are wanted: the last ones of the complete sequences; 0 means all."""
        if complete == packed.ids.shape[1]:
            return 0
        found, end = [], 0
        for sequence in packed.sequences:
            end += sequence.scheduled
            if sequence.scheduled == sequence.remaining:
                found.append(end - 1)
        return torch.tensor(found or [0], device=self.pool.device)
