"""Lines end in CRLF, a long one costs one fault and no memory, and none of it depends on how the bytes were cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailserv.protocol.lines import DISCARD_LIMIT, LineFault, LineReader

LIMIT = 20
Result = list[bytes | LineFault]


def read_all(parts: list[bytes], limit: int = LIMIT) -> Result:
    reader = LineReader()
    found: Result = []
    for part in parts:
        reader.feed(part)
        while (line := reader.next_line(limit)) is not None:
            found.append(line)
            if line is LineFault.ENDLESS:
                return found
    return found


def test_a_line_comes_without_its_crlf_once_it_is_whole() -> None:
    assert read_all([b"NO", b"OP\r", b"\n", b"QUIT\r\nRS"]) == [b"NOOP", b"QUIT"]


def test_a_bare_newline_ends_nothing_and_stays_in_the_line() -> None:
    assert read_all([b"a\nb\rc\n\r\n"]) == [b"a\nb\rc\n"]


def test_a_line_of_exactly_the_limit_is_read_and_one_octet_more_is_not() -> None:
    assert read_all([b"x" * 18 + b"\r\n", b"y" * 19 + b"\r\n", b"z\r\n"]) == [b"x" * 18, LineFault.TOO_LONG, b"z"]


def test_a_line_is_read_at_the_limit_octet_by_octet_too() -> None:
    data = b"x" * 18 + b"\r\n" + b"y" * 19 + b"\r\nz\r\n"
    assert read_all([bytes([octet]) for octet in data]) == [b"x" * 18, LineFault.TOO_LONG, b"z"]


def test_a_long_line_leaves_no_memory_behind() -> None:
    reader = LineReader()
    for _ in range(60):
        reader.feed(b"x" * 1000)
        assert reader.next_line(LIMIT) is None
    assert reader.take_rest() == b""
    assert reader  # and yet there was input that nobody has heard of


def test_endless_discarding_is_bounded() -> None:
    parts = [b"x" * 1000] * 100
    assert read_all(parts) == [LineFault.ENDLESS]
    assert read_all([b"".join(parts)]) == [LineFault.ENDLESS]
    assert read_all([b"".join(parts) + b"\r\nNOOP\r\n"]) == [LineFault.ENDLESS]


def test_the_bound_is_the_same_for_every_cut() -> None:
    for length, fault in ((DISCARD_LIMIT, LineFault.TOO_LONG), (DISCARD_LIMIT + 1, LineFault.ENDLESS)):
        data = b"x" * length + b"\r\n"
        for size in (1000, 4096, 65535, 65536, 65537, len(data)):
            assert read_all([data[i : i + size] for i in range(0, len(data), size)]) == [fault]


def test_a_carriage_return_that_waits_for_its_newline_survives_discarding() -> None:
    assert read_all([b"x" * 30 + b"\r", b"\nNOOP\r\n"]) == [LineFault.TOO_LONG, b"NOOP"]
    assert read_all([b"x" * 30 + b"\r", b"x\r", b"\nNOOP\r\n"]) == [LineFault.TOO_LONG, b"NOOP"]


def test_the_rest_can_be_taken_for_content() -> None:
    reader = LineReader()
    reader.feed(b"DATA\r\nSubject: x\r\n")
    assert reader.next_line(LIMIT) == b"DATA"
    assert reader
    assert reader.take_rest() == b"Subject: x\r\n"
    assert not reader
    assert reader.next_line(LIMIT) is None


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"b" * 17, b"c" * 30])), st.integers(1, 9))
def test_lines_do_not_depend_on_how_the_bytes_were_cut(tokens: list[bytes], size: int) -> None:
    data = b"".join(tokens)
    whole = [LineFault.TOO_LONG if len(line) + 2 > LIMIT else line for line in data.split(b"\r\n")[:-1]]
    assert read_all([data]) == whole
    assert read_all([data[i : i + size] for i in range(0, len(data), size)]) == whole
