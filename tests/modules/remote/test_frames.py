"""Server-sent events out of bytes that are cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.modules.remote import frames
from millrace.modules.remote.frames import FrameReader
from millrace.streaming import RemoteError

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1)


def read(raw: bytes, cuts: list[int]) -> list[str]:
    """The frames of these bytes, fed in pieces that end at the cuts."""
    reader, found, start = FrameReader(), [], 0
    for cut in [*sorted(min(cut, len(raw)) for cut in cuts), len(raw)]:
        found += reader.feed(raw[start:cut])
        start = cut
    return found


@settings(deadline=None)
@given(
    st.lists(texts.filter(lambda text: not text.startswith(" "))),
    st.lists(st.integers(0, 400)),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_cut_anywhere(payloads: list[str], cuts: list[int], end: str) -> None:
    raw = "".join(f": keep-alive{end}{end}data: {text}{end}{end}" for text in payloads).encode()
    assert read(raw + b": the end\n", cuts) == payloads


@settings(deadline=None)
@given(st.lists(texts, min_size=1), st.lists(st.integers(0, 400)))
def test_several_data_lines_are_one_payload(lines: list[str], cuts: list[int]) -> None:
    raw = "".join(f"data: {line}\n" for line in lines).encode() + b"\n"
    assert read(raw, cuts) == ["\n".join(lines)]


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"data:a\n\n", ["a"]),
        (b"data:  a\n\n", [" a"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"event: x\nid: 1\nretry: 5\ndata: a\n\n", ["a"]),
        (b"data\n\ndata:\n\n\n\n", []),
        (b"data: a\n\ndata: cut off", ["a"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        (b"DATA: a\n\n", []),
    ],
)
def test_what_the_standard_says(raw: bytes, found: list[str]) -> None:
    assert read(raw, []) == found
    assert read(raw, list(range(len(raw)))) == found


def test_a_frame_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "LONGEST", 1000)
    for line in (b"data: abc\n", b"data: abcdefghij"):
        reader = FrameReader()
        with pytest.raises(RemoteError, match="1000 bytes"):
            for _ in range(1000):
                reader.feed(line)
