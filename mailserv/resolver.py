"""Names are read only here (invariant 9): DNS over dnspython, with facts as values and trouble as ResolverError."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
import dns.reversename

from mailserv.clock import Clock, SystemClock
from mailserv.errors import ResolverError

CACHE_SIZE = 10_000  # answers; about 10 MB when full
LONGEST_TTL = 86_400  # seconds; a typing error in somebody's zone should not outlive a day
LONGEST_NEGATIVE_TTL = 900  # seconds; RFC 2308 §5 allows more, but a domain that was just set up wants its mail
TRY_TIMEOUT = 3.0  # seconds for one server, so that a second one gets its turn within the whole


@dataclass(frozen=True, slots=True)
class MxHost:
    """One MX record. `host` is lower case without the final dot, "." for the null MX."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class MxAnswer:
    """What DNS knows about a domain's mail. `exists` is False for NXDOMAIN; no hosts with `exists`: NODATA."""

    hosts: tuple[MxHost, ...]
    exists: bool = True

    @property
    def is_null(self) -> bool:
        """RFC 7505 §3: one record whose exchange is the root: the domain takes no mail."""
        return len(self.hosts) == 1 and self.hosts[0].host == "."


@dataclass(frozen=True, slots=True)
class _Records:
    """One answer in the cache: records as text or parsed, and when they go stale (monotonic seconds)."""

    texts: tuple[str, ...]
    exists: bool
    expires: float


