"""Local domains, address literals of this host, and the next hops of `[routes]`."""

from __future__ import annotations

import pytest

from mailserv.errors import AddressSyntaxError
from mailserv.mail.route import Route, parse_route
from mailserv.route.domains import Domains, NextHops, direct_route

DOMAINS = Domains.make("Mail.Example.ORG", ["Example.org", "bücher.example"], ["192.0.2.1", "2001:DB8:0::1"])


def test_domains_are_canonical_and_the_first_is_primary() -> None:
    assert DOMAINS.hostname == "mail.example.org"
    assert DOMAINS.names == {"example.org", "xn--bcher-kva.example"}
    assert DOMAINS.primary == "example.org"


def test_a_server_without_local_domains_has_no_primary() -> None:
    assert Domains.make("mx.example", []).primary == ""


def test_what_is_no_domain_is_refused() -> None:
    with pytest.raises(AddressSyntaxError):
        Domains.make("mx.example", ["not a domain"])


@pytest.mark.parametrize(
    ("domain", "here", "canonical"),
    [
        ("example.org", "", "example.org"),
        ("example.net", "", "example.net"),
        ("", "", "example.org"),
        ("[192.0.2.1]", "", "example.org"),
        ("[IPv6:2001:db8::1]", "", "example.org"),
        ("[IPv6:::ffff:192.0.2.1]", "", "example.org"),
        ("[192.0.2.2]", "", "[192.0.2.2]"),
        ("[192.0.2.2]", "192.0.2.2", "example.org"),
        ("[192.0.2.2]", "::ffff:192.0.2.2", "example.org"),
        ("[192.0.2.2]", "192.0.2.3", "[192.0.2.2]"),
        ("[192.0.2.2]", "no address", "[192.0.2.2]"),
    ],
)
def test_our_literals_and_no_domain_stand_for_the_primary_domain(domain: str, here: str, canonical: str) -> None:
    assert DOMAINS.canonical(domain, here) == canonical


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("smtp:[127.0.0.1]:2526", Route("smtp", "[127.0.0.1]:2526")),
        ("smtp:[127.0.0.1]", Route("smtp", "[127.0.0.1]:25")),
        ("smtp:[Relay.Example.NET]:587", Route("smtp", "[relay.example.net]:587")),
        ("smtp:[::1]:2525", Route("smtp", "[::1]:2525")),
        ("smtp:[IPv6:2001:DB8::1]:25", Route("smtp", "[2001:db8::1]:25")),
        ("smtp:Example.net", Route("smtp", "example.net")),
        ("lmtp:/run/dovecot/lmtp", Route("lmtp", "/run/dovecot/lmtp")),
        ("pipe:", Route("pipe", "")),
    ],
)
def test_a_route_is_read(text: str, route: Route) -> None:
    assert parse_route(text) == route


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.net",
        "smtp",
        "smtp:",
        ":x",
        "sm tp:x",
        "smtp:example.net:587",
        "smtp:[127.0.0.1]:0",
        "smtp:[127.0.0.1]:65536",
        "smtp:[127.0.0.1]:",
        "smtp:[127.0.0.1",
        "smtp:[]:25",
        "smtp:[a b]:25",
        "smtp:exa mple",
        "mailbox:alice@example.org",
    ],
)
def test_what_is_no_route_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r"route|smtp|local_domains"):
        parse_route(text)


def test_a_domain_with_a_port_is_told_how_to_write_it() -> None:
    with pytest.raises(ValueError, match=r"smtp:\[host\]:port"):
        parse_route("smtp:relay.example.net:587")


HOPS = NextHops.make(
    {
        "example.net": "smtp:[192.0.2.10]:25",
        ".example.net": "smtp:[192.0.2.11]:25",
        ".deep.example.net": "smtp:[192.0.2.12]:25",
        "[192.0.2.99]": "smtp:[192.0.2.13]:25",
        "*": "smtp:[smart.example]:587",
    }
)


@pytest.mark.parametrize(
    ("domain", "next_hop"),
    [
        ("example.net", "[192.0.2.10]:25"),
        ("a.example.net", "[192.0.2.11]:25"),
        ("b.a.example.net", "[192.0.2.11]:25"),
        ("deep.example.net", "[192.0.2.11]:25"),
        ("x.deep.example.net", "[192.0.2.12]:25"),
        ("badexample.net", "[smart.example]:587"),
        ("[192.0.2.99]", "[192.0.2.13]:25"),
        ("[192.0.2.1]", "[smart.example]:587"),
    ],
)
def test_the_most_exact_entry_wins(domain: str, next_hop: str) -> None:
    assert HOPS.find(domain) == Route("smtp", next_hop)


def test_without_an_entry_mail_goes_to_the_mx_or_to_the_literal_itself() -> None:
    none = NextHops.make({})
    assert none.find("example.com") == Route("smtp", "example.com")
    assert none.find("[192.0.2.1]") == direct_route("[192.0.2.1]") == Route("smtp", "[192.0.2.1]:25")
    assert none.find("[IPv6:2001:db8::1]") == Route("smtp", "[2001:db8::1]:25")


def test_two_entries_for_one_domain_are_refused() -> None:
    with pytest.raises(ValueError, match="same domain"):
        NextHops.make({"example.net": "smtp:a.example", "Example.NET": "smtp:b.example"})
