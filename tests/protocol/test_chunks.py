"""Chunks of content (RFC 3030) in the SMTP core: counted octets, whatever they hold and however they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smtp_cases import HELLO, make_view

from mailserv.mail import reply
from mailserv.mail.extension import Payload, SMTPExtension, Verb
from mailserv.mail.reply import Reply
from mailserv.protocol.commands import Chunk, ChunkEnd, ContentBlock, ContentEnd, Event, Rejected
from mailserv.protocol.dots import Newlines
from mailserv.protocol.extensions import ExtensionTable
from mailserv.protocol.smtp_server import Phase, SmtpServer, WireLimits


def read(argument: str) -> Payload | None:
    size, _, last = argument.partition(" ")
    return Payload(int(size), last == "LAST") if size.isdigit() else None


TABLE = ExtensionTable([SMTPExtension("CHUNKING", "", verbs=(Verb("BDAT", lambda *_: reply.OK, payload=read),))])
ENVELOPE = b"EHLO client.example.net\r\nMAIL FROM:<smith@example.net>\r\nRCPT TO:<alice@example.org>\r\n"


def run(core: SmtpServer, data: bytes, cut: int = 0, refuse: frozenset[type[Event]] = frozenset()) -> list[Event]:
    """Feed `data` in pieces of `cut` octets, answer everything, refuse what is in `refuse`; the events."""
    events: list[Event] = []
    for start in range(0, len(data), cut or len(data)):
        core.receive(data[start : start + (cut or len(data))])
        while (event := core.next_event(make_view)) is not None:
            events.append(event)
            if isinstance(event, Rejected):
                core.answer(event.reply)
            elif not isinstance(event, Chunk | ContentBlock):
                core.answer(Reply(550, "5.7.1", "No") if type(event) in refuse else HELLO)
    return events


def ready() -> SmtpServer:
    core = SmtpServer(extensions=TABLE, limits=WireLimits())
    run(core, ENVELOPE)
    return core


def content(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, ContentBlock))


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 30))
def test_any_octets_arrive_as_they_are_whatever_the_cut(chunks: list[bytes], cut: int) -> None:
    core = ready()
    sent = b"".join(b"BDAT %d\r\n%b" % (len(chunk), chunk) for chunk in chunks)
    events = run(core, sent + b"BDAT 0 LAST\r\nNOOP\r\n", cut)
    whole = b"".join(chunks)
    assert content(events) == whole
    bare = whole.replace(b"\r\n", b"")
    assert [e for e in events if isinstance(e, ContentEnd)] == [ContentEnd(b"\r" in bare or b"\n" in bare)]
    assert core.phase is Phase.GREETED


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x"]), max_size=12), st.integers(1, 5))
def test_a_bare_cr_or_lf_is_seen_over_any_border(parts: list[bytes], cut: int) -> None:
    whole = b"".join(parts)
    newlines = Newlines()
    for start in range(0, len(whole), cut):
        newlines.note(whole[start : start + cut])
    rest = whole.replace(b"\r\n", b"")
    assert newlines.end() == (b"\r" in rest or b"\n" in rest)


def test_lesson_8_thousands_of_chunks_of_one_octet_keep_nothing_in_the_core() -> None:
    core = ready()
    one = b"BDAT 1\r\nx"
    for _ in range(20):
        events = run(core, one * 500)
        assert content(events) == b"x" * 500
        assert core.output().count(b"\r\n") >= 500
        assert not core.has_input
    assert run(core, b"BDAT 0 LAST\r\n")[-1] == ContentEnd()


@pytest.mark.parametrize("line", [b"RCPT TO:<bob@example.org>", b"MAIL FROM:<>", b"DATA", b"BDAT 5 LAST\r\nQUIT\r"])
def test_lesson_8_after_a_refused_chunk_nothing_of_the_transaction_goes_on(line: bytes) -> None:
    core = ready()
    run(core, b"BDAT 2\r\nhi", refuse=frozenset({ChunkEnd}))
    assert core.phase is Phase.SPOILED
    [event] = run(core, line + (b"" if line.startswith(b"BDAT") else b"\r\n"))
    assert isinstance(event, Rejected)
    assert event.reply is reply.NEED_RSET
    assert core.phase is Phase.SPOILED
    run(core, b"RSET\r\n")
    assert core.phase is Phase.GREETED


def test_a_refused_last_chunk_ends_the_transaction() -> None:
    core = ready()
    run(core, b"BDAT 2 LAST\r\nhi", refuse=frozenset({ContentEnd}))
    assert core.phase is Phase.GREETED


def test_a_length_that_cannot_be_read_ends_the_session() -> None:
    core = ready()
    [event] = run(core, b"BDAT x LAST\r\nRSET\r\n")
    assert isinstance(event, Rejected)
    assert event.close
    assert core.phase is Phase.CLOSED


def test_octets_are_no_commands_even_where_a_421_was_the_answer() -> None:
    core = ready()
    core.receive(b"BDAT 6\r\nRSET\r\nNOOP\r\n")
    assert isinstance(core.next_event(make_view), Chunk)
    core.close(reply.TOO_MANY_ERRORS)
    assert core.next_event(make_view) is None