class Resolver:
    """A caching stub resolver. Any thread.

    `nameservers` are "ip", "ip:port" or "[v6]:port"; none: the system's. `timeout`: seconds for one question, all tries
    together. Names are absolute: search domains are never used. CNAMEs are followed, truncated answers fetched by TCP.
    Every method that asks raises ResolverError for SERVFAIL, timeout and a missing server, and never for a fact.
    """

    def __init__(
        self,
        nameservers: Sequence[str] = (),
        *,
        timeout: float = 10.0,
        clock: Clock | None = None,
        cache_size: int = CACHE_SIZE,
        resolv_conf: str = "/etc/resolv.conf",
    ) -> None:
        self._nameservers = tuple(nameservers)
        self._cache_size = cache_size
        self._resolv_conf = resolv_conf
        self._timeout = timeout
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[str, str], _Records] = OrderedDict()
        self._stub: dns.resolver.Resolver | None = None
        self._made_from: _FileState | None = None  # the stub, of resolv.conf

    def use(self, nameservers: Sequence[str], timeout: float) -> None:
        """Ask these from the next question on. What others have said is forgotten: they may know other names."""
        with self._lock:
            self._nameservers = tuple(nameservers)
            self._timeout = timeout
            self._stub = None
        self.forget()

    def forget(self) -> None:
        """Ask everything anew."""
        with self._lock:
            self._cache.clear()

    def mx(self, domain: str) -> MxAnswer:
        """The domain's MX records, best (lowest) preference first, equals by name (RFC 5321 §5.1)."""
        records = self._look_up(domain, "MX")
        hosts = sorted((int(text.split()[0]), text.split()[1]) for text in records.texts)
        return MxAnswer(tuple(MxHost(preference, _bare(host)) for preference, host in hosts), records.exists)

    def addresses(self, host: str) -> tuple[str, ...]:
        """IPv6 addresses, then IPv4 ones; empty for a name without any or that is not there.

        One family's trouble is forgiven when the other has an answer.
        """
        found: list[str] = []
        trouble: ResolverError | None = None
        for rdtype in ("AAAA", "A"):
            try:
                found += self._look_up(host, rdtype).texts
            except ResolverError as error:
                trouble = error
        if trouble and not found:
            raise trouble
        return tuple(found)

    def ptr(self, ip: str) -> tuple[str, ...]:
        """The names that the address's owner claims for it; to be confirmed by `addresses` before they are trusted."""
        try:
            name = dns.reversename.from_address(ip).to_text()
        except (dns.exception.SyntaxError, ValueError):
            return ()
        return tuple(_bare(text) for text in self._look_up(name, "PTR").texts)

    def txt(self, name: str) -> tuple[str, ...]:
        """Each TXT record as one string, its parts joined without a space (RFC 7208 §3.3)."""
        return self._look_up(name, "TXT").texts

    def _look_up(self, name: str, rdtype: str) -> _Records:
        key = (name.lower().rstrip("."), rdtype)
        now = self._clock.monotonic()
        with self._lock:
            known = self._cache.get(key)
            if known and known.expires > now:
                self._cache.move_to_end(key)
                return known
        fresh = self._ask(*key, now)
        with self._lock:
            self._cache[key] = fresh
            self._cache.move_to_end(key)
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        return fresh

    def _ask(self, name: str, rdtype: str, now: float) -> _Records:
        try:
            question = dns.name.from_text(name + ".")
        except dns.exception.DNSException:  # an empty or overlong label: such a name cannot be
            return _Records((), exists=False, expires=now + LONGEST_NEGATIVE_TTL)
        try:
            answer = self._resolver().resolve(question, rdtype, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            return _Records((), exists=False, expires=now + _negative_ttl(error.response(question)))  # type: ignore[no-untyped-call]
        except (dns.exception.DNSException, OSError) as error:
            raise ResolverError(f"{rdtype} of {name}: {_reason(error)}") from error
        if answer.rrset is None:
            return _Records((), exists=True, expires=now + _negative_ttl(answer.response))
        texts = tuple(_text(record, rdtype) for record in answer.rrset)
        return _Records(texts, exists=True, expires=now + min(answer.chaining_result.minimum_ttl, LONGEST_TTL))

    def _resolver(self) -> dns.resolver.Resolver:
        """Made at the first question, so that a machine without /etc/resolv.conf fails there, as temporary trouble; and anew
        when that file has changed: in another network there are other name servers."""
        with self._lock:
            read = None if self._nameservers else _state_of(self._resolv_conf)
            if self._stub is None:
                self._stub, self._made_from = self._made(), read
            elif read is not None and read != self._made_from:
                with suppress(dns.resolver.NoResolverConfiguration):  # it is being written, most likely
                    self._stub, self._made_from = self._made(), read
            return self._stub

    def _made(self) -> dns.resolver.Resolver:
        stub = dns.resolver.Resolver(self._resolv_conf, configure=not self._nameservers)
        if self._nameservers:
            stub.nameservers = [_server(text) for text in self._nameservers]
        stub.lifetime = self._timeout
        stub.timeout = min(TRY_TIMEOUT, self._timeout)
        return stub


_FileState = tuple[int, int, int]


def _state_of(path: str) -> _FileState | None:
    """Another one when the file was written or replaced; None while it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _server(text: str) -> dns.nameserver.Nameserver:
    """ "192.0.2.1", "2001:db8::1", "192.0.2.1:5353" or "[2001:db8::1]:5353"."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        return dns.nameserver.Do53Nameserver(address, int(port.removeprefix(":") or 53))
    if text.count(":") == 1:
        address, _, port = text.partition(":")
        return dns.nameserver.Do53Nameserver(address, int(port))
    return dns.nameserver.Do53Nameserver(text)


def _text(record: dns.rdata.Rdata, rdtype: str) -> str:
    if rdtype == "TXT":
        return b"".join(record.strings).decode("utf-8", "replace")  # type: ignore[attr-defined]
    return record.to_text()


def _bare(host: str) -> str:
    return host.lower() if host == "." else host.lower().rstrip(".")


def _negative_ttl(response: dns.message.Message) -> int:
    """RFC 2308 §5: the SOA's minimum, within our bound."""
    assert isinstance(response, dns.message.QueryMessage)
    return min(response.resolve_chaining().minimum_ttl, LONGEST_NEGATIVE_TTL)


def _reason(error: Exception) -> str:
    """Short words for a person; dnspython's own text lists every try."""
    match error:
        case dns.resolver.LifetimeTimeout():
            return "no answer in time"
        case dns.resolver.NoNameservers():
            return "the name servers failed (SERVFAIL, REFUSED or unreachable)"
        case dns.resolver.NoResolverConfiguration():
            return "no name server is configured"
        case _:
            return type(error).__name__
