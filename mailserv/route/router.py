"""Where to? From a forward-path to mailboxes and next hops (RFC 5321 §3.6, §3.9, §4.5.1).

A plugin is asked first (`resolve_recipient` for any address, `expand_recipient` for one of ours). Then, for an address of
ours, the first that knows it answers, in this order:

1. an alias of exactly this address; it stands for its targets, and the reverse-path stays as it is (RFC 5321 §3.9.1)
2. an account of exactly this address
3. the same two without the subaddress: alice+tag is alice (Delivered-To keeps the tag)
4. postmaster and MAILER-DAEMON, which are never refused (RFC 5321 §4.5.1): `postmaster` of the settings, the domain's
   catch-all, postmaster of the first local domain, the alphabetically first account of the domain, then of all
5. the catch-all of the domain
6. 550 5.1.1

A target is looked up like any address, with one exception: an alias met again on the way to its own expansion is the
account of that name. So alice = [alice, bob] keeps a copy and gives bob one; a = [b], b = [a] without accounts is a loop
(550 5.4.6). A target that nobody knows is left out as long as another is left.

Local parts are opaque: user%remote@ours, remote!user@ours and "user@remote"@ours are users we do not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from mailserv.errors import PluginError
from mailserv.hooks.round import Asking
from mailserv.mail.address import NULL_REVERSE_PATH, Address, account_key, parse_mailbox
from mailserv.mail.reply import (
    ALIAS_LOOP,
    BAD_FORWARD_PATH,
    EXPANSION_TOO_BIG,
    LOCAL_ERROR,
    NO_POSTMASTER,
    UNKNOWN_USER,
    Reply,
)
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route
from mailserv.route.asking import RouteHooks
from mailserv.route.relay import may_relay
from mailserv.route.table import RoutingTable
from mailserv.settings import Settings

__all__ = ["Resolution", "Router", "may_relay"]

MAX_DEPTH = 20  # aliases within aliases; nobody nests deeper on purpose
MAX_RECIPIENTS = 1000  # of one expansion, as many as one submission may name
MAX_VISITS = 10_000  # addresses looked up for one expansion: some 10 ms
MAX_STEPS = 50  # lines of trace for one expansion
RESERVED = frozenset({"postmaster", "mailer-daemon"})  # RFC 5321 §4.5.1; the other one is in the From of our DSNs


def _no_account(_domain: str) -> str | None:
    return None


class Router:
    """Answers for every RCPT. Immutable but for what it asks; any thread. A reload makes a new one."""

    def __init__(
        self,
        table: RoutingTable,
        has_account: Callable[[str], bool],
        first_account: Callable[[str], str | None] = _no_account,
        hooks: RouteHooks | None = None,
    ) -> None:
        """`has_account` takes an `Address.key` and is fast. `first_account(domain)` is the alphabetically first account of
        a domain, of all domains for ""; asked only for a postmaster whom nobody named."""
        self.table = table
        self.has_account = has_account
        self.first_account = first_account
        self.hooks = hooks or RouteHooks()

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        has_account: Callable[[str], bool],
        *,
        first_account: Callable[[str], str | None] = _no_account,
        local_ips: Iterable[str] = (),
        hooks: RouteHooks | None = None,
    ) -> Router:
        """Raises ConfigError with every problem of the routing settings. `local_ips`: addresses of this host."""
        return cls(RoutingTable.from_settings(settings, local_ips), has_account, first_account, hooks)

    def resolve(self, address: Address, here: str = "", reverse_path: Address = NULL_REVERSE_PATH) -> Resolution:
        """As `resolving`, for a thread that waits for plugins."""
        return self.hooks.wait(self.resolving(address, here, reverse_path))

    def resolving(
        self, address: Address, here: str = "", reverse_path: Address = NULL_REVERSE_PATH
    ) -> Asking[Resolution]:
        """Where mail for `address` from `reverse_path` goes, or why it is refused. `here`: the IP address that the client
        connected to."""
        if address.is_null:
            return Resolution(refusal=BAD_FORWARD_PATH)
        walk = _Walk(self, here, reverse_path)
        known = yield from walk.visit(address, ())
        refusal = walk.refusal or (None if known else self._unknown(walk, address))
        if refusal:
            return Resolution(is_local=walk.is_local, refusal=refusal, steps=tuple(walk.steps))
        return Resolution(
            mailboxes=tuple(walk.mailboxes.items()),
            remotes=tuple(walk.remotes.items()),
            is_local=walk.is_local,
            steps=tuple(walk.steps),
        )

    def may_send_as(self, login: str, reverse_path: Address) -> Asking[bool]:
        """Whether it is the account `login` itself, or mail to it gets there: subaddresses, aliases, catch-all.

        The null reverse-path belongs to everybody (an MDN has it, RFC 8098 §3). A plugin's opinion goes before the rule;
        raises PluginError when it could not be had.
        """
        if reverse_path.is_null:
            return True
        opinion = yield from self.hooks.may_send_as(login, reverse_path)
        if opinion is not None:
            return opinion
        if reverse_path.key == login:
            return True  # also where a plugin or an alias has its mail go elsewhere
        resolution = yield from self.resolving(reverse_path)
        return any(account == login for account, _ in resolution.mailboxes)

    def _unknown(self, walk: _Walk, address: Address) -> Reply:
        if address.local_part.casefold() in RESERVED:
            return NO_POSTMASTER
        return ALIAS_LOOP if walk.looped else UNKNOWN_USER


class _Walk:
    """One expansion: gathers mailboxes, remotes and steps. `visit` answers whether anything was reached."""

    def __init__(self, router: Router, here: str, reverse_path: Address) -> None:
        self._router = router
        self._table = router.table
        self._here = here
        self._reverse_path = reverse_path
        self._visits = 0
        self.mailboxes: dict[str, Address] = {}
        self.remotes: dict[Address, Route] = {}
        self.steps: list[str] = []
        self.looped = False
        self.is_local = False  # the very address that was asked for is ours, or a plugin claims it
        self.refusal: Reply | None = None

    def visit(self, address: Address, path: tuple[str, ...]) -> Asking[bool]:
        """`path` holds the keys of the aliases that led here, and the marks of the rules that did."""
        address = self.canonical(address)
        is_ours = self.is_ours(address)
        self.is_local |= is_ours and not path
        self._visits += 1
        if not self._within_bounds(path):
            return False
        try:
            known = (yield from self._by_plugin(address, path)) if self._router.hooks.knows_recipients else None
            if known is None and not is_ours:
                known = yield from self._remote(address)
        except PluginError as error:
            self._step(str(error))
            self.refusal = LOCAL_ERROR
            return False
        return (yield from self._by_settings(address, path)) if known is None else known

    def _by_plugin(self, address: Address, path: tuple[str, ...]) -> Asking[bool | None]:
        """None: no plugin knows it, or one that stood for others did on the way here."""
        hooks = self._router.hooks
        answer = yield from hooks.resolve(address)
        if answer is not None:
            self.is_local |= not path
            return self._answered(address, answer)
        mark = f"plugin {address.key}"
        if not hooks.expands or mark in path or not self.is_ours(address):
            return None
        targets = yield from hooks.expand(address)
        if targets is None:
            return None
        self._step(f"plugin: {address} is {', '.join(map(str, targets[:10]))}{', …' if len(targets) > 10 else ''}")
        return (yield from self._visit_all(targets, (*path, mark)))

    def _answered(self, address: Address, answer: Resolution) -> bool:
        """A plugin's word is taken as it is, but for accounts: only the store knows them."""
        self.steps += [*answer.steps[: MAX_STEPS - len(self.steps)]]
        if answer.refusal:
            self._step(f"plugin refuses {address}: {answer.refusal}")
            self.refusal = answer.refusal
            return False
        known = False
        for account, reached in answer.mailboxes:
            key = account_key(account)
            if key and self._router.has_account(key):
                known |= self._mailbox(key, reached)
            else:
                self._step(f"plugin: no mailbox {account}")
        for reached, route in answer.remotes:
            self._step(f"plugin: {reached} via {route}")
            self.remotes.setdefault(reached, route)
            known |= self._counted()
        return known

    def _by_settings(self, address: Address, path: tuple[str, ...]) -> Asking[bool]:
        for name in self._names(address):
            key = name.key
            targets = self._table.aliases.get(key)
            if targets and key not in path:
                self._step(f"alias {name}: {', '.join(map(str, targets[:10]))}{', …' if len(targets) > 10 else ''}")
                known = yield from self._visit_all(targets, (*path, key))
                if not known and self._is_reserved(address):
                    known = yield from self._postmaster(address.domain, path)
                return known
            if self._router.has_account(key):
                return self._mailbox(key, address)
            self.looped |= bool(targets)
        return (yield from self._by_rule(address, path))

    def canonical(self, address: Address) -> Address:
        domain = self._table.domains.canonical(address.domain, self._here)
        return address if domain == address.domain else Address(address.local_part, domain)

    def is_ours(self, address: Address) -> bool:
        """`address` is canonical. Our hostname has no users of its own, but a postmaster, unless it is routed elsewhere."""
        domains = self._table.domains
        if address.domain in domains.names or not address.domain:
            return True
        at_hostname = address.domain == domains.hostname and address.domain not in self._table.hops.table
        return at_hostname and self._is_reserved(address)

    def _names(self, address: Address) -> Iterator[Address]:
        """The address, then the same without its subaddress."""
        yield address
        separator = self._table.subaddress
        at = address.local_part.find(separator) if separator else -1
        if at > 0:
            yield Address(address.local_part[:at], address.domain)

    def _by_rule(self, address: Address, path: tuple[str, ...]) -> Asking[bool]:
        if self._is_reserved(address):
            return (yield from self._postmaster(address.domain, path))
        mark = f"catch-all {address.domain}"
        target = self._table.catch_all.get(address.domain)
        if target and mark not in path:
            self._step(f"{mark}: {address} is {target}")
            return (yield from self.visit(target, (*path, mark)))
        self._step(f"unknown {address}")
        return False

    def _postmaster(self, domain: str, path: tuple[str, ...]) -> Asking[bool]:
        mark = "postmaster rule"
        if mark in path:
            return False
        for address in self._postmasters(domain):
            self._step(f"{mark}: {address}")
            if (yield from self.visit(address, (*path, mark))):
                return True
        return False

    def _postmasters(self, domain: str) -> Iterator[Address]:
        """Who may get postmaster's mail, in the order of the module's docstring; asked one by one."""
        yield Address("postmaster", domain)
        if self._table.postmaster:
            yield self._table.postmaster
        if domain in self._table.catch_all:
            yield self._table.catch_all[domain]
        yield Address("postmaster", self._table.domains.primary)
        for where in (domain, ""):
            account = self._router.first_account(where)
            if account:
                yield parse_mailbox(account)

    def _visit_all(self, targets: Iterable[Address], path: tuple[str, ...]) -> Asking[bool]:
        known = False
        for target in targets:
            known |= yield from self.visit(target, path)
            if self.refusal:
                return known
        return known

    def _mailbox(self, key: str, address: Address) -> bool:
        self._step(f"mailbox {key}")
        self.mailboxes.setdefault(key, address)
        return self._counted()

    def _remote(self, address: Address) -> Asking[bool]:
        usual = self._table.hops.find(address.domain)
        hop = yield from self._router.hooks.route(address, usual, self._reverse_path)
        route = self.remotes.setdefault(address, hop)
        self._step(f"route {address}: {route}")
        return self._counted()

    def _counted(self) -> bool:
        if len(self.mailboxes) + len(self.remotes) > MAX_RECIPIENTS:
            self.refusal = EXPANSION_TOO_BIG
        return True

    def _is_reserved(self, address: Address) -> bool:
        return address.local_part.casefold() in RESERVED

    def _within_bounds(self, path: tuple[str, ...]) -> bool:
        if len(path) > MAX_DEPTH:
            self.refusal = ALIAS_LOOP
        elif self._visits > MAX_VISITS:
            self.refusal = EXPANSION_TOO_BIG
        return self.refusal is None

    def _step(self, text: str) -> None:
        if len(self.steps) < MAX_STEPS:
            self.steps.append(text)
