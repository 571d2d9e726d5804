"""A client's IP address, as rules about clients look at it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from mailserv.mail.values import Network

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@lru_cache(maxsize=1024)  # asked several times in a session, and often the same clients come
def parse_ip(text: str) -> IPAddress:
    """The address; IPv4 in IPv6 clothes is IPv4, a zone ("%eth0") is left out. Raises ValueError."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


@lru_cache(maxsize=1024)
def network_of(ip: str, v4_bits: int, v6_bits: int) -> Network:
    """The network of that size around an address. Raises ValueError."""
    address = parse_ip(ip)
    return ipaddress.ip_network((address, v4_bits if address.version == 4 else v6_bits), strict=False)


def is_loopback(ip: str) -> bool:
    """Whether it is this machine itself. `ip` is an address that a socket gave."""
    return parse_ip(ip).is_loopback


def is_within(ip: str, networks: Iterable[Network]) -> bool:
    """Whether the address lies in one of them. Raises ValueError."""
    address = parse_ip(ip)
    return any(address in network for network in networks)


def merged(networks: Iterable[Network]) -> list[Network]:
    """The same addresses in the fewest networks: two halves are the whole."""
    every = list(networks)
    v4 = [network for network in every if isinstance(network, ipaddress.IPv4Network)]
    v6 = [network for network in every if isinstance(network, ipaddress.IPv6Network)]
    return [*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6)]


def plain_ip(ip: str) -> str:
    """An IP address in one canonical form; IPv4 in IPv6 clothes counts as IPv4. Text that is none stays as it is."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
