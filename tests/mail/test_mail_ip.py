"""A client's address, as rules look at it: mapped IPv4 is IPv4, networks have a size for each family."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from mailserv.mail.ip import is_within, network_of, parse_ip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_is_read_in_its_plain_form(text: str, expected: str) -> None:
    assert str(parse_ip(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("192.0.2.77", "192.0.2.0/24"), ("::ffff:192.0.2.77", "192.0.2.0/24"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64")],
)
def test_a_network_has_the_size_of_its_family(text: str, expected: str) -> None:
    assert str(network_of(text, 24, 64)) == expected


def test_an_address_is_within_a_network_of_its_own_family_only() -> None:
    networks = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    assert is_within("::ffff:192.0.2.1", networks)
    assert is_within("2001:db8:7::1", networks)
    assert not is_within("198.51.100.1", networks)
    assert not is_within("192.0.2.1", ())


def test_what_is_no_address_is_an_error() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        parse_ip("nonsense")
