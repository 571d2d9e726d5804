"""Mailboxes and paths: tables from RFC 5321 §4.1.2, §4.1.3 and RFC 6531 §3.3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserv.errors import AddressSyntaxError
from mailserv.mail.address import (
    NULL_REVERSE_PATH,
    Address,
    literal_address,
    parse_domain,
    parse_mailbox,
    parse_path,
)

LONG_DOMAIN = ".".join(["d" * 60] * 4)  # 243 octets

MAILBOXES = [
    ("alice@example.org", Address("alice", "example.org")),
    ("Alice.B@Example.ORG", Address("Alice.B", "example.org")),
    ("alice+tag@example.org", Address("alice+tag", "example.org")),
    ("a!b%c#d$e&f'g*h/i=j?k^l_m`n{o|p}q~r-s@x", Address("a!b%c#d$e&f'g*h/i=j?k^l_m`n{o|p}q~r-s", "x")),
    ('"alice smith"@example.org', Address("alice smith", "example.org")),
    ('"alice"@example.org', Address("alice", "example.org")),
    (r'"a\"b\\c"@example.org', Address(r'a"b\c', "example.org")),
    (r'"\a"@example.org', Address("a", "example.org")),
    ('"bob@example.net"@example.org', Address("bob@example.net", "example.org")),
    ('"a>b"@example.org', Address("a>b", "example.org")),
    ("alice@[192.0.2.1]", Address("alice", "[192.0.2.1]")),
    ("alice@[IPv6:2001:DB8:0::1]", Address("alice", "[IPv6:2001:db8::1]")),
    ("alice@[ipv6:::1]", Address("alice", "[IPv6:::1]")),
    ("δοκιμή@παράδειγμα.gr", Address("δοκιμή", "xn--hxajbheg2az3al.gr")),
    ("alice@BÜCHER.example", Address("alice", "xn--bcher-kva.example")),
    ("alice@XN--BCHER-KVA.example", Address("alice", "xn--bcher-kva.example")),
    ("a" * 64 + "@example.org", Address("a" * 64, "example.org")),
    ("alice@under_score.example", Address("alice", "under_score.example")),
    ("alice@localhost", Address("alice", "localhost")),
    ("user@" + LONG_DOMAIN, Address("user", LONG_DOMAIN)),
]

NOT_MAILBOXES = [
    "",
    "alice",
    "@example.org",
    "alice@",
    ".alice@example.org",
    "alice.@example.org",
    "al..ice@example.org",
    "al ice@example.org",
    "alice@exa mple.org",
    "alice@example..org",
    "alice@.example.org",
    "alice@example.org.",
    "alice@-example.org",
    "alice@example-.org",
    "alice@example.org>",
    "alice@bob@example.org",
    '""@example.org',
    '"alice@example.org',
    '"al"ice"@example.org',
    'al"ice"@example.org',
    '"a\\"@example.org',
    "alice\r\n@example.org",
    "alice@example.org\r\nRCPT TO:<x>",
    "al\0ice@example.org",
    '"al\nice"@example.org',
    "al\x85ice@example.org",
    "al\u2028ice@example.org",
    '"al\x9bice"@example.org',
    "al\ud800ice@example.org",
    "a" * 65 + "@example.org",
    "é" * 33 + "@example.org",
    "alice@" + "d" * 64 + ".org",
    "alice@" + "a." * 127 + "org",
    "alice@" + "ü" * 300,
    "alice@[192.0.2]",
    "alice@[192.0.2.256]",
    "alice@[192.0.2.1",
    "alice@[192.000.002.001]",
    "alice@[2001:db8::1]",
    "alice@[IPv6:2001:db8::g]",
    "alice@[IPv6:fe80::1%eth0]",
    "alice@[tag:text]",
    "alice@[]",
    "alice@\u2488com",
]


@pytest.mark.parametrize(("text", "address"), MAILBOXES)
def test_a_mailbox_is_read(text: str, address: Address) -> None:
    assert parse_mailbox(text) == address


@pytest.mark.parametrize("text", NOT_MAILBOXES)
def test_what_is_no_mailbox_is_refused(text: str) -> None:
    with pytest.raises(AddressSyntaxError):
        parse_mailbox(text)


@pytest.mark.parametrize("address", [address for _, address in MAILBOXES])
def test_a_mailbox_written_and_read_again_is_the_same(address: Address) -> None:
    assert parse_mailbox(str(address)) == address


@given(st.text(st.characters(codec="utf-8"), max_size=70), st.sampled_from(["@example.org", "@[192.0.2.1]", ""]))
def test_any_text_is_a_mailbox_that_comes_back_or_a_syntax_error(local: str, domain: str) -> None:
    for text in (local + domain, f'"{local}"{domain}'):
        try:
            address = parse_mailbox(text)
        except AddressSyntaxError:
            continue
        assert parse_mailbox(str(address)) == address
        assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in str(address))


PATHS = [
    ("<alice@example.org>", Address("alice", "example.org"), ""),
    ("<alice@example.org> SIZE=1 BODY=8BITMIME", Address("alice", "example.org"), " SIZE=1 BODY=8BITMIME"),
    ("<>", NULL_REVERSE_PATH, ""),
    ("<> RET=HDRS", NULL_REVERSE_PATH, " RET=HDRS"),
    ("<postmaster>", Address("postmaster", ""), ""),
    ("<PostMaster> NOTIFY=NEVER", Address("PostMaster", ""), " NOTIFY=NEVER"),
    ("<@hop.example:alice@example.org>", Address("alice", "example.org"), ""),
    ("<@a.example,@b.example:alice@example.org> X=1", Address("alice", "example.org"), " X=1"),
    ("<@" + "r" * 60 + "." + "r" * 60 + ":" + "a" * 64 + "@" + "d" * 60 + "." + "d" * 60 + ".org>",
     Address("a" * 64, "d" * 60 + "." + "d" * 60 + ".org"), ""),
    ('<"a>b c"@example.org> X', Address("a>b c", "example.org"), " X"),
    ("<alice@[IPv6:2001:db8::1]>", Address("alice", "[IPv6:2001:db8::1]"), ""),
]  # fmt: skip

NOT_PATHS = [
    "",
    "alice@example.org",
    "<alice@example.org",
    "<alice>",
    "< alice@example.org>",
    "<alice@example.org >",
    "<alice@example.org>SIZE=1",
    "<>SIZE=1",
    "<<alice@example.org>>",
    "<alice@example.org>\tX",
    "<postmaster@>",
    "<@hop.example>",
    "<@hop.example:>",
    "<@hop.example,alice@example.org>",
    "<@a.example,@:alice@example.org>",
    "<alice@example.org,bob@example.org>",
    "<" + "a" * 64 + "@" + LONG_DOMAIN[:190] + ">",
    "<" + "é" * 32 + "@" + LONG_DOMAIN[:200] + ">",
]


@pytest.mark.parametrize(("text", "address", "rest"), PATHS)
def test_a_path_is_read_and_source_routes_are_ignored(text: str, address: Address, rest: str) -> None:
    assert parse_path(text) == (address, rest)


@pytest.mark.parametrize("text", NOT_PATHS)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(AddressSyntaxError):
        parse_path(text)


def test_a_path_of_256_octets_is_read_and_one_more_is_not() -> None:
    domain = ".".join(["d" * 62] * 3)
    longest = f"<{'a' * 63}@{domain}.x>"
    assert len(longest) == 256
    assert parse_path(longest)[0].domain == f"{domain}.x"
    with pytest.raises(AddressSyntaxError):
        parse_path(f"<{'a' * 63}@{domain}.xx>")


def test_a_megabyte_of_anything_is_refused_at_once() -> None:
    for text in ("<" + "a" * 1_000_000, "<@" + "a,@" * 300_000, '<"' + "\\" * 1_000_000, "<a@" + "ü" * 1_000_000 + ">"):
        with pytest.raises(AddressSyntaxError):
            parse_path(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Alice@example.org", "aLICE@EXAMPLE.org"),
        ('"alice"@example.org', "alice@example.org"),
        ("STRASSE@example.org", "straße@example.org"),
        ("jose\u0301@example.org", "JOS\u00c9@example.org"),
    ],
)
def test_addresses_of_one_local_mailbox_have_one_key(one: str, other: str) -> None:
    assert parse_mailbox(one).key == parse_mailbox(other).key


def test_the_null_reverse_path_is_null_and_postmaster_is_not() -> None:
    assert NULL_REVERSE_PATH.is_null
    assert str(NULL_REVERSE_PATH) == ""
    assert not Address("postmaster", "").is_null
    assert str(Address("postmaster", "")) == "postmaster"


def test_only_a_local_part_outside_ascii_needs_smtputf8() -> None:
    assert parse_mailbox("alice@bücher.example").is_ascii
    assert not parse_mailbox("élise@example.org").is_ascii


@pytest.mark.parametrize("text", ["", "a b", "exa\0mple", "[", "[]", "a" * 300, "\u200d", "xn--\xe9"])
def test_what_is_no_domain_is_refused(text: str) -> None:
    with pytest.raises(AddressSyntaxError):
        parse_domain(text)


def test_a_literal_gives_its_address_and_a_name_gives_none() -> None:
    assert literal_address("[192.0.2.1]") == "192.0.2.1"
    assert literal_address("[IPv6:2001:db8::1]") == "2001:db8::1"
    assert literal_address("example.org") is None
