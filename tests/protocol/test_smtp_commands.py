"""One command line, without a session: what may be written, and what each mistake is called."""

from __future__ import annotations

import pytest

from mailserv.mail import reply
from mailserv.mail.address import NULL_REVERSE_PATH, Address
from mailserv.protocol.commands import (
    AuthLine,
    ContentBlock,
    Data,
    Ehlo,
    Helo,
    Noop,
    Quit,
    Rset,
    parse_mail,
    parse_parameters,
    parse_rcpt,
    parse_simple,
    readable,
)

SMITH = Address("smith", "example.net")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("FROM:<smith@example.net>", SMITH),
        ("from:<smith@EXAMPLE.net>", SMITH),
        ("FROM:  <smith@example.net>", SMITH),
        ("FROM:<>", NULL_REVERSE_PATH),
        ("FROM:<@a.example,@b.example:smith@example.net>", SMITH),
        ('FROM:<"s m"@[192.0.2.1]>', Address("s m", "[192.0.2.1]")),
        ("FROM:<a@[IPv6:2001:DB8::1]>", Address("a", "[IPv6:2001:db8::1]")),
    ],
)
def test_a_reverse_path_is_read(text: str, address: Address) -> None:
    assert parse_mail(text) == (address, ())


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("", reply.SYNTAX),
        ("FROM:", reply.SYNTAX),
        ("FROM :<smith@example.net>", reply.SYNTAX),
        ("TO:<smith@example.net>", reply.SYNTAX),
        ("FROM:smith@example.net", reply.SYNTAX),
        ("FROM:\u00a0<smith@example.net>", reply.SYNTAX),
        ("FROM:<smith>", reply.BAD_REVERSE_PATH),
        ("FROM:<postmaster>", reply.BAD_REVERSE_PATH),
        ("FROM:< >", reply.BAD_REVERSE_PATH),
        ("FROM:<a@[IPv6:fe80::1%a b]>", reply.BAD_REVERSE_PATH),
        ("FROM:<smith@example.net> SIZE=", reply.SYNTAX),
    ],
)
def test_a_wrong_reverse_path_is_named(text: str, refusal: reply.Reply) -> None:
    assert parse_mail(text) == refusal


def test_postmaster_is_a_forward_path_and_the_null_path_is_none() -> None:
    assert parse_rcpt("TO:<Postmaster>") == (Address("Postmaster", ""), ())
    assert parse_rcpt("TO:<>") == reply.BAD_FORWARD_PATH
    assert parse_rcpt("TO:<alice>") == reply.BAD_FORWARD_PATH
    assert parse_rcpt("FROM:<alice@example.org>") == reply.SYNTAX


def test_parameters_keep_the_case_of_their_values_and_not_of_their_keywords() -> None:
    assert parse_parameters(" size=10  Envid=QQ314159 smtputf8") == (
        ("SIZE", "10"),
        ("ENVID", "QQ314159"),
        ("SMTPUTF8", None),
    )


@pytest.mark.parametrize(
    "text", [" A=", " =1", " A=1=2", " -A=1", " A_B=1", " A=1 a=2", " A A", " É=1", " A<=1", " A\u2003B=1"]
)
def test_a_malformed_parameter_is_a_syntax_error(text: str) -> None:
    assert parse_parameters(text) == reply.SYNTAX


def test_commands_without_a_path_are_read() -> None:
    assert parse_simple(b"EHLO", "client.example.net") == Ehlo("client.example.net")
    assert parse_simple(b"HELO", "[192.0.2.1]") == Helo("[192.0.2.1]")
    assert parse_simple(b"DATA", "") == Data()
    assert parse_simple(b"RSET", "") == Rset()
    assert parse_simple(b"QUIT", "") == Quit()
    assert parse_simple(b"NOOP", "anything") == Noop()


@pytest.mark.parametrize("verb", [b"DATA", b"RSET", b"QUIT"])
def test_an_argument_where_none_may_be_is_a_syntax_error(verb: bytes) -> None:
    assert parse_simple(verb, "x") == reply.SYNTAX


@pytest.mark.parametrize("domain", ["", "a b", "a(b)", "a;b", "<a>", 'a"b', "a,b", "é", "x" * 256])
@pytest.mark.parametrize("verb", [b"EHLO", b"HELO"])
def test_what_means_something_in_a_received_field_is_no_client_name(verb: bytes, domain: str) -> None:
    assert parse_simple(verb, domain) == reply.SYNTAX


@pytest.mark.parametrize("control", [*range(0x20), 0x7F, 0x80, 0x9F, 0x2028, 0x2029])
def test_no_control_character_of_any_kind_is_readable(control: int) -> None:
    raw = f"FROM:<a{chr(control)}b@example.net>".encode()
    expected = reply.BARE_NEWLINE_IN_COMMAND if control in (0x0A, 0x0D) else reply.SYNTAX
    assert readable(raw) == expected


@pytest.mark.parametrize("raw", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xc3"])
def test_what_is_no_strict_utf8_is_unreadable(raw: bytes) -> None:
    assert readable(raw) == reply.INVALID_UTF8


def test_letters_of_any_script_and_emoji_are_readable() -> None:
    text = "FROM:<δοκιμή@παράδειγμα.δοκιμή> 👩\u200d🚀\u00a0"
    assert readable(text.encode()) == text


def test_secrets_and_content_are_not_in_a_repr() -> None:
    assert "s3cret" not in repr(AuthLine(b"s3cret")) + repr(ContentBlock(b"s3cret"))
