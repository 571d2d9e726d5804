"""What content may go out, whatever its cut into blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserv.protocol.outgoing import ContentFacts, examine, fold

GOOD = ContentFacts(is_sendable=True, has_long_line=False, is_8bit=False)


def cuts(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 500, 999, 1000, 1001, 5000])
@pytest.mark.parametrize(
    ("content", "sendable", "long_line", "eight_bit"),
    [
        (b"", True, False, False),
        (b"Subject: x\r\n\r\nbody\r\n", True, False, False),
        (b"no line end", True, False, False),
        (b"a\nb\r\n", False, False, False),
        (b"a\rb\r\n", False, False, False),
        (b"a\r\r\n", False, False, False),
        (b"a\n\r\n", False, False, False),
        (b"\n\r", False, False, False),
        (b"half\r", False, False, False),
        (b"nul\0\r\n", False, False, False),
        ("Grüße\r\n".encode(), True, False, True),
        (b"x" * 998 + b"\r\n", True, False, False),
        (b"x" * 999 + b"\r\n", True, True, False),
        (b"x" * 998, True, False, False),
        (b"x" * 999, True, True, False),
        (b"a\r\n" * 700 + b"x" * 998 + b"\r\nb\r\n", True, False, False),
        (b"a\r\n" * 700 + b"x" * 999 + b"\r\nb\r\n", True, True, False),
        (b"x" * 998 + b"\r\n" + b"y" * 998 + b"\r\n" + b"z" * 998, True, False, False),
        (b"x" * 5000 + b"\r\nshort\r\n", True, True, False),
    ],
)
def test_content_is_judged_the_same_for_any_cut(content, sendable, long_line, eight_bit, size):
    assert examine(cuts(content, size)) == ContentFacts(sendable, long_line, eight_bit)


def test_empty_blocks_change_nothing():
    assert examine([b"", b"a\r", b"", b"\n", b""]) == GOOD


@pytest.mark.parametrize("size", [1, 2, 7, 997, 998, 999, 1000, 3000, 9000])
@pytest.mark.parametrize(
    ("content", "folded"),
    [
        (b"short\r\n\r\nlines\r\n", b"short\r\n\r\nlines\r\n"),
        (b"no end", b"no end"),
        (b"x" * 998 + b"\r\n", b"x" * 998 + b"\r\n"),
        (b"x" * 999 + b"\r\n", b"x" * 998 + b"\r\n x\r\n"),
        (b"x" * 1995 + b"\r\n", b"x" * 998 + b"\r\n " + b"x" * 997 + b"\r\n"),
        (b"x" * 1996 + b"\r\ny", b"x" * 998 + b"\r\n " + b"x" * 997 + b"\r\n x\r\ny"),
        (b"x" * 999, b"x" * 998 + b"\r\n x"),
    ],
)
def test_a_long_line_is_folded_the_same_for_any_cut(content, folded, size):
    assert b"".join(fold(cuts(content, size))) == folded


@given(st.lists(st.integers(0, 4000), max_size=6), st.integers(1, 5000))
def test_folded_content_has_no_long_line_and_loses_no_octet(lengths, size):
    content = b"".join(b"x" * length + b"\r\n" for length in lengths)
    folded = list(fold(cuts(content, size)))
    assert examine(folded) == GOOD
    assert b"".join(folded).replace(b"\r\n ", b"") == content
