"""Replies, queue ids, content, header fields, xtext, verdicts: what the small nouns promise."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserv.mail import fields, reply, verdict
from mailserv.mail.address import NULL_REVERSE_PATH, Address
from mailserv.mail.envelope import Envelope
from mailserv.mail.message import BytesContent, SplicedContent, header_section
from mailserv.mail.peer import Peer, TLSInfo
from mailserv.mail.queue_id import QueueIds
from mailserv.mail.reply import Reply, Severity
from mailserv.mail.route import Route
from mailserv.mail.verdict import Action
from mailserv.mail.xtext import decode_xtext

NAMED = {name: value for name, value in vars(reply).items() if isinstance(value, Reply)}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_reply_keeps_the_grammar(name: str) -> None:
    known = NAMED[name]
    assert 200 <= known.code <= 559
    assert known.text.isascii()
    assert known.text.isprintable()
    assert len(known.encode()) <= 512  # RFC 5321 §4.5.3.1.5
    if known.enhanced:
        assert known.enhanced[0] == str(known.code)[0]  # RFC 2034 §4
        assert all(part.isdigit() for part in known.enhanced.split("."))


@pytest.mark.parametrize(
    ("code", "severity", "positive"),
    [
        (250, Severity.POSITIVE, True),
        (354, Severity.INTERMEDIATE, True),
        (451, Severity.TRANSIENT, False),
        (550, Severity.PERMANENT, False),
    ],
)
def test_the_first_digit_says_how_severe_a_reply_is(code: int, severity: Severity, positive: bool) -> None:
    assert Reply(code, "", "x").severity is severity
    assert Reply(code, "", "x").is_positive is positive


def test_a_reply_of_several_lines_has_code_and_status_on_each() -> None:
    several = Reply(550, "5.7.1", "No.\nReally.")
    assert several.encode() == b"550-5.7.1 No.\r\n550 5.7.1 Really.\r\n"
    assert str(several) == "550 5.7.1 No. Really."


def test_a_reply_without_enhanced_status_has_none() -> None:
    assert reply.START_CONTENT.encode() == b"354 End data with <CR><LF>.<CR><LF>\r\n"
    assert str(Reply(220, "", "hi")) == "220 hi"


def test_queue_ids_are_sixteen_characters_and_sort_by_time() -> None:
    ids = QueueIds(random.Random(1))
    made = [ids.make(1_700_000_000.0 + second) for second in range(500)]
    assert made == sorted(made)
    assert {len(one) for one in made} == {16}
    assert set("".join(made)) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def test_queue_ids_made_by_many_threads_in_one_millisecond_differ() -> None:
    ids = QueueIds(random.Random(2))
    made: list[str] = []

    def make() -> None:
        made.extend([ids.make(1_700_000_000.0) for _ in range(1000)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4000


class Blocks:
    """Content that comes in the blocks it is told to, and counts those that were read."""

    def __init__(self, *blocks: bytes) -> None:
        self._blocks = blocks
        self.size = sum(map(len, blocks))
        self.read = 0

    def blocks(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.read += 1
            yield block


@pytest.mark.parametrize(
    ("blocks", "section"),
    [
        ((b"A: 1\r\n\r\nbody",), b"A: 1\r\n"),
        ((b"\r\nbody: no header\r\n\r\n",), b""),
        ((b"\r", b"\nbody"), b""),
        ((b"A: 1\r", b"\n\r", b"\nbody"), b"A: 1\r\n"),
        ((b"A: 1\r\nB: 2\r\n",), b"A: 1\r\nB: 2\r\n"),
        ((b"A: 1\r\n", b"\r\n"), b"A: 1\r\n"),
        ((), b""),
    ],
)
def test_the_header_section_ends_at_the_first_empty_line(blocks: tuple[bytes, ...], section: bytes) -> None:
    assert header_section(Blocks(*blocks)) == section


def test_no_more_blocks_are_read_than_the_header_section_needs() -> None:
    content = Blocks(b"A: 1\r\n\r\n", b"body", b"body")
    header_section(content)
    assert content.read == 1
    endless = Blocks(*[b"x" * 100] * 100)
    assert header_section(endless, limit=250) == b"x" * 250
    assert endless.read == 3


def test_bytes_content_is_one_block() -> None:
    content = BytesContent(b"abc")
    assert (content.size, list(content.blocks())) == (3, [b"abc"])


@pytest.mark.parametrize(
    ("peer", "protocol"),
    [
        (Peer("192.0.2.1", 1, "smtp", "s"), "SMTP"),
        (Peer("192.0.2.1", 1, "smtp", "s", esmtp=True), "ESMTP"),
        (Peer("192.0.2.1", 1, "smtp", "s", esmtp=True, tls=TLSInfo("TLSv1.3", "X")), "ESMTPS"),
        (Peer("192.0.2.1", 1, "smtp", "s", esmtp=True, login="a@b"), "ESMTPA"),
        (Peer("192.0.2.1", 1, "smtp", "s", esmtp=True, tls=TLSInfo("TLSv1.3", "X"), login="a@b"), "ESMTPSA"),
    ],
)
def test_the_protocol_of_a_session_is_named_as_in_rfc_3848(peer: Peer, protocol: str) -> None:
    assert peer.protocol == protocol


def test_an_envelope_knows_that_smtputf8_was_asked_for() -> None:
    assert Envelope(NULL_REVERSE_PATH, parameters={"SMTPUTF8": ""}).is_smtputf8
    assert not Envelope(NULL_REVERSE_PATH).is_smtputf8


def test_a_route_is_written_as_the_settings_write_it() -> None:
    assert str(Route("smtp", "[192.0.2.1]:25")) == "smtp:[192.0.2.1]:25"


def test_the_strictest_verdict_is_the_greatest() -> None:
    made = [verdict.reject("no"), verdict.tempfail("later", reason="greylisted"), verdict.disconnect("out")]
    assert [v.action for v in sorted(made, key=lambda v: v.action)] == [
        Action.TEMPFAIL,
        Action.REJECT,
        Action.DISCONNECT,
    ]
    assert [str(v.reply) for v in made] == ["550 5.7.1 no", "451 4.7.1 later", "421 4.7.0 out"]
    assert [v.reason for v in made] == ["no", "greylisted", "out"]


@pytest.mark.parametrize(
    ("text", "xtext"),
    [("QQ314159", "QQ314159"), ("a+b=c", "a+2Bb+3Dc"), ("alice@example.org", "alice@example.org"), (" é", "+20+C3+A9")],
)
def test_xtext_is_read_as_rfc_3461_says(text: str, xtext: str) -> None:
    assert decode_xtext(xtext) == text


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_comes_back_from_xtext(text: str) -> None:
    assert decode_xtext("".join(f"+{octet:02X}" for octet in text.encode())) == text


@pytest.mark.parametrize("text", ["a b", "a=b", "+", "+4", "+zz", "+2b", "é", "a\r\n"])
def test_what_is_no_xtext_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="xtext"):
        decode_xtext(text)


def test_octets_in_xtext_that_are_no_utf8_are_replaced() -> None:
    assert decode_xtext("a+FFb") == "a\ufffdb"


def test_a_date_is_written_in_utc_and_read_back() -> None:
    assert fields.date_time(1_767_225_600.9) == "Thu, 01 Jan 2026 00:00:00 +0000"
    assert parsedate_to_datetime(fields.date_time(1_767_225_600.0)).timestamp() == 1_767_225_600


@pytest.mark.parametrize(
    ("text", "ascii_line", "utf8_line"),
    [
        ("plain", "plain", "plain"),
        ("two\r\nlines\t and  more ", "two lines and more", "two lines and more"),
        ("nul\0 esc\x1b[2J", "nul? esc?[2J", "nul? esc?[2J"),
        ("Bücher", "B?cher", "Bücher"),
        ("c1\x9b bidi\u202e line\u2028end", "c1? bidi? line end", "c1? bidi? line end"),
        ("", "", ""),
    ],
)
def test_text_of_a_peer_becomes_one_printable_line(text: str, ascii_line: str, utf8_line: str) -> None:
    assert fields.printable(text) == ascii_line
    assert fields.printable(text, keep_utf8=True) == utf8_line


def test_long_text_of_a_peer_is_cut() -> None:
    assert fields.printable("x" * 10_000, 20) == "x" * 17 + "..."
    assert fields.printable("x" * 20, 20) == "x" * 20


def test_final_delivery_writes_return_path_and_delivered_to() -> None:
    prefix = fields.return_path_prefix(Address("bob", "example.net"), Address("alice+tag", "example.org"))
    assert prefix == b"Return-Path: <bob@example.net>\r\nDelivered-To: alice+tag@example.org\r\n"
    null = fields.return_path_prefix(NULL_REVERSE_PATH, Address("élise", "example.org"))
    assert null == "Return-Path: <>\r\nDelivered-To: élise@example.org\r\n".encode()


def test_a_message_of_our_own_has_a_received_field_without_from() -> None:
    made = fields.received_here("mx.example.org", "QID", 1_767_225_600.0)
    assert made == b"Received: by mx.example.org id QID; Thu, 01 Jan 2026 00:00:00 +0000\r\n"


@dataclass(frozen=True)
class InPieces:
    """Content that comes in blocks of two octets."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def blocks(self) -> Iterator[bytes]:
        yield from (self.data[at : at + 2] for at in range(0, len(self.data), 2))


@pytest.mark.parametrize("at", range(1, 8))
def test_octets_are_spliced_in_at_their_place_wherever_blocks_end(at: int) -> None:
    content = SplicedContent(InPieces(b"abcdefg"), at, b"XYZ")
    assert b"".join(content.blocks()) == b"abcdefg"[:at] + b"XYZ" + b"abcdefg"[at:]
    assert content.size == 10
