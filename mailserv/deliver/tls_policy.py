"""STARTTLS and AUTH towards a next hop: what is demanded, what is good enough (RFC 3207, RFC 7435, RFC 4954)."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mailserv.errors import ConfigError
from mailserv.mail.route import Route
from mailserv.mail.tls_mode import TLSMode
from mailserv.mail.value import Private
from mailserv.protocol.smtp_client import Login, TLSWish
from mailserv.settings import Routed


class HopPolicy(Private, frozen=True):
    """How to speak with one next hop.

    `tls`: "none"; "opportunistic" (any certificate will do, and plain text where TLS fails: better than plain text always,
    RFC 7435); "require" (any certificate, but no plain text); "verify" (the certificate proves the host's name).
    With a `user` the password goes over TLS only, unless the host is this machine.
    """

    tls: TLSMode = "opportunistic"
    user: str = ""
    password: str = ""

    def wish(self, *, is_loopback: bool) -> TLSWish:
        """A login makes "opportunistic" into "require", except on loopback."""
        match self.tls:
            case "none":
                return TLSWish.NEVER
            case "opportunistic" if is_loopback or not self.user:
                return TLSWish.IF_OFFERED
            case _:
                return TLSWish.ALWAYS

    def login(self, *, is_loopback: bool) -> Login | None:
        """The credentials, None without any."""
        return Login(self.user, self.password, needs_tls=not is_loopback) if self.user else None


def hop_policies(routed: Iterable[tuple[Route, Routed]]) -> dict[str, HopPolicy]:
    """The long entries of `[routes]` as policies by next hop, which is what the queue groups by.

    Raises ConfigError when two entries treat one next hop differently: their mail shares its connections.
    """
    policies: dict[str, HopPolicy] = {}
    problems = []
    for route, entry in routed:
        policy = HopPolicy(entry.tls, entry.user, str(entry.password))
        if policies.setdefault(route.next_hop, policy) != policy:
            problems.append(f'routes: two entries name "{entry.to}" with different tls, user or password')
    if problems:
        raise ConfigError(sorted(set(problems)))
    return policies


@dataclass(frozen=True, slots=True)
class ClientContexts:
    """The two TLS contexts of the SMTP client; both demand TLS 1.2 (RFC 8996). Any thread."""

    unverified: ssl.SSLContext
    verified: ssl.SSLContext

    @classmethod
    def make(cls, ca_file: str | None = None) -> ClientContexts:
        """`ca_file`: PEM of the authorities to trust; None: the system's. Raises OSError for a file that can't be used."""
        unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        verified = ssl.create_default_context(cafile=ca_file)
        for context in (unverified, verified):
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        return cls(unverified, verified)

    def choose(self, policy: HopPolicy) -> ssl.SSLContext:
        return self.verified if policy.tls == "verify" else self.unverified


def policy_for(policies: Mapping[str, HopPolicy], next_hop: str) -> HopPolicy:
    """The policy of a next hop; opportunistic without an entry."""
    return policies.get(next_hop, HopPolicy())
