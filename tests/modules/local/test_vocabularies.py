"""Single tokens as bytes: together they are the text, however the tokenizer writes its tokens."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from millrace.modules.local.vocabularies import Vocabulary, alphabet
from tests.support.gated import CORPUS, tiny_tokenizer

TEXTS = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["the mill", "a 🦊 é\n\tx", "▁Ġ"]
)


def plain(tokenizer: Any) -> Vocabulary:
    return Vocabulary(tokenizer, lambda tokens: tokenizer.decode(tokens, skip_special_tokens=True))


def sentencepiece(kind: str) -> Any:
    """Llama 2's way of writing tokens, with a Metaspace decoder or spelled out as replacements."""
    vocab = {"<unk>": 0, "</s>": 1, **{f"<0x{byte:02X}>": byte + 2 for byte in range(256)}}
    words = ["▁", "t", "h", "e", "m", "i", "l", "th", "▁th", "▁the", "mi", "ll", "mill", "▁mill"]
    vocab.update((word, len(vocab) + i) for i, word in enumerate(words))
    merges = [("t", "h"), ("▁", "th"), ("▁th", "e"), ("m", "i"), ("l", "l"), ("mi", "ll"), ("▁", "mill")]
    backend = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if kind == "metaspace":
        backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="never", split=False)
        spaces: Any = decoders.Metaspace("▁", prepend_scheme="never")
    else:
        backend.normalizer = normalizers.Replace(" ", "▁")
        spaces = decoders.Replace("▁", " ")
    backend.decoder = decoders.Sequence([spaces, decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize("kind", ["byte level", "metaspace", "replace"])
def test_the_tokens_of_a_text_are_its_bytes(kind: str) -> None:
    tokenizer = tiny_tokenizer() if kind == "byte level" else sentencepiece(kind)
    vocabulary = plain(tokenizer)

    @settings(deadline=None)
    @given(TEXTS)
    def check(text: str) -> None:
        text = text if kind == "byte level" else text.replace("▁", "")
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        spelled = [vocabulary.spelled(token) for token in tokens]
        assert b"".join(data or b"" for _, data in spelled) == text.encode()
        assert all(shown == (data or b"").decode("utf-8", "replace") for shown, data in spelled)

    check()


def test_each_token_has_its_own_space() -> None:
    tokenizer = tiny_tokenizer()
    tokens = tokenizer("the mill", add_special_tokens=False)["input_ids"]
    assert [plain(tokenizer).spelled(token) for token in tokens][-1] == (" mill", b" mill")
    assert plain(sentencepiece("metaspace")).spelled(sentencepiece("metaspace")("the mill")["input_ids"][-1])[
        0
    ] == (" mill")


def test_part_of_a_character() -> None:
    tokenizer = sentencepiece("replace")
    tokens = tokenizer("é")["input_ids"]
    assert [plain(tokenizer).spelled(token) for token in tokens] == [("\ufffd", b"\xc3"), ("\ufffd", b"\xa9")]


def test_special_tokens_have_a_name_and_no_bytes_unless_they_are_text() -> None:
    tokenizer = deepcopy(tiny_tokenizer())
    tokenizer.add_tokens(["<think>"], special_tokens=True)
    tokenizer.add_tokens(["<plain>"])
    think, known, end = (tokenizer.convert_tokens_to_ids(name) for name in ("<think>", "<plain>", "</s>"))
    vocabulary = plain(tokenizer)
    assert vocabulary.spelled(end) == ("</s>", None)
    assert vocabulary.spelled(think) == ("<think>", None)
    assert vocabulary.spelled(known) == ("<plain>", b"<plain>")
    tagged = Vocabulary(tokenizer, tokenizer.decode, {think: "<think>"})
    assert tagged.spelled(think) == ("<think>", b"<think>")


def test_an_id_without_a_token() -> None:
    assert plain(tiny_tokenizer()).spelled(10_000) == ("", None)


def test_other_tokenizers_decode_each_token_alone() -> None:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.train_from_iterator([CORPUS], trainers.WordPieceTrainer(special_tokens=["[UNK]"]))
    backend.decoder = decoders.WordPiece()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    token = tokenizer("mill")["input_ids"][0]
    assert plain(tokenizer).spelled(token) == ("mill", b"mill")


def test_the_alphabet_has_all_bytes_and_no_white_space() -> None:
    assert sorted(alphabet().values()) == list(range(256))
    assert not any(char.isspace() for char in alphabet())
