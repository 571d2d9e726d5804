"""Which domains are ours, and which next hop the others have (RFC 5321 §2.3.5, §4.1.3; `[routes]`)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mailserv.errors import AddressSyntaxError
from mailserv.mail.address import literal_address, parse_domain
from mailserv.mail.route import MAILBOX, SMTP, Route

_HOST_AND_PORT = re.compile(r"\[([^\[\]]+)\](?::(\d{1,5}))?")
_TRANSPORT = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Domains:
    """Our domains. `names` are canonical (lower case, A-labels), `primary` the first of them ("" if there is none).

    `hostname` is our own name: only postmaster and MAILER-DAEMON are reached there, unless `names` has it too.
    `ips` are addresses of this host in canonical text: mail for user@[ip] is mail for user@primary.
    """

    hostname: str
    names: frozenset[str]
    primary: str
    ips: frozenset[str] = frozenset()

    @classmethod
    def make(cls, hostname: str, local_domains: Iterable[str], local_ips: Iterable[str] = ()) -> Domains:
        """From settings' words. Raises AddressSyntaxError for what is no domain."""
        names = [parse_domain(name) for name in local_domains]
        return cls(
            parse_domain(hostname), frozenset(names), names[0] if names else "", frozenset(map(_plain, local_ips))
        )

    def canonical(self, domain: str, here: str = "") -> str:
        """The local domain that `domain` stands for; `domain` itself when it is not one of ours by another name.

        No domain at all (<postmaster>) and our own address literals stand for the primary domain. `here` is the address
        that the client connected to: whoever listens on 0.0.0.0 does not know its addresses beforehand.
        """
        if not domain:
            return self.primary
        literal = literal_address(domain)
        if literal is None:
            return domain
        literal = _plain(literal)
        return self.primary if literal in self.ips or (here and literal == _plain(here)) else domain


def _plain(ip: str) -> str:
    """An IP address in one canonical form; IPv4 in IPv6 clothes counts as IPv4. Text that is none stays as it is."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


@dataclass(frozen=True, slots=True)
class NextHops:
    """`[routes]`: recipient domain → Route. `suffixes` are the keys with a leading dot, `default` the one of "*"."""

    exact: Mapping[str, Route]
    suffixes: Mapping[str, Route]
    default: Route | None

    @classmethod
    def make(cls, routes: Mapping[str, str]) -> NextHops:
        """From settings' words. Raises AddressSyntaxError or ValueError, whose message says what is wrong."""
        table = {_canonical_key(key): parse_route(text) for key, text in routes.items()}
        if len(table) < len(routes):
            raise ValueError("two entries name the same domain")
        default = table.pop("*", None)
        suffixes = {key: route for key, route in table.items() if key.startswith(".")}
        return cls({key: route for key, route in table.items() if key not in suffixes}, suffixes, default)

    def find(self, domain: str) -> Route:
        """The most exact entry wins: the domain, its nearest ".parent", "*"; without one the domain's own MX."""
        if domain in self.exact:
            return self.exact[domain]
        if self.suffixes and not domain.startswith("["):
            labels = domain.split(".")
            for start in range(1, len(labels)):
                suffix = "." + ".".join(labels[start:])
                if suffix in self.suffixes:
                    return self.suffixes[suffix]
        return self.default or direct_route(domain)


def direct_route(domain: str) -> Route:
    """Without an entry: the MX of a domain, and the host itself of an address literal (RFC 5321 §4.1.3, §5.1)."""
    literal = literal_address(domain)
    return Route(SMTP, domain if literal is None else f"[{literal}]:25")


def parse_route(text: str) -> Route:
    """Read "smtp:[host]:port", "smtp:domain" or "transport:next_hop". Raises ValueError, which says what is wrong."""
    transport, colon, next_hop = text.partition(":")
    if not colon or not _TRANSPORT.fullmatch(transport):
        raise ValueError(
            f'"{text}" is no route; it looks like "smtp:[host]:port", "smtp:domain" or "transport:next_hop"'
        )
    if transport == MAILBOX:
        raise ValueError(f'"{text}": mailboxes are reached by local_domains, not by a route')
    if transport != SMTP:
        return Route(transport, next_hop)
    if not next_hop.startswith("["):
        return Route(SMTP, _domain(next_hop, text))
    host = _HOST_AND_PORT.fullmatch(next_hop)
    if not host or not 0 < int(host.group(2) or 25) < 65536:
        raise ValueError(f'"{text}": a host without MX look-up is written "smtp:[host]:port"')
    return Route(SMTP, f"[{_host(host.group(1), text)}]:{int(host.group(2) or 25)}")


def _host(name: str, text: str) -> str:
    name = name[5:] if name[:5].lower() == "ipv6:" else name
    return _plain(name) if ":" in name else _domain(name, text)


def _domain(name: str, text: str) -> str:
    try:
        return parse_domain(name)
    except AddressSyntaxError as error:
        hint = '; with a port it is written "smtp:[host]:port"' if ":" in name else ""
        raise ValueError(f'"{text}": {error}{hint}') from error


def _canonical_key(key: str) -> str:
    if key == "*":
        return key
    return "." + parse_domain(key[1:]) if key.startswith(".") else parse_domain(key)
