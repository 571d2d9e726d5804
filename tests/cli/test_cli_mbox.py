"""mbox octet for octet (RFC 4155): what is written reads back, what others write is split as they meant it, nothing is lost."""

from __future__ import annotations

import calendar
import io
import mailbox
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailserv.cli.mbox import Form, MboxReader, NoMbox, parse_separator, written
from mailserv.mail.line_ends import with_crlf

AT = b"Thu Nov  5 10:20:30 2026"
EPOCH = float(calendar.timegm((2026, 11, 5, 10, 20, 30)))
SEPARATOR = b"From bob@example.net " + AT + b"\n"
BIG = b"Subject: big\r\n\r\n" + b"x" * 10_000_000 + b"\r\n"


def split(data: bytes, form: Form = "mboxrd") -> list[bytes]:
    """The messages of an mbox as content."""
    reader = MboxReader(io.BytesIO(data), form)
    messages = [b"".join(with_crlf(blocks)) for _, blocks in reader.messages()]
    assert reader.octets == len(data)
    return messages


def mbox_of(*messages: bytes) -> bytes:
    return b"".join(b"".join(written([message], "bob@example.net", EPOCH)) for message in messages)


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: plain\r\n\r\nHello.\r\n",
        b"Subject: from lines\r\n\r\nFrom here\r\n>From there\r\n>>From everywhere\r\nFrom\r\n> From\r\n",
        b"Subject: like a separator\r\n\r\nabove\r\n\r\n" + SEPARATOR[:-1] + b"\r\nSubject: within\r\n\r\nbelow\r\n",
        b"From the first octet on\r\n\r\nx\r\n",
        b"Subject: 8-bit\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
        b"Subject: NUL\r\n\r\na\0b\0\r\n\0\r\n",
        b"Subject: a CR\r\n\r\na\rb\r\n\rc\r\n",
        b"Subject: empty lines\r\n\r\n\r\n\r\n\r\n",
        b"Subject: no body\r\n\r\n",
        b"Subject: header only\r\n",
        b"\r\nno header\r\n",
        b"\r\n",
        b"Subject: long\r\n\r\n" + b"F" * 70_000 + b"From x\r\nFrom y\r\n",
        b"Subject: many marks\r\n\r\n"
        + b">" * 999
        + b"From x\r\n"
        + b">" * 1001
        + b"From x\r\n"
        + b">" * 70_000
        + b"From\r\n",
        pytest.param(BIG, id="10 MB"),
    ],
)
def test_what_is_written_reads_back_octet_for_octet(content: bytes) -> None:
    assert split(mbox_of(content)) == [content]
    assert split(mbox_of(content, content, b"Subject: last\r\n\r\n.\r\n")) == [
        content,
        content,
        b"Subject: last\r\n\r\n.\r\n",
    ]


LINES = st.sampled_from(
    [
        b"\r\n",
        b"From x\r\n",
        b">From x\r\n",
        SEPARATOR[:-1] + b"\r\n",
        b"Subject: y\r\n",
        b"text\r\n",
        b"\xff\0\r\n",
        b"a\rb\r\n",
    ]
)


@settings(max_examples=300, deadline=None)
@given(messages=st.lists(st.lists(LINES, min_size=1, max_size=8).map(b"".join), max_size=4))
def test_any_messages_read_back_octet_for_octet(messages: list[bytes]) -> None:
    assert split(mbox_of(*messages)) == messages


@settings(max_examples=200, deadline=None)
@given(messages=st.lists(st.lists(LINES, min_size=1, max_size=8).map(b"".join), max_size=4), cut=st.integers(1, 40))
def test_the_borders_of_blocks_make_no_difference(messages: list[bytes], cut: int) -> None:
    for message in messages:
        blocks = [message[at : at + cut] for at in range(0, len(message), cut)]
        assert b"".join(written(blocks, "", 0.0)) == b"".join(written([message], "", 0.0))


@settings(max_examples=200, deadline=None)
@given(
    data=st.lists(
        st.sampled_from([SEPARATOR, b"From x\n", b"\n", b"\r\n", b"text\n", b"Subject: y\n", b"end"]), max_size=12
    )
)
def test_every_octet_of_any_file_is_in_some_message(data: list[bytes]) -> None:
    """But for separators, the empty lines that end messages, and those before the first."""
    text = b"".join(data)
    body = text.lstrip(b"\r\n")
    if body and not body.startswith(b"From "):
        with pytest.raises(NoMbox):
            split(text)
        return
    kept = b"".join(split(text, "mboxo")).replace(b"\r\n", b"\n")
    rest = iter(body.replace(b"\r\n", b"\n").splitlines(keepends=True))
    for line in kept.splitlines(
        keepends=True
    ):  # kept is a subsequence of what was there, and what is missing is nothing
        for there in rest:
            if there.rstrip(b"\n") == line.rstrip(b"\n"):
                break
            assert there == b"\n" or there.startswith(b"From ")
        else:
            raise AssertionError(f"{line!r} was not there")
    assert all(line == b"\n" or line.startswith(b"From ") for line in rest)


