"""Delivery to a server that speaks LMTP (RFC 2033), such as Dovecot's or Cyrus's, over a Unix socket or TCP."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address, parse_domain
from mailserv.mail.delivery import Attempt, Delivery, Transport
from mailserv.mail.outcome import Deferred, Delivered, Failed, Outcome
from mailserv.mail.plugin import ResolverError, Services, reading
from mailserv.mail.reply import LOCAL_ERROR, Reply, Severity
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route
from mailserv.mail.smtp_reply import ProtocolError
from mailserv.mail.values import Duration
from mailserv_lmtp.place import Place
from mailserv_lmtp.session import ServerClosed, Session, Told, Waits

ASKING = 3.0  # seconds for each step of the question whether a recipient is known; a client waits for it


class LmtpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    to: Annotated[
        str,
        msgspec.Meta(
            description='"unix:/path", "[address]:port" or "name:port"; where a route that says only "lmtp:" leads'
        ),
    ] = "unix:/run/dovecot/lmtp"
    domains: Annotated[
        tuple[str, ...],
        msgspec.Meta(
            description="of `local_domains`: whomever the server at `to` knows there gets the mail by it, from anybody"
        ),
    ] = ()
    connect_timeout: Annotated[Duration, msgspec.Meta(description="to wait for a connection")] = Duration(30)
    command_timeout: Annotated[Duration, msgspec.Meta(description="to wait for the answer to a command")] = Duration(
        300
    )
    dot_timeout: Annotated[
        Duration, msgspec.Meta(description="to wait for each answer after the content; shorter makes duplicates")
    ] = Duration(600)


class LmtpTransport:
    """Named "lmtp": the next hop is "" (the setting `to`) or a place of the same kind. Any number of threads."""

    def __init__(self, settings: LmtpSettings, services: Services) -> None:
        self._default = settings.to
        self._services = services
        self._waits = Waits(settings.connect_timeout, settings.command_timeout, settings.dot_timeout)
        self._asking = Waits(ASKING, ASKING, ASKING)
        with reading(services, "domains"):
            self._domains = frozenset(map(parse_domain, settings.domains))
        with reading(services, "to"):
            Place.parse(settings.to)

    def deliver(self, deliveries: Iterable[Delivery]) -> Iterator[Attempt]:
        """See `Transport.deliver`. One connection for all of them; it stops when that is lost or can't be had."""
        batch = _Batch(self._services, self._waits)
        try:
            for delivery in deliveries:
                told = Told([None] * len(delivery.rows))
                going_on = batch.carry(self._place(delivery, told), delivery, told)
                yield Attempt(delivery, tuple(_outcomes(told, batch.remote)))
                if not going_on:
                    return
        finally:
            batch.end()

    def close(self) -> None:
        """See `Transport.close`. Nothing is kept."""

    def resolve(self, address: Address) -> Resolution | None:
        """Here, if the server takes the recipient; it is asked each time, over a connection of its own. Any thread.

        What it does not know (5.1.x) others may: an alias, an account. Any other refusal of it is ours.
        """
        if address.domain not in self._domains:
            return None
        batch = _Batch(self._services, self._asking)
        try:
            reply = batch.ask(Place.parse(self._default), address)
        finally:
            batch.end()
        if reply.severity is Severity.PERMANENT:
            return None if reply.enhanced.startswith("5.1.") or reply.enhanced == "5.0.0" else Resolution(refusal=reply)
        if reply.enhanced.startswith("4.4."):
            return Resolution(refusal=LOCAL_ERROR)  # nobody can say now whether there is such a user
        return Resolution(remotes=((address, Route("lmtp", "")),), is_local=True)

    def _place(self, delivery: Delivery, told: Told) -> Place | None:
        try:
            return Place.parse(delivery.route.next_hop or self._default)
        except ValueError as error:
            self._services.log.warning("lmtp_no_place", queue_id=delivery.queue_id, error=str(error))
            told.rest(Reply(451, "4.3.5", "The next hop of this recipient is not set up correctly"))
            return None


