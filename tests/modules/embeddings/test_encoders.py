"""Encoders give each text the vector that it has alone, whatever stands beside it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.modules.embeddings import EmbeddingEngine
from millrace.modules.embeddings.encoders import Encoder, load_encoder
from millrace.modules.embeddings.sources import EmbeddingSettings
from millrace.streaming import ContextLengthExceeded, Limits, ModelError
from tests.support.encoders import FAMILIES, save, tiny_encoder, wordpieces
from tests.support.gated import tiny_model

TEXTS = [
    "the mill",
    "water of a river turns the wheel and the mill grinds corn",
    "a",
    "",
    "Snow covers every road!",
]
CLOSE = 1e-9
MEAN = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


def loaded(source: Any, pooling: Any = "auto", normalize: bool = True, dtype: str = "auto") -> Encoder:
    settings = EmbeddingSettings(source, "cpu", dtype, pooling, normalize, Limits(), 8192)
    return load_encoder(settings, lambda fraction, stage: None)


def reference(family: str, text: str, pooling: str) -> list[float]:
    """The text alone, by transformers' own means."""
    import torch

    model, tokenizer = tiny_encoder(family)
    with torch.no_grad():
        hidden = model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).last_hidden_state[
            0
        ]
    found = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.max(0).values, "last": hidden[-1]}[
        pooling
    ]
    return list((found / found.norm()).tolist())


def distance(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_has_the_same_vector_alone_and_among_others(family: str, pooling: str) -> None:
    made = loaded(lambda: tiny_encoder(family), pooling)
    vectors = made.encode(made.tokens(TEXTS))
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert distance(vector, reference(family, text, pooling)) < CLOSE
    assert min(distance(one, other) for one in vectors for other in vectors if one is not other) > 1e-4


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text("abcdefgh ", max_size=40), min_size=1, max_size=6))
def test_any_texts_together_and_alone(texts: list[str]) -> None:
    rows = encoder().tokens(texts)
    for row, vector in zip(rows, encoder().encode(rows), strict=True):
        assert distance(vector, encoder().encode([row])[0]) < CLOSE


@cache
def encoder() -> Encoder:
    return loaded(tiny_encoder)


def test_the_length_of_a_vector() -> None:
    (unit,) = encoder().encode(encoder().tokens(["the mill"]))
    (own,) = loaded(tiny_encoder, normalize=False).encode(encoder().tokens(["the mill"]))
    length = sum(number * number for number in own) ** 0.5
    assert abs(sum(number * number for number in unit) - 1) < CLOSE
    assert abs(length - 1) > 0.1
    assert distance([number / length for number in own], unit) < CLOSE


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_text_that_is_too_long_is_refused_with_both_numbers(family: str) -> None:
    """RoBERTa has a position more, which it does not use for tokens."""
    made = loaded(lambda: tiny_encoder(family))
    assert made.longest == 64
    (vector,) = made.encode(made.tokens(["the " * 62]))
    assert len(vector) == 32
    with pytest.raises(ContextLengthExceeded, match="text 1 of 2 has 65 tokens, more than the 64"):
        made.tokens(["short", "the " * 63])


def test_numbers_that_are_none_are_told_of_their_text_alone() -> None:
    import torch

    model, tokenizer = tiny_encoder()
    bad = wordpieces()("bells")["input_ids"][1]
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[bad] = float("nan")
    made = loaded(lambda: (model, tokenizer))
    vectors = made.encode(made.tokens(["the mill", "bells", "a"]))
    assert [bool(vector) for vector in vectors] == [True, False, True]


class TestDirectories:
    def test_the_same_as_the_function(self, tmp_path: Path) -> None:
        save(tmp_path)
        made = loaded(tmp_path)
        rows = made.tokens(TEXTS)
        assert made.loaded.dtype.itemsize == 8
        for one, other in zip(made.encode(rows), encoder().encode(rows), strict=True):
            assert distance(one, other) < CLOSE

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_in_other_precisions(self, tmp_path: Path, dtype: str) -> None:
        save(tmp_path)
        rows = encoder().tokens(TEXTS)
        found = loaded(tmp_path, dtype=dtype).encode(rows)
        allowed = 1e-5 if dtype == "float32" else 0.05
        assert all(
            distance(one, other) < allowed for one, other in zip(found, encoder().encode(rows), strict=True)
        )

    @pytest.mark.parametrize(
        ("pooling", "chosen"),
        [
            (MEAN, "mean"),
            ({**MEAN, "pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
            ({"pooling_mode_lasttoken": True}, "last"),
            ({"pooling_mode_max_tokens": True}, "max"),
            ({"pooling_mode": "cls"}, "cls"),
        ],
    )
    def test_pooling_as_sentence_transformers_says_it(
        self, tmp_path: Path, pooling: Any, chosen: str
    ) -> None:
        save(tmp_path, pooling=pooling)
        assert loaded(tmp_path).pooling == chosen
        assert loaded(tmp_path, "max").pooling == "max", "unless told otherwise"

    @pytest.mark.parametrize(
        "pooling", [{"pooling_mode_weightedmean_tokens": True}, {**MEAN, "pooling_mode_cls_token": True}, {}]
    )
    def test_pooling_that_there_is_not(self, tmp_path: Path, pooling: Any) -> None:
        save(tmp_path, pooling=pooling)
        with pytest.raises(ModelError, match="pooled by"):
            loaded(tmp_path)

    def test_the_length_that_it_was_trained_for(self, tmp_path: Path) -> None:
        save(tmp_path, sentence_bert_config={"max_seq_length": 16})
        assert loaded(tmp_path).longest == 16

    def test_a_further_part_would_change_the_vectors(self, tmp_path: Path) -> None:
        parts = [
            {"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling", "Dense")
        ]
        save(tmp_path, pooling=MEAN, modules=parts)
        with pytest.raises(ModelError, match="a part Dense"):
            loaded(tmp_path)

    def test_what_is_no_directory(self, tmp_path: Path) -> None:
        for source in (tmp_path / "nothing", "nobody/nothing"):
            with pytest.raises(ModelError, match="nothing"):
                loaded(source)

    def test_broken_json(self, tmp_path: Path) -> None:
        save(tmp_path)
        (tmp_path / "modules.json").write_text("{", encoding="utf-8")
        with pytest.raises(ModelError, match=r"modules\.json is no JSON"):
            loaded(tmp_path)


class TestWhatIsNoEncoder:
    def test_a_language_model_unless_its_pooling_is_told(self) -> None:
        def load() -> Any:
            return tiny_model().model.double(), wordpieces()

        with pytest.raises(ModelError, match="pooling='last'"):
            model, tokenizer = load()
            model.config.architectures = ["LlamaForCausalLM"]
            loaded(lambda: (model, tokenizer))
        made = loaded(load, "last")
        rows = made.tokens(["the mill", "water of a river"])
        together = made.encode(rows)
        assert distance(together[0], made.encode(rows[:1])[0]) < CLOSE

    def test_an_encoder_with_a_decoder(self) -> None:
        from transformers import T5Config, T5Model

        config = T5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
        with pytest.raises(ModelError, match="with a decoder"):
            loaded(lambda: (T5Model(config), wordpieces()))

    @pytest.mark.parametrize("wrong", [{"pooling": "sum"}, {"batch_tokens": 0}])
    def test_settings_that_cannot_be(self, wrong: Any) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            EmbeddingEngine("anywhere", **wrong)
