"""Numbers, marks and the top of a message."""

from __future__ import annotations

import pytest

from mailserv.pop3.context import OpenMaildrops
from mailserv.pop3.listings import Snapshot
from mailserv.pop3.maildrop import Maildrop, top
from mailserv.store.listing import MaildropMessage


def maildrop(*sizes: int) -> Maildrop:
    messages = [MaildropMessage(f"u{number}", size, number) for number, size in enumerate(sizes, 1)]
    return Maildrop(Snapshot(messages))


def test_messages_keep_their_numbers_when_others_are_marked() -> None:
    drop = maildrop(100, 200, 300)
    assert drop.mark(2)
    assert drop.stat == (2, 400)
    assert drop.scan_listing() == b"1 100\r\n3 300\r\n"
    assert drop.unique_id_listing() == b"1 u1\r\n3 u3\r\n"
    assert [message.unique_id for message in drop.marked] == ["u2"]


def test_a_message_is_marked_once_and_is_gone_for_the_session() -> None:
    drop = maildrop(1, 2)
    assert drop.mark(1)
    assert not drop.mark(1)
    assert drop.get(1) is None
    drop.unmark_all()
    assert drop.get(1) is not None
    assert drop.marked == []


@pytest.mark.parametrize("number", [-1, 0, 3, 4294967297])
def test_lesson_10_a_number_that_no_message_has_is_none(number: int) -> None:
    assert maildrop(1, 2).get(number) is None
    assert not maildrop(1, 2).mark(number)


def test_an_empty_maildrop_is_empty() -> None:
    assert maildrop().stat == (0, 0)
    assert maildrop().scan_listing() == b""


def test_one_maildrop_one_session() -> None:
    table = OpenMaildrops()
    assert table.acquire("a@example.org")
    assert not table.acquire("a@example.org")
    assert table.acquire("b@example.org")
    table.release("a@example.org")
    assert table.acquire("a@example.org")


MESSAGE = b"Subject: x\r\nTo: y\r\n\r\none\r\ntwo\r\n\r\nfour\r\n"


@pytest.mark.parametrize(
    ("content", "lines", "expected"),
    [
        (MESSAGE, 0, b"Subject: x\r\nTo: y\r\n\r\n"),
        (MESSAGE, 1, b"Subject: x\r\nTo: y\r\n\r\none\r\n"),
        (MESSAGE, 3, b"Subject: x\r\nTo: y\r\n\r\none\r\ntwo\r\n\r\n"),
        (MESSAGE, 4, MESSAGE),
        (MESSAGE, 2**31, MESSAGE),
        (b"\r\nbody\r\nmore\r\n", 1, b"\r\nbody\r\n"),
        (b"Subject: no body\r\n", 5, b"Subject: no body\r\n"),
        (b"A: b\r\n\r\nlast line without an end", 1, b"A: b\r\n\r\nlast line without an end"),
        (b"", 3, b""),
    ],
)
def test_top_is_the_header_section_the_empty_line_and_so_many_lines(
    content: bytes, lines: int, expected: bytes
) -> None:
    for size in (1, 2, 3, 5, 7, 1000):
        blocks = [content[at : at + size] for at in range(0, len(content), size)]
        assert b"".join(top(blocks, lines)) == expected


def test_top_reads_no_more_than_it_needs() -> None:
    taken = []

    def blocks() -> object:
        for number in range(10):
            taken.append(number)
            yield MESSAGE

    assert b"".join(top(blocks(), 1)).endswith(b"one\r\n")  # type: ignore[arg-type]
    assert taken == [0]
