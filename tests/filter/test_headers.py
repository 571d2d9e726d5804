"""Received, the completion of submissions, loops: bytes in, bytes out."""

from __future__ import annotations

import email
import email.policy
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserv.filter import headers
from mailserv.mail.address import Address
from mailserv.mail.message import BytesContent, header_section
from mailserv.mail.peer import Peer, TLSInfo

NOW = 1_767_225_600.0
DATE = "Thu, 01 Jan 2026 00:00:00 +0000"
PEER = Peer("192.0.2.1", 40000, "smtp", "s1", helo="client.example", esmtp=True)
TLS = TLSInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384")


def received(peer: Peer = PEER, **more: object) -> str:
    made = headers.received_field(peer, hostname="mx.example.org", queue_id="QID", now=NOW, **more)  # type: ignore[arg-type]
    return made.decode()


def test_a_received_field_tells_who_how_and_when() -> None:
    assert received(recipient=Address("alice", "example.org")) == (
        "Received: from client.example ([192.0.2.1])\r\n"
        "\tby mx.example.org with ESMTP id QID\r\n"
        "\tfor <alice@example.org>;\r\n"
        f"\t{DATE}\r\n"
    )


def test_a_received_field_tells_of_tls_login_and_proven_names() -> None:
    peer = Peer("2001:db8::1", 1, "submission", "s", helo="[192.0.2.7]", esmtp=True, tls=TLS, login="alice@example.org")
    assert received(peer, reverse_dns="host.example") == (
        "Received: from [192.0.2.7] (host.example [IPv6:2001:db8::1])\r\n"
        "\tby mx.example.org with ESMTPSA id QID\r\n"
        "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384);\r\n"
        f"\t{DATE}\r\n"
    )


@pytest.mark.parametrize(
    ("more", "smtputf8", "word"),
    [
        ({"esmtp": False}, False, "SMTP"),
        ({}, False, "ESMTP"),
        ({"tls": TLS}, False, "ESMTPS"),
        ({"login": "a@b"}, False, "ESMTPA"),
        ({}, True, "UTF8SMTP"),
        ({"tls": TLS}, True, "UTF8SMTPS"),
        ({"login": "a@b"}, True, "UTF8SMTPA"),
        ({"tls": TLS, "login": "a@b"}, True, "UTF8SMTPSA"),
    ],
)
def test_the_with_clause_is_of_rfc_3848_or_6531(more: dict[str, object], smtputf8: bool, word: str) -> None:
    peer = Peer(**{"ip": "192.0.2.1", "port": 1, "service": "smtp", "session_id": "s", "esmtp": True, **more})  # type: ignore[arg-type]
    assert f" with {word} id QID" in received(peer, smtputf8=smtputf8)


@pytest.mark.parametrize(
    ("helo", "shown"),
    [
        ("Client.Example", "client.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
        ("", "unknown"),
        ("()", "unknown"),
        ("my computer", "mycomputer"),
        ("x)\r\nX-Injected: yes (", "xX-Injected:yes"),
        ("<script>\0\x1b[0m", "script[0m"),
        ("y" * 5000, "y" * 255),
    ],
)
def test_what_helo_claims_cannot_break_the_field(helo: str, shown: str) -> None:
    peer = Peer("192.0.2.1", 1, "smtp", "s", helo=helo, esmtp=True)
    assert received(peer).startswith(f"Received: from {shown} ([192.0.2.1])\r\n\tby ")


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=30), st.booleans())
def test_a_received_field_is_one_field_whatever_the_peer_says(helo: str, dns: str, cipher: str, utf8: bool) -> None:
    peer = Peer("192.0.2.1", 1, "smtp", "s", helo=helo, esmtp=True, tls=TLSInfo("TLSv1.3", cipher))
    text = received(peer, reverse_dns=dns, smtputf8=utf8, recipient=Address("a", "example.org"))
    lines = text.split("\r\n")
    assert lines.pop() == ""
    assert lines[0].startswith("Received: ")
    assert all(line.startswith("\t") for line in lines[1:])
    assert all(len(line) <= 998 and line.replace("\t", "").isprintable() for line in lines)
    parsed = email.message_from_string(text + "\r\nbody")
    assert parsed.keys() == ["Received"]
    assert parsed["Received"].endswith(DATE)


