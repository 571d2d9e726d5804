"""From a next hop to the addresses to try, in order (RFC 5321 §5.1, RFC 7505, RFC 3974 for IPv6)."""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, zip_longest

from mailserv.errors import ResolverError
from mailserv.mail.address import literal_address
from mailserv.mail.ip import plain_ip
from mailserv.mail.outcome import Deferred, Failed
from mailserv.mail.reply import Reply
from mailserv.resolver import MxHost, Resolver

SMTP_PORT = 25
MAX_TARGETS = 5  # addresses tried for one message; RFC 5321 §5.1 asks for at least two
MAX_HOSTS = 20  # MX hosts looked up; a domain with hundreds of them must not keep a worker
LOOK_UP_TIME = 30.0  # seconds for all of them: twenty hosts in a dead zone would keep a worker for seven minutes
LOOPBACK = {4: "127.0.0.1", 6: "::1"}  # what connecting to 0.0.0.0 and :: reaches

NULL_MX = Reply(556, "5.1.10", "The domain takes no mail: null MX (RFC 7505)")
NO_SUCH_DOMAIN = Reply(550, "5.1.2", "There is no such domain in DNS")
NO_ADDRESS = Reply(550, "5.1.2", "The domain has neither MX nor address in DNS")
NO_MX_ADDRESS = Reply(550, "5.4.4", "No mail exchanger of the domain has an address in DNS")
LOOPS_BACK = Reply(554, "5.4.6", "Mail for this domain loops back to this server")
DNS_TROUBLE = Reply(451, "4.4.3", "DNS gives no answer for now")


@dataclass(frozen=True, slots=True)
class Target:
    """One address to try. `host` is the name it came from, the address itself when there was no name."""

    host: str
    ip: str
    port: int

    def __str__(self) -> str:
        return f"{self.host} [{self.ip}]:{self.port}"


