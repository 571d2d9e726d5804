"""Surrogates of internationalised header sections (RFC 6858): ASCII, readable, and never a way back to the address."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserv.mail.surrogate import INVALID, in_ascii


@pytest.mark.parametrize(
    ("field", "surrogate"),
    [
        ("From: alice@example.org", "From: alice@example.org"),
        ("Subject: =?utf-8?q?=C3=B8?= kept as it is", "Subject: =?utf-8?q?=C3=B8?= kept as it is"),
        ("Subject: ø", "Subject: =?utf-8?b?w7g=?="),
        ("From: Jørgen <joergen@example.net>", "From: =?utf-8?q?J=C3=B8rgen?= <joergen@example.net>"),
        ("From: Joe <jøe@example.net>", f"From: =?utf-8?q?Joe?= <{INVALID}>"),
        ("Sender: jøe@example.net", f"Sender: =?utf-8?q?j=C3=B8e=40example=2Enet?= <{INVALID}>"),
        (
            "To: Ann Other <ann@example.org>,\r\n ø@example.net",
            f"To: Ann Other <ann@example.org>,\r\n =?utf-8?b?w7hAZXhhbXBsZS5uZXQ=?= <{INVALID}>",
        ),
        ("Return-Path: <jøe@example.net>", f"Return-Path: <{INVALID}>"),
        ("Delivered-To: jøe@example.net", None),
        ("X-Note: ø", None),
        ("Received: from ø by mail.example.org", None),
        ('Content-Type: text/plain; name="ø;x"; charset=utf-8', "Content-Type: text/plain; charset=utf-8"),
        ("Content-Disposition: attachment; filename=ø", "Content-Disposition: attachment"),
        ("Content-Type: ø/plain", None),
        ("Sübject: x", None),
    ],
)
def test_a_field_becomes(field: str, surrogate: str | None) -> None:
    expected = b"" if surrogate is None else f"{surrogate}\r\n".encode("ascii")
    got = in_ascii(f"{field}\r\n".encode())
    if surrogate is not None and "=?utf-8?" in surrogate and "=?utf-8?" not in field:
        policy = email.policy.default
        assert str(email.message_from_bytes(got, policy=policy)) == str(
            email.message_from_bytes(expected, policy=policy)
        )
    else:
        assert got == expected
    assert in_ascii(b"A: 1\r\n" + f"{field}\r\n".encode() + b"Z: 2\r\n") == b"A: 1\r\n" + got + b"Z: 2\r\n"


@pytest.mark.parametrize("value", ["ø" + "(" * 4000 + ")" * 4000, "ø:" * 4000, "ø" * 20_000])
def test_what_cannot_be_read_as_addresses_is_nobody_s(value: str) -> None:
    assert in_ascii(f"From: {value}\r\n".encode()) == f"From: <{INVALID}>\r\n".encode()


def test_of_more_addresses_than_anybody_writes_the_first_are_shown() -> None:
    got = in_ascii(("To: all:" + "ø@x," * 50_000 + ";\r\n").encode())
    assert 1000 < got.count(INVALID.encode()) < 5000


def test_a_long_subject_is_folded_and_read_back_whole() -> None:
    subject = "ø" * 300
    got = in_ascii(f"Subject: {subject}\r\n".encode())
    assert max(map(len, got.split(b"\r\n"))) <= 76
    assert email.message_from_bytes(got, policy=email.policy.default)["Subject"] == subject


@given(st.binary(max_size=200))
def test_any_octets_become_ascii_lines_that_end_in_crlf_or_nothing(data: bytes) -> None:
    got = in_ascii(b"Subject: " + data + b"\r\nFrom: " + data + b"\r\n")
    if not data.isascii():
        assert got.isascii()
    assert got == b"" or got.endswith(b"\r\n")


@given(st.text(max_size=60))
def test_no_text_of_a_sender_makes_a_field_of_its_own(text: str) -> None:
    value = " ".join(f"ø{text}".split("\r\n"))
    for line in in_ascii(f"Subject: {value}\r\nFrom: {value}\r\n".encode("utf-8", "replace")).split(b"\r\n"):
        assert line == b"" or line.startswith((b"Subject:", b"From:", b" "))