def test_a_recipient_outside_ascii_is_named_in_utf8() -> None:
    assert "for <élise@example.org>;" in received(recipient=Address("élise", "example.org"), smtputf8=True)


def test_text_of_a_peer_is_cleaned_for_the_trace() -> None:
    assert headers.clean("mx\r\nevil\x1b") == "mx evil?"
    assert len(headers.clean("x" * 999)) == 255


# Content without a header section.


@pytest.mark.parametrize(
    ("section", "gap"),
    [
        (b"Subject: x\r\n", b""),
        (b"X:\r\n", b""),
        (b"Obsolete \t: white space before the colon\r\n", b""),
        (b"", b""),
        (b"no field at all\r\n", b"\r\n"),
        (b" continues nothing\r\n", b"\r\n"),
        (b"\tcontinues nothing\r\n", b"\r\n"),
        (b": no name\r\n", b"\r\n"),
        (b"From alice Thu Jan  1 00:00:00 2026\r\n", b"\r\n"),
        (b"two words: is no name\r\n", b"\r\n"),
        ("Prénom: x\r\n".encode(), b"\r\n"),
    ],
)
def test_what_is_put_before_content_swallows_nothing_of_it(section: bytes, gap: bytes) -> None:
    assert headers.separator(section) == gap
    stored = received().encode() + headers.separator(section) + section + b"\r\nbody\r\n"
    parsed = email.message_from_bytes(stored)
    assert parsed["Received"].endswith(DATE)
    if gap:
        assert parsed.keys() == ["Received"]
        assert parsed.get_payload(decode=True) == section + b"\r\nbody\r\n"


# Submissions (RFC 6409 §8).


def complete(section: bytes) -> bytes:
    return headers.complete_submission(section, hostname="mx.example.org", queue_id="QID", now=NOW)


ADDED_ID = b"Message-ID: <QID@mx.example.org>\r\n"
ADDED_DATE = f"Date: {DATE}\r\n".encode()
WHOLE = b"Date: x\r\nMESSAGE-id : <a@b>\r\n"


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (b"", ADDED_ID + ADDED_DATE),
        (b"From: a@b\r\n", ADDED_ID + ADDED_DATE + b"From: a@b\r\n"),
        (b"Date: x\r\n", ADDED_ID + b"Date: x\r\n"),
        (b"Message-ID: <a@b>\r\n", ADDED_DATE + b"Message-ID: <a@b>\r\n"),
        (WHOLE, WHOLE),
        (b"Resent-Date: x\r\nX-Date: y\r\nX: Date: z\r\n\tDate: w\r\n" + WHOLE,) * 2,
        (WHOLE + b"Bcc: x@y\r\n", WHOLE),
        (b"bCC: x@y\r\n" + WHOLE, WHOLE),
        (b"BCC \t: x@y\r\n" + WHOLE, WHOLE),
        (b"Bcc:\r\n" + WHOLE, WHOLE),
        (WHOLE + b"Bcc: x@y,\r\n z@w,\r\n\tv@u\r\n \r\nTo: t@s\r\n", WHOLE + b"To: t@s\r\n"),
        (WHOLE + b"Bcc: a\r\nBcc: b\r\nTo: t\r\nBcc: c\r\nCc: d\r\n", WHOLE + b"To: t\r\nCc: d\r\n"),
        (WHOLE + b"Resent-Bcc: a\r\nReturn-Path: <x@y>\r\n", WHOLE),
        (WHOLE + b"X-Bcc: a\r\nBccx: b\r\nX: Bcc: c\r\n\tBcc: d\r\n",) * 2,
        (WHOLE + b"no field\r\nBcc: x@y\r\n", WHOLE + b"no field\r\n"),
        (WHOLE + b"Bcc: unfinished", WHOLE),
        (WHOLE + b"X-Raw: \xff\x00\xe9\r\n",) * 2,
        (
            b"no field\r\nBcc: part of the text\r\n",
            ADDED_ID + ADDED_DATE + b"\r\nno field\r\nBcc: part of the text\r\n",
        ),
        (b" Date: x\r\n", ADDED_ID + ADDED_DATE + b"\r\n Date: x\r\n"),
    ],
)
def test_a_submission_is_completed_and_nothing_else_is_touched(section: bytes, expected: bytes) -> None:
    assert complete(section) == expected


