"""Framing: what is put together comes apart again, and nothing else does."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.streaming.errors import QueueError
from millrace.streaming.files import frames
from millrace.streaming.files.frames import DATA, END, FOOTER, FOOTER_SIZE, HEADER, footer, frame, parse
from tests.streaming.files import support

MARK = bytes(range(16))
payloads_ = st.lists(st.binary(max_size=300), max_size=20)
kinds = st.sampled_from([DATA, HEADER, END, FOOTER])


@settings(deadline=None)
@given(payload=st.binary(max_size=2000), kind=kinds)
def test_a_frame_is_what_the_page_says(payload: bytes, kind: int) -> None:
    assert frame(kind, payload) == support.frame(kind, payload)


@settings(deadline=None)
@given(payloads=payloads_, end=st.none() | st.binary(max_size=50), rest=st.binary(max_size=7))
def test_frames_are_parsed_up_to_the_last_that_is_whole(
    payloads: list[bytes], end: bytes | None, rest: bytes
) -> None:
    data = b"".join(frame(DATA, payload) for payload in payloads)
    found = parse(data + (rest if end is None else frame(END, end) + rest))
    assert (found.payloads, found.size, found.fault) == (payloads, len(data), False)
    if end is None:
        assert (found.special, found.needs) == (DATA, 8)
    else:
        assert (found.special, found.closing, found.stop) == (END, end, len(data) + 8 + len(end))


@settings(deadline=None)
@given(payloads=payloads_, data=st.data())
def test_any_cut_leaves_whole_frames(payloads: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(frame(DATA, payload) for payload in payloads)
    cut = data.draw(st.integers(0, len(whole)))
    found = parse(whole[:cut])
    assert found.payloads == payloads[: len(found.payloads)]
    assert found.size <= cut < found.size + found.needs
    assert parse(whole[:cut], most=2).payloads == found.payloads[:2]


@settings(deadline=None)
@given(payload=st.binary(max_size=100), data=st.data())
def test_any_flipped_bit_is_noticed(payload: bytes, data: st.DataObject) -> None:
    whole = bytearray(frame(DATA, payload))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    found = parse(bytes(whole))
    assert (found.payloads, found.special) == ([], DATA)
    assert found.fault or found.needs > len(whole)


@pytest.mark.parametrize("size", [8, 9, 4096, 100_000])
def test_zeros_are_no_frame(size: int) -> None:
    found = parse(bytes(size))
    assert (found.payloads, found.fault) == ([], True)


@settings(deadline=None)
@given(junk=st.binary(max_size=200), count=st.integers(0, 2**63), end=st.integers(0, 2**63))
def test_a_footer_is_found_at_the_end_only_with_its_mark(junk: bytes, count: int, end: int) -> None:
    closing = footer(count, end, MARK)
    assert len(closing) == FOOTER_SIZE
    assert frames.parse_footer((junk + closing)[-FOOTER_SIZE:], MARK) == (count, end)
    assert frames.parse_footer(closing, bytes(16)) is None
    assert frames.parse_footer((junk + closing + b"x")[-FOOTER_SIZE:], MARK) is None
    assert frames.parse_footer(closing[1:], MARK) is None


def test_a_payload_that_looks_like_a_footer_is_none() -> None:
    assert frames.parse_footer(frame(DATA, os.urandom(32)), MARK) is None


def test_a_payload_can_be_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "LONGEST", 10)
    with pytest.raises(QueueError, match="11 bytes"):
        frame(DATA, bytes(11))