def test_python_s_mailbox_reads_the_same_messages(tmp_path: Path) -> None:
    contents = [b"Subject: %d\r\n\r\nFrom me\r\n\r\n>From you\r\n\xe9\0\r\n" % number for number in range(20)]
    path = tmp_path / "oracle.mbox"
    path.write_bytes(mbox_of(*contents))
    with closing(mailbox.mbox(path, create=False)) as oracle:
        read = [oracle.get_bytes(key) for key in oracle.iterkeys()]
        assert oracle.get_message(0).get_from() == "bob@example.net " + AT.decode()
    plain = [text.replace(b"\n>>From", b"\n>From").replace(b"\n>From me", b"\nFrom me") for text in read]
    assert [text.replace(b"\n", b"\r\n") for text in plain] == contents


def test_what_python_s_mailbox_writes_is_split_as_it_was_put_together(tmp_path: Path) -> None:
    path = tmp_path / "oracle.mbox"
    oracle = mailbox.mbox(path)
    contents = [b"Subject: %d\n\nFrom me\n\nFrom you\n>From them\n" % number for number in range(20)]
    for content in contents:
        oracle.add(content)
    oracle.close()
    quoted = [content.replace(b"\nFrom ", b"\n>From ").replace(b"\n", b"\r\n") for content in contents]
    assert split(path.read_bytes(), "mboxo") == quoted
    assert split(path.read_bytes(), "mboxrd") == [text.replace(b"\n>From", b"\nFrom") for text in quoted]


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (b"", []),
        (b"\n\n", []),
        (SEPARATOR, [b""]),
        (b"\n" + SEPARATOR + b"A: 1\n\n", [b"A: 1\r\n"]),
        (SEPARATOR + b"A: 1\n\nno end of line", [b"A: 1\r\n\r\nno end of line\r\n"]),
        (SEPARATOR + b"A: 1\n\nx\n" + SEPARATOR + b"B: 2\n\ny\n\n", [b"A: 1\r\n\r\nx\r\n", b"B: 2\r\n\r\ny\r\n"]),
        (SEPARATOR + b"A: 1\n\nx\n\nFrom nobody\nB: 2\n\ny\n\n", [b"A: 1\r\n\r\nx\r\n", b"B: 2\r\n\r\ny\r\n"]),
        (
            SEPARATOR + b"A: 1\n\nx\n\nFrom now on\nall is text\n\n",
            [b"A: 1\r\n\r\nx\r\n\r\nFrom now on\r\nall is text\r\n"],
        ),
        (SEPARATOR + b"A: 1\n\nx\nFrom now on\nB: is text\n\n", [b"A: 1\r\n\r\nx\r\nFrom now on\r\nB: is text\r\n"]),
        (SEPARATOR + b"A: 1\n\nx\n\nFrom now on", [b"A: 1\r\n\r\nx\r\n\r\nFrom now on\r\n"]),
        (SEPARATOR + SEPARATOR + b"B: 2\n\ny\n\n", [b"", b"B: 2\r\n\r\ny\r\n"]),
        (
            (SEPARATOR + b"A: 1\n\nx\n\n" + SEPARATOR + b"B: 2\n\ny\n\n").replace(b"\n", b"\r\n"),
            [b"A: 1\r\n\r\nx\r\n", b"B: 2\r\n\r\ny\r\n"],
        ),
    ],
)
def test_what_is_not_quite_right_is_taken_as_it_was_meant(text: bytes, messages: list[bytes]) -> None:
    assert split(text) == messages


def test_what_begins_with_something_else_is_no_mbox() -> None:
    with pytest.raises(NoMbox):
        split(b"Return-Path: <bob@example.net>\n\nHello.\n")


@pytest.mark.parametrize(
    ("line", "address", "date"),
    [
        (b"From bob@example.net Thu Nov  5 10:20:30 2026\n", "bob@example.net", EPOCH),
        (b"From bob@example.net Thu Nov  5 11:20:30 2026 +0100\n", "bob@example.net", EPOCH),
        (b"From 17@xxx Thu Nov 05 11:20:30 +0100 2026\r\n", "17@xxx", EPOCH),
        (b"From bob@example.net Thu Nov  5 10:20 2026\n", "bob@example.net", EPOCH - 30),
        (b"From - Thu Nov  5 10:20:30 2026\n", "-", EPOCH),
        (b"From MAILER-DAEMON Thu Nov 31 10:20:30 2026\n", "MAILER-DAEMON", None),
        (b"From \xff\n", "�", None),
        (b"From \n", "", None),
    ],
)
def test_a_separator_tells_who_and_when(line: bytes, address: str, date: float | None) -> None:
    found = parse_separator(line)
    assert (found.address, found.date) == (address, date)


@pytest.mark.parametrize("address", ["", "two words@example.net", "line\nbreak@example.net"])
def test_an_address_that_would_break_the_line_is_left_out(address: str) -> None:
    assert next(written([], address, EPOCH)) == b"From MAILER-DAEMON " + AT + b"\n"


def test_content_without_a_last_line_end_gets_one() -> None:
    assert split(mbox_of(b"A: 1\r\n\r\nx")) == [b"A: 1\r\n\r\nx\r\n"]


def test_the_date_is_told_in_english_and_utc() -> None:
    at = datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC).timestamp()
    assert next(written([], "a@example.net", at)) == b"From a@example.net Sat Feb 28 23:59:59 2026\n"
