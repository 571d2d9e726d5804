"""What a server may say, and what is made of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserv.errors import ProtocolError
from mailserv.mail.reply import Reply
from mailserv.mail.smtp_reply import MAX_LINE, MAX_LINES, ReplyReader, ServerReply


def read_all(data: bytes, size: int = 10_000) -> list[ServerReply]:
    reader, replies = ReplyReader(), []
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
        while (reply := reader.next()) is not None:
            replies.append(reply)
    return replies


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("data", "replies"),
    [
        (b"250 Ok\r\n", [ServerReply(250, ("Ok",))]),
        (b"250\r\n", [ServerReply(250, ("",))]),
        (b"250 \r\n", [ServerReply(250, ("",))]),
        (b"250-a\r\n250-b\r\n250 c\r\n", [ServerReply(250, ("a", "b", "c"))]),
        (b"250 a\r\n354 b\r\n", [ServerReply(250, ("a",)), ServerReply(354, ("b",))]),
        (b"250-a\n250 b\n", [ServerReply(250, ("a", "b"))]),
        (b"250-half\r\n", []),
        (b"250 no end", []),
    ],
)
def test_replies_are_read_the_same_for_any_cut(data, replies, size):
    assert read_all(data, size) == replies


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"25 Ok\r\n",
        b"2500 Ok\r\n",
        b"150 Ok\r\n",
        b"650 Ok\r\n",
        b"250_Ok\r\n",
        b"\r\n",
        b"250-a\r\n550 b\r\n",
        b"250 " + b"x" * MAX_LINE + b"\r\n",
        b"250 " + b"x" * MAX_LINE,
        b"250-x\r\n" * (MAX_LINES + 1),
        (b"250-" + b"x" * 2000 + b"\r\n") * 40,
    ],
)
def test_lesson_9_malformed_and_endless_replies_end_the_session(data):
    with pytest.raises(ProtocolError):
        read_all(data)


@given(st.binary(max_size=200))
def test_any_bytes_give_replies_or_a_protocol_error(data):
    try:
        replies = read_all(b"250-" + data)
    except ProtocolError:
        return
    assert all(200 <= reply.code < 600 and str(reply.to_reply()).isprintable() for reply in replies)


@pytest.mark.parametrize(
    ("code", "lines", "reply"),
    [
        (250, ("2.0.0 Ok: queued as 12",), Reply(250, "2.0.0", "Ok: queued as 12")),
        (250, ("Ok",), Reply(250, "2.0.0", "Ok")),
        (550, ("No",), Reply(550, "5.0.0", "No")),
        (450, ("",), Reply(450, "4.0.0", "")),
        (550, ("5.1.1",), Reply(550, "5.1.1", "")),
        (550, ("5.1.1 The account", "5.1.1 does not exist"), Reply(550, "5.1.1", "The account does not exist")),
        (550, ("4.2.0 Confused",), Reply(550, "5.0.0", "Confused")),
        (550, ("5.1.1000 x",), Reply(550, "5.0.0", "5.1.1000 x")),
        (354, ("Go ahead",), Reply(354, "", "Go ahead")),
        (554, ("nul\0 esc\x1b[31m tab\there \xe4\xf6",), Reply(554, "5.0.0", "nul? esc?[31m tab here ??")),
    ],
)
def test_lesson_6_a_reply_becomes_one_clean_line_with_an_enhanced_status(code, lines, reply):
    assert ServerReply(code, lines).to_reply() == reply


def test_lesson_6_reply_text_is_cut():
    text = ServerReply(550, ("x" * 2000,) * 20).to_reply().text
    assert len(text) == 512


def test_a_reader_knows_whether_bytes_are_left():
    reader = ReplyReader()
    reader.feed(b"220 go\r\n250-inj")
    assert reader.next() == ServerReply(220, ("go",))
    assert not reader.is_empty
    reader = ReplyReader()
    reader.feed(b"220 go\r\n")
    reader.next()
    assert reader.is_empty
    reader.feed(b"250-a\r\n")
    assert reader.next() is None
    assert not reader.is_empty, "half a reply is something left"