class _Batch:
    """The session of one call of `deliver`."""

    def __init__(self, services: Services, waits: Waits) -> None:
        self._services = services
        self._waits = waits
        self._session: Session | None = None
        self.remote = ""

    def carry(self, place: Place | None, delivery: Delivery, told: Told) -> bool:
        """Send one message, over a new connection when an old one turns out to be gone. Whether another may follow."""
        if place is None:
            return False
        self.remote = str(place)
        while True:
            is_new = self._session is None
            try:
                refusal = self._open(place)
                if refusal is None and self._session:
                    self._session.carry(delivery, told)
                    if not self._session.in_order:
                        self.end()  # it may answer once more, and that would be taken for the next message's
                    return True
                told.rest(_for_now(refusal), is_ours=True)
            except ServerClosed as closed:
                if not is_new and not told.dot_sent:
                    self._again(told)  # it had carried enough
                    continue
                told.rest(closed.reply)
            except (OSError, ProtocolError, ResolverError) as error:
                if not is_new and not told.dot_sent and not isinstance(error, TimeoutError):
                    self._again(told)
                    continue
                served = self._session is not None and self._session.carried > 0
                told.rest(_describe(error, served=served), is_ours=True)
            self.end()
            return False

    def ask(self, place: Place, address: Address) -> Reply:
        """What the server says to RCPT, or 4.4.x for one that says nothing."""
        try:
            refusal = self._open(place)
            if refusal is None and self._session:
                return self._session.ask_about(address)
            return _for_now(refusal)
        except ServerClosed as closed:
            return _for_now(closed.reply)
        except (OSError, ProtocolError, ResolverError) as error:
            return _describe(error, served=False)

    def end(self) -> None:
        """Leave the server. Idempotent."""
        if self._session:
            self._session.end()
            self._session = None

    def _open(self, place: Place) -> Reply | None:
        if self._session:
            return None
        self._session = Session(place.connect(self._waits.connect, self._services.dns), self._waits)
        return self._session.open(self._services.hostname)

    def _again(self, told: Told) -> None:
        self.end()
        told.forget()


def _outcomes(told: Told, remote: str) -> Iterator[Outcome]:
    for index, reply in enumerate(told.replies):
        assert reply is not None, "whoever has no answer gets that of the failure"
        if reply.is_positive:
            yield Delivered(reply, remote)
        else:
            kind = Failed if reply.severity is Severity.PERMANENT else Deferred
            yield kind(reply, remote, index in told.ours)


def _for_now(refusal: Reply | None) -> Reply:
    """A server that wants no session at all: our mail waits, whatever it says. 4.4.1: nothing goes there now."""
    return Reply(451, "4.4.1", f"The LMTP server said: {refusal}")


def _describe(error: Exception, *, served: bool) -> Reply:
    """Nothing of this machine's insides is in it, for DSNs carry it to senders. 4.4.1: nothing goes there now."""
    if isinstance(error, ProtocolError):
        return Reply(451, "4.5.0" if served else "4.4.1", f"The LMTP server broke the protocol: {error}")
    if isinstance(error, ResolverError):
        return Reply(451, "4.4.3", "The name of the LMTP server cannot be looked up now")
    if isinstance(error, TimeoutError):
        words = "no answer in time"
    else:
        words = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__
    if served:
        return Reply(451, "4.4.2", f"The LMTP session was lost: {words}")
    return Reply(451, "4.4.1", f"No connection to the LMTP server: {words}")


class Plugin:
    Settings = LmtpSettings

    def __init__(self, settings: LmtpSettings, services: Services) -> None:
        self._transport = LmtpTransport(settings, services)

    @hookimpl
    def resolve_recipient(self, address: Address) -> Resolution | None:
        return self._transport.resolve(address)

    @hookimpl
    def register_transports(self) -> Iterable[tuple[str, Transport]]:
        return [("lmtp", self._transport)]
