"""The way out by who sends: a smarthost of its own for one address or domain of reverse-paths."""

from __future__ import annotations

from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address, parse_mailbox
from mailserv.mail.domain_table import DomainTable
from mailserv.mail.plugin import Services, new_key, reading
from mailserv.mail.route import Route, parse_route


class SenderRouteSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    addresses: Annotated[
        dict[str, str], msgspec.Meta(description="reverse-path, and the way out, written as in `[routes]`")
    ] = msgspec.field(default_factory=dict)
    domains: Annotated[
        dict[str, str],
        msgspec.Meta(description='domain of reverse-paths, ".example" for each below it, and the way out'),
    ] = msgspec.field(default_factory=dict)
    keep: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="recipients' domains that keep their way, whoever sends: those of your own network"),
    ] = ()


class Plugin:
    Settings = SenderRouteSettings

    def __init__(self, settings: SenderRouteSettings, services: Services) -> None:
        self._addresses: dict[str, Route] = {}
        for name, text in settings.addresses.items():
            with reading(services, f'addresses."{name}"'):
                self._addresses[new_key(parse_mailbox(name).key, self._addresses, "address")] = parse_route(text)
        routes: dict[str, Route] = {}
        for name, text in settings.domains.items():
            with reading(services, f'domains."{name}"'):
                routes[name] = parse_route(text)
        with reading(services, "domains"):
            self._domains = DomainTable(routes)
        with reading(services, "keep"):
            self._keep = DomainTable(dict.fromkeys(settings.keep, True))

    @hookimpl
    def route_delivery(self, address: Address, route: Route, reverse_path: Address) -> Route | None:
        """The null reverse-path is nobody's: what it carries takes the usual way."""
        if reverse_path.is_null or self._keep.find(address.domain):
            return None
        own = self._addresses.get(reverse_path.key) or self._addresses.get(reverse_path.without_subaddress.key)
        return own or self._domains.find(reverse_path.domain)
