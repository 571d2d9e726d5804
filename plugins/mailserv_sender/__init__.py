"""Is the reverse-path's domain there, and does it take mail? If not, no reply and no bounce could ever reach the sender."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import literal_address, parse_domain
from mailserv.mail.envelope import Envelope
from mailserv.mail.ip import is_within, parse_ip
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Names, ResolverError, Services, reading
from mailserv.mail.values import Duration, Network
from mailserv.mail.verdict import Verdict, reject, tempfail

WORKERS = 32  # domains at once; when a dead name server holds them all, others wait their time and come again
MOST_HOSTS = 20  # MX hosts that are looked at, as many as a bounce of ours would try: one that can be reached is enough


class SenderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    refuse_private: Annotated[
        bool,
        msgspec.Meta(description="refuse a domain whose mail hosts all have loopback, private or reserved addresses"),
    ] = True
    networks: Annotated[tuple[Network, ...], msgspec.Meta(description="clients whose senders are not looked at")] = ()
    domains: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="senders' domains that are not looked at: those that only exist inside"),
    ] = ()
    time_limit: Annotated[
        Duration, msgspec.Meta(description="a domain without an answer then is a 451; less than the plugin's budget")
    ] = Duration(8)


class Plugin:
    Settings = SenderSettings

    def __init__(self, settings: SenderSettings, services: Services) -> None:
        self._settings = settings
        with reading(services, "domains"):
            self._domains = frozenset(map(parse_domain, settings.domains))
        with reading(services, "time_limit"):
            if not settings.time_limit:
                raise ValueError("must be longer than nothing: every stranger would be told to come again")
        self._dns = services.dns
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="sender")
        self._monotonic = services.monotonic
        self._log = services.log

    @hookimpl
    def smtp_mail(self, peer: Peer, envelope: Envelope) -> Verdict | None:
        domain = envelope.reverse_path.domain
        if not domain or domain in self._domains or not peer.is_stranger:
            return None  # a bounce has no sender (RFC 5321 §4.5.5)
        if is_within(peer.ip, self._settings.networks):
            return None
        verdict = self._examine(domain)
        if verdict is not None:
            log = self._log.bind(session=peer.session_id, ip=peer.ip)
            log.info("sender_refused", domain=domain, reply=str(verdict.reply), why=verdict.reason)
        return verdict

    @hookimpl
    def shutdown(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _examine(self, domain: str) -> Verdict | None:
        limit = self._settings.time_limit
        ends = self._monotonic() + limit
        look_up = _LookUp(self._dns, lambda: self._monotonic() >= ends)
        question = self._pool.submit(look_up.mail_addresses, domain)
        try:
            addresses = question.result(limit)
        except TimeoutError:
            question.cancel()
            return _later(domain, f"{domain}: no answer within {limit:g} s")
        except ResolverError as error:
            return _later(domain, str(error))
        if isinstance(addresses, Verdict):
            return addresses
        if not addresses:
            return reject(f"Sender domain {domain} has no mail host with an address", enhanced="5.1.8")
        if self._settings.refuse_private and not any(map(_is_public, addresses)):
            reason = f"{domain}: {', '.join(addresses[:5])}"
            return reject(f"Sender domain {domain} takes mail at unreachable addresses only", reason=reason)
        return None


def _later(domain: str, reason: str) -> Verdict:
    return tempfail(f"Sender domain {domain} cannot be looked up now", enhanced="4.4.3", reason=reason)


class _LookUp:
    """The questions about one domain."""

    def __init__(self, dns: Names, is_over: Callable[[], bool]) -> None:
        self._dns = dns
        self._is_over = is_over

    def mail_addresses(self, domain: str) -> tuple[str, ...] | Verdict:
        """Where the domain takes mail: () when nowhere; as soon as one is public, no other is looked for.

        Raises ResolverError when there is trouble and no public one was found, or the time is over.
        """
        literal = literal_address(domain)
        if literal is not None:
            return (literal,)
        answer = self._dns.mx(domain)
        if not answer.exists:
            return reject(f"Sender domain {domain} does not exist", enhanced="5.1.8")
        if answer.is_null:
            return reject(f"Sender domain {domain} takes no mail (null MX, RFC 7505)", enhanced="5.7.27")
        hosts = [mx.host for mx in answer.hosts if mx.host != "."] if answer.hosts else [domain]  # RFC 5321 §5.1
        return self._addresses(hosts[:MOST_HOSTS])

    def _addresses(self, hosts: Sequence[str]) -> tuple[str, ...]:
        found: list[str] = []
        trouble: ResolverError | None = None
        for host in hosts:
            if self._is_over():
                raise trouble or ResolverError(f"addresses of {host}: the time limit is over")
            try:
                found += self._addresses_of(host)
            except ResolverError as error:
                trouble = error
            if any(map(_is_public, found)):
                return tuple(found)
        if trouble is not None:
            raise trouble
        return tuple(found)

    def _addresses_of(self, host: str) -> Sequence[str]:
        """An MX that names an IP address breaks RFC 5321 §5.1, but our mail goes there all the same."""
        try:
            return (str(parse_ip(host)),)
        except ValueError:
            return self._dns.addresses(host)


def _is_public(text: str) -> bool:
    """An address that the whole Internet could reach: no loopback, private, link-local, reserved or multicast one."""
    address = parse_ip(text)
    return address.is_global and not address.is_multicast