field = st.tuples(
    st.sampled_from([b"To", b"Subject", b"Bcc", b"bcc", b"Resent-Bcc", b"Date", b"X-Bcc", b"Message-Id"]),
    st.lists(st.sampled_from([b"x@y", b"Bcc: z", b"", b"\xe9"]), min_size=1, max_size=3),
)


@given(st.lists(field, max_size=8))
def test_any_header_section_keeps_its_other_fields_in_order(made: list[tuple[bytes, list[bytes]]]) -> None:
    rendered = [(name, name + b": " + b"\r\n\t".join(lines) + b"\r\n") for name, lines in made]
    kept = b"".join(text for name, text in rendered if name.lower() not in {b"bcc", b"resent-bcc"})
    done = complete(b"".join(text for _, text in rendered))
    assert done.endswith(kept)
    parsed = email.message_from_bytes(done + b"\r\n", policy=email.policy.compat32)
    assert "Date" in parsed
    assert "Message-ID" in parsed
    assert "Bcc" not in parsed
    assert complete(done) == done


# Loops (RFC 5321 §6.3).


def test_received_fields_are_counted_and_nothing_else() -> None:
    section = b"Received: a\r\n\treceived: folded\r\nRECEIVED : b\r\nX-Received: c\r\nReceived-SPF: d\r\nreceived:e\r\n"
    assert headers.count_hops(section) == 3
    assert headers.count_hops(b"") == 0
    assert headers.count_hops(b"no field\r\n" + section) == 3


def test_our_own_trace_fields_are_counted() -> None:
    assert headers.count_hops(received().encode() * 7) == 7


def test_a_mailbox_is_recognised_in_delivered_to() -> None:
    alice = Address("alice", "example.org")
    prefix = headers.return_path_prefix(Address("", ""), alice)
    section = prefix + b"Delivered-To: <ALICE@example.org>\r\nX: Delivered-To: alice@example.org\r\n"
    assert headers.delivered_to(section) == {"alice@example.org": 2}
    assert headers.delivered_to(b"Delivered-To: \xff\r\n")[str(alice)] == 0


@pytest.mark.parametrize(
    "section",
    [
        b"a" * 1_000_000,
        b"a " * 500_000,
        b" " * 1_000_000,
        b"x" + b" " * 999_999,
        b"Bcc" + b" " * 999_999,
        b"Bcc: a\r\n" * 125_000,
        b"Bcc:\r\n" + b" \r\n" * 330_000,
        b"Bcc:" + b"\r" * 999_000,
        b"\r\n" * 500_000,
        b"Delivered-To: " + b" " * 999_999,
        b"Delivered-To: a\r\n" * 60_000,
        b"Received" * 125_000,
        b"Resent-" * 140_000,
        b"message-id" + b"\t" * 999_999,
    ],
    ids=lambda section: repr(section[:12]),
)
def test_a_megabyte_of_hostile_header_takes_little_time(section: bytes) -> None:
    before = time.process_time()
    complete(section)
    complete(b"A: b\r\n" + section)
    headers.count_hops(section)
    headers.delivered_to(section)
    headers.separator(section)
    header_section(BytesContent(section))
    assert time.process_time() - before < 1.0