def is_this_machine(ip: str) -> bool:
    """Whether the address is one of this machine's: the kernel would use it as its own source too. Sends nothing."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((ip, SMTP_PORT))
            return bool(probe.getsockname()[0] == ip)
    except OSError:
        return False  # no way there, so it is not here


@dataclass(frozen=True, slots=True)
class Ourselves:
    """By what we are known: our host name and the (ip, port) pairs we listen on.

    An ip of 0.0.0.0 or :: stands for every address of this machine, which `is_local` knows.
    """

    hostname: str
    listening: Collection[tuple[str, int]] = ()
    is_local: Callable[[str], bool] = is_this_machine

    def is_target(self, target: Target) -> bool:
        """Whether connecting there would reach this very server."""
        ip = ipaddress.ip_address(target.ip)
        if ip.is_unspecified:
            ip = ipaddress.ip_address(LOOPBACK[ip.version])
        if (str(ip), target.port) in self.listening:
            return True
        if not {("0.0.0.0", target.port), ("::", target.port)} & set(self.listening):
            return False
        return ip.is_loopback or self.is_local(str(ip))


def find_targets(
    next_hop: str,
    resolver: Resolver,
    *,
    ourselves: Ourselves,
    rng: random.Random,
    port: int = SMTP_PORT,
    monotonic: Callable[[], float] = lambda: 0.0,
) -> Sequence[Target] | Deferred | Failed:
    """Where to connect for a next hop, at most MAX_TARGETS, best first; or why there is nothing to connect to.

    `next_hop`: a domain (its MX, or its own addresses), a literal domain "[192.0.2.1]", or "[host]:port" (no MX look-up).
    `port` is for the first two. `monotonic`: a clock's, by which hosts that DNS is too slow for are left out.
    """
    if next_hop.startswith("["):
        return _find_named(next_hop, resolver, ourselves, port)
    try:
        answer = resolver.mx(next_hop)
    except ResolverError as error:
        return _trouble(error)
    if not answer.exists:
        return Failed(NO_SUCH_DOMAIN)
    if answer.is_null:
        return Failed(NULL_MX)
    hosts = [mx for mx in answer.hosts if mx.host != "."]
    if not hosts:
        return _find_implicit(next_hop, resolver, ourselves, port)
    look_up = _bounded(resolver, monotonic)
    return _find_exchangers(hosts[:MAX_HOSTS], look_up, ourselves, rng, port)


def _bounded(resolver: Resolver, monotonic: Callable[[], float]) -> Callable[[str], tuple[str, ...]]:
    """Looks up hosts until their time is over; then it has nothing but trouble."""
    ends = monotonic() + LOOK_UP_TIME

    def look_up(host: str) -> tuple[str, ...]:
        if monotonic() > ends:
            raise ResolverError(f"{host}: the look-up of its domain's hosts takes too long")
        return _addresses(host, resolver)

    return look_up


def _find_named(
    next_hop: str, resolver: Resolver, ourselves: Ourselves, port: int
) -> Sequence[Target] | Deferred | Failed:
    """ "[host]:port", or a literal domain as `Address` writes it."""
    inner, _, given = next_hop[1:].rpartition("]")
    host = literal_address(f"[{inner}]") or inner
    port = int(given[1:]) if given else port
    try:
        ips = _addresses(host, resolver)
    except ResolverError as error:
        return _trouble(error)
    targets = [Target(host, ip, port) for ip in _interleaved(ips)]
    if not targets:
        return Failed(Reply(550, "5.4.4", f"The next hop {host} has no address in DNS"))
    kept = [target for target in targets if not ourselves.is_target(target)]
    return kept[:MAX_TARGETS] or Failed(LOOPS_BACK)


def _find_implicit(
    domain: str, resolver: Resolver, ourselves: Ourselves, port: int
) -> Sequence[Target] | Deferred | Failed:
    """RFC 5321 §5.1: no MX, so the domain itself is the host, as if it had an MX of preference 0."""
    try:
        ips = _addresses(domain, resolver)
    except ResolverError as error:
        return _trouble(error)
    targets = [Target(domain, ip, port) for ip in _interleaved(ips)]
    if not targets:
        return Failed(NO_ADDRESS)
    if domain == ourselves.hostname or any(ourselves.is_target(target) for target in targets):
        return Failed(LOOPS_BACK)
    return targets[:MAX_TARGETS]


def _find_exchangers(
    hosts: Iterable[MxHost],
    look_up: Callable[[str], tuple[str, ...]],
    ourselves: Ourselves,
    rng: random.Random,
    port: int,
) -> Sequence[Target] | Deferred | Failed:
    """Groups of equal preference in order, each shuffled; from the group that holds ourselves on, nobody (§5.1)."""
    targets: list[Target] = []
    trouble: ResolverError | None = None
    for _, group in groupby(hosts, key=lambda mx: mx.preference):
        names = list(dict.fromkeys(mx.host for mx in group))
        rng.shuffle(names)
        found: list[list[Target]] = []
        for name in names:
            try:
                found.append([Target(name, ip, port) for ip in _interleaved(look_up(name))])
            except ResolverError as error:
                trouble = error
        if ourselves.hostname in names or any(map(ourselves.is_target, chain.from_iterable(found))):
            if not targets and not trouble:
                return Failed(LOOPS_BACK)
            break
        targets += chain.from_iterable(found)
        if len(targets) >= MAX_TARGETS:
            break
    if targets:
        return list(dict.fromkeys(targets))[:MAX_TARGETS]
    return _trouble(trouble) if trouble else Failed(NO_MX_ADDRESS)


def _addresses(host: str, resolver: Resolver) -> tuple[str, ...]:
    """A host's addresses; an MX that names an IP address breaks RFC 5321 §5.1 but is plain enough to be followed."""
    try:
        found: Iterable[str] = (str(ipaddress.ip_address(host)),)
    except ValueError:
        found = resolver.addresses(host)
    return tuple(dict.fromkeys(map(plain_ip, found)))  # IPv4 in IPv6 clothes is reached as what it is, and known for it


def _interleaved(ips: Iterable[str]) -> list[str]:
    """IPv6 and IPv4 by turns, IPv6 first, so that one broken family costs one try and not five."""
    by_family: dict[bool, list[str]] = {True: [], False: []}
    for ip in ips:
        by_family[":" in ip].append(ip)
    return [ip for pair in zip_longest(by_family[True], by_family[False]) for ip in pair if ip]


def _trouble(error: ResolverError) -> Deferred:
    return Deferred(Reply(DNS_TROUBLE.code, DNS_TROUBLE.enhanced, f"{DNS_TROUBLE.text} ({error})"))
