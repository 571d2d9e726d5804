"""Which domains are ours, and which next hop the others have (RFC 5321 §2.3.5, §4.1.3; `[routes]`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mailserv.mail.address import literal_address, parse_domain
from mailserv.mail.domain_table import DomainTable
from mailserv.mail.ip import plain_ip
from mailserv.mail.route import SMTP, Route, parse_route


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
            parse_domain(hostname), frozenset(names), names[0] if names else "", frozenset(map(plain_ip, local_ips))
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
        literal = plain_ip(literal)
        return self.primary if literal in self.ips or (here and literal == plain_ip(here)) else domain


@dataclass(frozen=True, slots=True)
class NextHops:
    """`[routes]`: recipient domain → Route. `default` is the one of "*"."""

    table: DomainTable[Route]
    default: Route | None

    @classmethod
    def make(cls, routes: Mapping[str, str]) -> NextHops:
        """From settings' words. Raises AddressSyntaxError or ValueError, whose message says what is wrong."""
        entries = {key: parse_route(text) for key, text in routes.items()}
        default = entries.pop("*", None)
        return cls(DomainTable(entries), default)

    def find(self, domain: str) -> Route:
        """The most exact entry wins: the domain, its nearest ".parent", "*"; without one the domain's own MX."""
        return self.table.find(domain) or self.default or direct_route(domain)


def direct_route(domain: str) -> Route:
    """Without an entry: the MX of a domain, and the host itself of an address literal (RFC 5321 §4.1.3, §5.1)."""
    literal = literal_address(domain)
    return Route(SMTP, domain if literal is None else f"[{literal}]:25")
