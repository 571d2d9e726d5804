"""Dots and the end of data: the same for every cut of the same bytes, and for a slow reader that goes octet by octet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserv.mail.dot_stuffing import stuff, stuff_whole
from mailserv.protocol.dots import DotReader

Result = tuple[bytes, bool, bool, bytes]  # content, ended, bare, rest


def read(parts: list[bytes]) -> Result:
    reader = DotReader()
    content = b""
    rest = b""
    for part in parts:
        if reader.ended:
            rest += part
        else:
            content += b"".join(reader.feed(part))
            rest += reader.rest
    return content, reader.ended, reader.bare, rest


def slowly(data: bytes) -> Result:
    """The rule as RFC 5321 §4.5.2 says it, a line at a time; what has no CRLF yet is left out of the comparison."""
    content, bare = b"", False
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            return content, False, bare, b""
        if line == b".":
            return content, True, bare, data
        bare = bare or b"\r" in line or b"\n" in line
        content += line.removeprefix(b".") + end


def cuts(data: bytes) -> list[list[bytes]]:
    """Every way to cut `data` into two and into three, and into single octets."""
    ways = [[data], [bytes([octet]) for octet in data]]
    for i in range(len(data) + 1):
        ways += [[data[:i], data[i:j], data[j:]] for j in range(i, len(data) + 1)]
    return ways


TRICKY = [
    b".\r\n",
    b".\r\nQUIT\r\n",
    b"a\r\n.\r\nQUIT\r\n",
    b"..\r\n.\r\n",
    b"...\r\n..\r\n..a\r\n.a\r\n.\r\nx",
    b"\r\n.\r\n.\r\n",
    b"\r\n\r\n..\r\n\r\n.\r\n\r\n",
    b"a.\r\n .\r\n.\r\n",
    b".\r.\r\n.\r\n",
    b"a\n.\nb\r\n.\r\n",
    b"a\n.\r\nb\r\n.\r\n",
    b"a\r\n.\nb\r\n.\r\n",
    b"a\r.\rb\r\n.\r\n",
    b"a\r\n.\rb\r\n.\r\n",
    b"a\r\n.\r\r\nb\r\n.\r\n",
    b"a\r\r\n.\r\nrest",
    b"a\n\r\n.\r\n",
    b"\r\n\r.\r\n.\r\n",
    b"\n\r\n.\r\n",
    b"\r\r\n.\r\n",
]


@pytest.mark.parametrize("data", TRICKY, ids=repr)
def test_every_cut_gives_what_the_slow_reader_gives(data: bytes) -> None:
    expected = slowly(data)
    assert expected[1], "the example must end"
    for parts in cuts(data):
        assert read(parts) == expected, parts


def test_every_short_text_of_four_octets_is_read_as_the_slow_reader_does() -> None:
    for length in range(6):
        for letters in product(b".\r\na", repeat=length):
            data = bytes(letters) + b"\r\n.\r\nrest"
            expected = slowly(data)
            assert read([data]) == expected, data
            assert read([bytes([octet]) for octet in data]) == expected, data


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"\r\n.", b"\r\n.\r", b"word", b"\0", b".."]), max_size=40),
    st.lists(st.integers(0, 12), max_size=60),
)
def test_random_text_in_random_pieces_is_read_as_the_slow_reader_does(tokens: list[bytes], sizes: list[int]) -> None:
    data = b"".join(tokens) + b"\r\n.\r\nQUIT\r\n"
    parts, at = [], 0
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    assert read([*parts, data[at:]]) == slowly(data)


def test_a_block_without_dots_is_handed_on_as_it_is() -> None:
    reader = DotReader()
    block = b"x" * 76 + b"\r\n"
    (out,) = reader.feed(block)
    assert out is block


def test_blocks_keep_their_sizes() -> None:
    reader = DotReader()
    sizes = [1, 4096, 3, 65536]
    assert [len(b"".join(reader.feed(b"x" * size))) for size in sizes] == sizes


def test_a_content_without_an_end_says_so() -> None:
    assert read([b"abc\r\n", b".", b"\r"]) == (b"abc\r\n", False, False, b"")


def test_a_client_that_takes_newlines_for_line_ends_looks_ended() -> None:
    for parts in cuts(b"Hello\n.\n"):
        reader = DotReader()
        for part in parts:
            reader.feed(part)
        assert (reader.bare, reader.looks_ended, reader.ended) == (True, True, False), parts


def stuffed(parts: list[bytes]) -> bytes:
    wire = b"".join(stuff(parts))
    assert stuff_whole(b"".join(parts)) == wire
    return wire


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"..\r\n.\r\n", b"...\r\n..\r\n.\r\n"),
        (b"a.\r\n.b\r\n\r\n.\r\n", b"a.\r\n..b\r\n\r\n..\r\n.\r\n"),
    ],
)
def test_stuffing_doubles_a_dot_that_begins_a_line_and_ends_the_last_line(content: bytes, wire: bytes) -> None:
    for parts in cuts(content):
        assert stuffed(parts) == wire, parts


@given(st.lists(st.sampled_from([b".", b"\r\n", b"\r\n.", b"word", b"\r\n.\r\n"]), max_size=30), st.integers(1, 9))
def test_what_was_stuffed_is_read_back_unchanged(tokens: list[bytes], size: int) -> None:
    content = b"".join(tokens)
    wire = stuffed([content[i : i + size] for i in range(0, len(content), size)])
    complete = content if not content or content.endswith(b"\r\n") else content + b"\r\n"
    assert read([wire + b"next"]) == (complete, True, False, b"next")


def test_stuffing_holds_one_block_at_a_time() -> None:
    taken = []

    def blocks() -> Iterator[bytes]:
        for number in range(3):
            taken.append(number)
            yield b"x\r\n"

    stream = stuff(blocks())
    assert next(stream) == b"x\r\n"
    assert taken == [0]
