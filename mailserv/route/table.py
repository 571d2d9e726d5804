"""The routing part of the settings, read and checked: every problem at once, nothing wrong is ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mailserv.errors import AddressSyntaxError, ConfigError
from mailserv.mail.address import Address, parse_domain, parse_mailbox
from mailserv.route.domains import Domains, NextHops
from mailserv.settings import Routed, Settings


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """What the router looks up. `aliases` and `catch_all` are keyed by `Address.key` and by domain."""

    domains: Domains
    hops: NextHops
    aliases: Mapping[str, tuple[Address, ...]]
    catch_all: Mapping[str, Address]
    postmaster: Address | None
    subaddress: str

    @classmethod
    def from_settings(cls, settings: Settings, local_ips: Iterable[str] = ()) -> RoutingTable:
        """Raises ConfigError with every problem found."""
        reader = _Reader(settings)
        table = cls(
            domains=reader.domains(local_ips),
            hops=reader.hops(),
            aliases=reader.aliases(),
            catch_all=reader.catch_all(),
            postmaster=reader.mailbox(settings.postmaster, "postmaster") if settings.postmaster else None,
            subaddress=settings.subaddress,
        )
        if reader.problems:
            raise ConfigError(reader.problems)
        return table


class _Reader:
    """Reads one Settings and gathers problems as it goes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local: frozenset[str] = frozenset()
        self.problems: list[str] = []

    def domains(self, local_ips: Iterable[str]) -> Domains:
        names = [name for name in self._settings.local_domains if self._domain(name, "local_domains")]
        hostname = self._settings.hostname
        if not self._domain(hostname, "hostname"):
            hostname = "localhost"
        made = Domains.make(hostname, names, local_ips)
        self._local = made.names
        return made

    def hops(self) -> NextHops:
        good: dict[str, str] = {}
        for key, entry in self._settings.routes.items():
            text = entry.to if isinstance(entry, Routed) else entry
            try:
                one = NextHops.make({key: text})
            except ValueError as error:
                self.problems.append(f'routes."{key}": {error}')
                continue
            # Two answers to "whose mail is it?": a domain is either served here or sent on.
            if set(one.table) & self._local:
                self.problems.append(f'routes."{key}": this is one of local_domains, its mailboxes are here')
            else:
                good[key] = text
        try:
            return NextHops.make(good)
        except ValueError as error:
            self.problems.append(f"routes: {error}")
            return NextHops.make({})

    def aliases(self) -> dict[str, tuple[Address, ...]]:
        table: dict[str, tuple[Address, ...]] = {}
        for name, targets in self._settings.aliases.items():
            where = f'aliases."{name}"'
            alias = self.mailbox(name, where)
            if alias and alias.domain not in self._local:
                self.problems.append(f"{where}: {alias.domain} is not one of local_domains")
            if alias and alias.key in table:
                self.problems.append(f"{where}: this alias is already there (case does not count)")
            if not targets:
                self.problems.append(f"{where}: an alias needs at least one address")
            found = [self.mailbox(target, where) for target in targets]
            if alias:
                table[alias.key] = tuple(address for address in found if address)
        return table

    def catch_all(self) -> dict[str, Address]:
        table: dict[str, Address] = {}
        for name, target in self._settings.catch_all.items():
            where = f'catch_all."{name}"'
            domain = self._domain(name, where)
            address = self.mailbox(target, where)
            if domain and domain not in self._local:
                self.problems.append(f"{where}: {domain} is not one of local_domains")
            if domain and address:
                table[domain] = address
        return table

    def mailbox(self, text: str, where: str) -> Address | None:
        try:
            return parse_mailbox(text)
        except AddressSyntaxError as error:
            self.problems.append(f'{where}: "{text}": {error}')
            return None

    def _domain(self, text: str, where: str) -> str | None:
        try:
            return parse_domain(text)
        except AddressSyntaxError as error:
            self.problems.append(f'{where}: "{text}": {error}')
            return None
