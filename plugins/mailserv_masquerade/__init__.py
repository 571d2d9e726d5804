"""Reverse-paths of hosts that only exist inside, told to the outside as addresses that bounces can reach."""

from __future__ import annotations

from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address, parse_domain, parse_mailbox
from mailserv.mail.delivery import Delivery
from mailserv.mail.domain_table import DomainTable
from mailserv.mail.plugin import Services, new_key, reading


class MasqueradeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    addresses: Annotated[
        dict[str, str], msgspec.Meta(description="reverse-path, and the address that is told in its place")
    ] = msgspec.field(default_factory=dict)
    domains: Annotated[
        dict[str, str],
        msgspec.Meta(description='domain of reverse-paths, ".internal" for each below it, and the domain to tell'),
    ] = msgspec.field(default_factory=dict)


class Plugin:
    Settings = MasqueradeSettings

    def __init__(self, settings: MasqueradeSettings, services: Services) -> None:
        self._addresses: dict[str, Address] = {}
        domains: dict[str, str] = {}
        for name, told in settings.addresses.items():
            with reading(services, f'addresses."{name}"'):
                self._addresses[new_key(parse_mailbox(name).key, self._addresses, "address")] = parse_mailbox(told)
        for name, told in settings.domains.items():
            with reading(services, f'domains."{name}"'):
                domains[name] = parse_domain(told)
        with reading(services, "domains"):
            self._domains = DomainTable(domains)

    @hookimpl
    def rewrite_sender(self, delivery: Delivery) -> Address | None:
        """An address of its own, also of the same without its tag, goes before its domain. The null one has none (RFC 5321
        §4.5.5). The tag is not told with it: whoever reads there may know no tags, and a bounce would be refused."""
        reverse_path = delivery.reverse_path
        if reverse_path.is_null:
            return None
        told = self._addresses.get(reverse_path.key) or self._addresses.get(reverse_path.without_subaddress.key)
        if told is not None:
            return told
        domain = self._domains.find(reverse_path.domain)
        return None if domain is None else Address(reverse_path.local_part, domain)
