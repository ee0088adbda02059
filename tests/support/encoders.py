"""Real tiny encoders with random weights, and a WordPiece tokenizer trained on the spot.

model, tokenizer = tiny_encoder("bert")
engine = EmbeddingEngine(lambda: (model, tokenizer))
gated = gated_encoder(gate)                  # its forwards wait at the gate; see tests/support/gated.py
save(directory, "roberta")                   # as files, with what sentence-transformers adds
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from millrace.modules.embeddings import EmbeddingEngine
from millrace.modules.local.loading import quiet
from tests.support.gated import CORPUS, Gate

__all__ = ["FAMILIES", "GatedEncoderEngine", "gated_encoder", "save", "tiny_encoder", "wordpieces"]

CONTEXT = 64
LAYERS = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64}
SMALL = {"dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 64}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {**LAYERS, "max_position_embeddings": CONTEXT}),
    "roberta": ("Roberta", {**LAYERS, "max_position_embeddings": CONTEXT + 1}),
    "distilbert": ("DistilBert", {**SMALL, "max_position_embeddings": CONTEXT}),
    "mpnet": ("MPNet", {**LAYERS, "max_position_embeddings": CONTEXT + 1}),
    "modernbert": ("ModernBert", {**LAYERS, "max_position_embeddings": CONTEXT, "local_attention": 8}),
}
"""Names of classes of transformers, and the settings of a small model."""


@cache
def wordpieces() -> Any:
    """A tokenizer as BERT's: `[CLS] text [SEP]`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.train_from_iterator(
        [CORPUS], trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    )
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=CONTEXT,
    )


def tiny_encoder(family: str = "bert", seed: int = 0) -> tuple[Any, Any]:
    """A random encoder in float64, so that vectors can be compared closely, and its tokenizer."""
    import torch
    import transformers

    name, settings = FAMILIES[family]
    tokenizer = wordpieces()
    config = getattr(transformers, f"{name}Config")(
        vocab_size=len(tokenizer),
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
        **settings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, f"{name}Model")(config)
    return model.double().eval(), tokenizer


def save(directory: Path, family: str = "bert", pooling: dict[str, Any] | None = None, **files: Any) -> None:
    """An encoder as files; `pooling` as sentence-transformers writes it, `files` are further JSON by name."""
    model, tokenizer = tiny_encoder(family)
    with quiet():
        model.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    if pooling is not None:
        (directory / "1_Pooling").mkdir()
        files["1_Pooling/config"] = pooling
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


class GatedEncoderEngine(EmbeddingEngine):
    """An engine whose end opens its gate."""

    gate: Gate

    def close(self) -> None:
        self.gate.open_all()
        super().close()


def gated_encoder(gate: Gate, **options: Any) -> GatedEncoderEngine:
    """A BERT each of whose forwards waits at the gate once it is ready; `options` are those of EmbeddingEngine."""

    def load() -> tuple[Any, Any]:
        model, tokenizer = tiny_encoder()
        forward = type(model).forward

        class Gated(type(model)):  # type: ignore[misc]
            def forward(self, input_ids: Any = None, **more: Any) -> Any:
                gate.enter(input_ids.numel())
                return forward(self, input_ids=input_ids, **more)

        model.__class__ = Gated
        return model, tokenizer

    def arm(fraction: float, stage: str) -> None:
        if stage == "ready":
            gate.arm()

    engine = GatedEncoderEngine(load, **options)
    engine.add_progress_listener(arm)
    engine.gate = gate
    return engine
