"""TLS towards certain domains: a table that says how much of it their hosts must offer (RFC 3207, RFC 7435)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import literal_address, parse_domain
from mailserv.mail.ip import plain_ip
from mailserv.mail.plugin import Services, new_key, reading
from mailserv.mail.tls_mode import TLSMode


class TlsPolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    domains: Annotated[
        dict[str, TLSMode],
        msgspec.Meta(
            description='domain → none, opportunistic, require, verify; ".example.net" is all below it, "*" all'
        ),
    ] = {}


class Plugin:
    Settings = TlsPolicySettings

    def __init__(self, settings: TlsPolicySettings, services: Services) -> None:
        self._modes: dict[str, TLSMode] = {}
        for name, mode in settings.domains.items():
            with reading(services, f'domains."{name}"'):
                self._modes[new_key(_key(name), self._modes, "domain")] = mode

    @hookimpl
    def tls_policy(self, next_hop: str, host: str) -> TLSMode | None:
        domain = next_hop.lower()
        if domain.startswith("["):  # a smarthost of [routes], or a literal: there is no domain but the host's own
            domain = plain_ip(host.lower())
        return next((self._modes[key] for key in _keys(domain) if key in self._modes), None)


def _key(name: str) -> str:
    """As `tls_policy` looks it up. Raises ValueError."""
    if name == "*":
        return name
    dot = "." if name.startswith(".") else ""
    domain = parse_domain(name.removeprefix("."))
    literal = literal_address(domain)
    if dot and literal:
        raise ValueError("nothing is below an address")
    return plain_ip(literal) if literal else dot + domain


def _keys(domain: str) -> Iterable[str]:
    """From the most exact on: the domain, ".parent" of each parent, "*"."""
    yield domain
    parent = domain.partition(".")[2]
    while parent:
        yield f".{parent}"
        parent = parent.partition(".")[2]
    yield "*"
