from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from millrace.modules.local.detokenizer import Detokenizer
from tests.support.gated import tiny_tokenizer

Decode = Callable[[Sequence[int]], str]
TEXTS = [
    "plain words",
    "naïve café",
    "日本語のテキスト",
    "👩‍👩‍👧‍👦 family",
    "한국어 문장",
    "\ufffd genuine \ufffd\ufffd",
    "🏴󠁧󠁢󠁳󠁣󠁴󠁿",
]


@cache
def byte_level() -> Decode:
    backend = tiny_tokenizer().backend_tokenizer
    return lambda ids: str(backend.decode(list(ids)))


@cache
def byte_fallback() -> Decode:
    """A decoder as Llama 2 has it: words that begin with a space, and bytes as tokens of their own."""
    words = [
        "<unk>",
        "\u2581the",
        "\u2581mill",
        "er",
        "s",
        "\u2581",
        *(f"<0x{byte:02X}>" for byte in range(256)),
    ]
    backend = Tokenizer(
        models.BPE({word: number for number, word in enumerate(words)}, [], byte_fallback=True)
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return lambda ids: str(backend.decode(list(ids)))


def bytes_of(text: str) -> list[int]:
    """A text in tokens of one byte each, for the decoder above."""
    return [6 + byte for byte in text.encode()]


def pieces(decode: Decode, tokens: Sequence[int]) -> list[str]:
    detokenizer = Detokenizer(decode)
    return [*map(detokenizer.push, tokens), detokenizer.flush()]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_the_text(text: str) -> None:
    tokens = tiny_tokenizer()(text)["input_ids"]
    assert "".join(pieces(byte_level(), tokens)) == text
    assert "".join(pieces(byte_fallback(), bytes_of(text))) == text


@pytest.mark.parametrize("text", TEXTS)
def test_no_piece_has_a_part_of_a_character(text: str) -> None:
    tokens = tiny_tokenizer()(text)["input_ids"]
    for found in (pieces(byte_level(), tokens), pieces(byte_fallback(), bytes_of(text))):
        assert sum(piece.count("\ufffd") for piece in found) == text.count("\ufffd")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(7, 511), max_size=60))
def test_any_tokens_give_the_text_of_all_of_them(tokens: list[int]) -> None:
    assert "".join(pieces(byte_level(), tokens)) == byte_level()(tokens)


@settings(deadline=None)
@given(st.text(max_size=40), st.integers(0, 200))
def test_an_end_inside_a_character_is_flushed(text: str, keep: int) -> None:
    tokens = tiny_tokenizer()(text)["input_ids"][:keep]
    assert "".join(pieces(byte_level(), tokens)) == byte_level()(tokens)


@cache
def straddling() -> Decode:
    """Tokens that end within a character and begin within one, as merges over bytes make them."""
    names = ["\u0120the", "\u00b4\u00cc", "\u00cc", "\u00b4", "\u00e3\u0124", "\u013a"]
    backend = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    backend.decoder = decoders.ByteLevel()
    return lambda ids: str(backend.decode(list(ids)))


@settings(deadline=None)
@given(st.integers(0, 400), st.sampled_from([[1], [4, 5], [1, 1, 2]]))
def test_tokens_that_always_end_within_a_character(times: int, again: list[int]) -> None:
    """A mark said again and again, each time half in one token and half in the next."""
    tokens = [0, 2, *again * times, 3]
    found = pieces(straddling(), tokens)
    assert "".join(found) == straddling()(tokens)
    assert max(map(len, found[:-1])) < 10


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 30))
def test_halves_of_characters_in_any_order(tokens: list[int], times: int) -> None:
    assert "".join(pieces(straddling(), tokens * times)) == straddling()(tokens * times)


@pytest.mark.parametrize("byte", [0x80, 0xE2, 0xFF, 0xEF])
def test_garbage_does_not_pile_up(byte: int) -> None:
    """Hundreds of bytes that are no text go out as they come, each decoded a bounded number of times."""
    lengths = []

    def decode(ids: Sequence[int]) -> str:
        lengths.append(len(ids))
        return byte_fallback()(ids)

    token = 6 + byte
    found = pieces(decode, [token] * 400)
    assert "".join(found) == byte_fallback()([token] * 400)
    assert sum(map(bool, found)) > 300
    assert max(lengths) < 200


@pytest.mark.parametrize("cut", range(1, 4))
def test_bytes_that_take_back_a_character_do_not_stop_the_text(cut: int) -> None:
    """This decoder makes a whole run of bytes U+FFFD when one of them is wrong, also those that are out already."""
    tokens = [*bytes_of("€"), 6 + 0xFF, 1, 2]
    text = "".join(pieces(byte_fallback(), tokens))
    assert text.startswith("€")
    assert text.endswith("the mill")


def test_a_space_between_prompt_and_answer_counts_for_raw_prompts() -> None:
    the, mill = 1, 2
    after = Detokenizer(byte_fallback(), context=[the])
    assert after.push(mill) + after.flush() == " mill"
    alone = Detokenizer(byte_fallback())
    assert alone.push(mill) + alone.flush() == "mill"
