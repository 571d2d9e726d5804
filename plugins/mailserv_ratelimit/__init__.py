"""How much a client, a login or a sender's domain may send in an hour and in a day, counted over restarts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address
from mailserv.mail.envelope import Envelope
from mailserv.mail.ip import is_within, network_of
from mailserv.mail.message import Content
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services
from mailserv.mail.values import Network, Size
from mailserv.mail.verdict import Verdict, tempfail
from mailserv_ratelimit.limit import BYTES, MESSAGES, RECIPIENTS, Count, Limit

_V4_BITS, _V6_BITS = 32, 64  # whoever has a /64 has all of its addresses


class Amounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    messages_per_hour: Annotated[int, msgspec.Meta(ge=0, description="0: no limit, here and below")] = 0
    messages_per_day: Annotated[int, msgspec.Meta(ge=0, description="messages accepted from midnight on, UTC")] = 0
    recipients_per_hour: Annotated[int, msgspec.Meta(ge=0, description="recipients of these messages")] = 0
    recipients_per_day: Annotated[int, msgspec.Meta(ge=0, description="the same in a day")] = 0
    bytes_per_hour: Annotated[Size, msgspec.Meta(description="size of these messages; each counts once")] = Size(0)
    bytes_per_day: Annotated[Size, msgspec.Meta(description="the same in a day")] = Size(0)


class RatelimitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    client: Annotated[Amounts, msgspec.Meta(description="one client without a login: an IPv4 address, an IPv6 /64")] = (
        Amounts()
    )
    login: Annotated[Amounts, msgspec.Meta(description="one account that has logged in, wherever it is")] = Amounts()
    sender_domain: Annotated[Amounts, msgspec.Meta(description="one domain of reverse-paths, whoever claims it")] = (
        Amounts()
    )
    networks: Annotated[tuple[Network, ...], msgspec.Meta(description="clients that are not counted")] = ()


class Plugin:
    Settings = RatelimitSettings

    def __init__(self, settings: RatelimitSettings, services: Services) -> None:
        self._networks = settings.networks
        self._limits = tuple(_limits(settings))
        self._table = services.table
        self._now = services.now
        self._log = services.log

    @hookimpl
    def smtp_mail(self, peer: Peer, envelope: Envelope) -> Verdict | None:
        declared = envelope.parameters.get("SIZE", "")  # RFC 1870; what comes is counted at its end
        more = {MESSAGES: 1, BYTES: int(declared) if declared.isdecimal() else 1}
        return self._look_ahead(peer, envelope, more, code=451)

    @hookimpl
    def smtp_rcpt(self, peer: Peer, envelope: Envelope, forward_path: Address) -> Verdict | None:
        more = {RECIPIENTS: len(envelope.recipients) + 1}
        return self._look_ahead(peer, envelope, more, code=452)  # RFC 5321 §4.5.3.1.10: those before it stay

    @hookimpl
    def message_check(self, peer: Peer, envelope: Envelope, content: Content) -> Verdict | None:
        """Counted here and at once, so that sessions beside each other can't exceed a limit together."""
        more = {MESSAGES: 1, RECIPIENTS: len(envelope.recipients), BYTES: content.size}
        counted: list[tuple[Count, int]] = []
        for count in self._counts(peer, envelope):
            by = more[count.limit.measure]
            counted.append((count, by))
            if self._table.increment(count.key, by, count.ends) > count.limit.most:
                for done, amount in counted:
                    self._table.increment(done.key, -amount, done.ends)
                return self._refuse(peer, count, code=451)
        return None

    def _look_ahead(self, peer: Peer, envelope: Envelope, more: dict[str, int], *, code: int) -> Verdict | None:
        """Refuse early what could not pass in the end."""
        for count in self._counts(peer, envelope):
            by = more.get(count.limit.measure)
            if by is not None and int(self._table.get(count.key) or 0) + by > count.limit.most:
                return self._refuse(peer, count, code=code)
        return None

    def _counts(self, peer: Peer, envelope: Envelope) -> Iterator[Count]:
        """What this message is counted in."""
        if not self._limits or is_within(peer.ip, self._networks):
            return
        who = {"login": peer.login, "sender_domain": envelope.reverse_path.domain, "client": ""}
        if not peer.login:
            who["client"] = str(network_of(peer.ip, _V4_BITS, _V6_BITS)).removesuffix(f"/{_V4_BITS}")
        now = self._now()
        for limit in self._limits:
            if who[limit.subject]:
                yield limit.count(who[limit.subject], now)

    def _refuse(self, peer: Peer, count: Count, *, code: int) -> Verdict:
        seconds = math.ceil(count.ends - self._now())
        log = self._log.bind(session=peer.session_id, ip=peer.ip)
        log.info("rate_limited", limit=count.words, seconds=seconds)
        named = count.words.encode("ascii", "replace").decode()  # UTF-8 is for who said SMTPUTF8 (RFC 6531 §3.7.4.2)
        return tempfail(f"Limit reached: {named}; try again in {seconds} seconds", code=code, reason=count.words)


def _limits(settings: RatelimitSettings) -> Iterator[Limit]:
    for subject in ("client", "login", "sender_domain"):
        amounts: dict[str, int] = msgspec.structs.asdict(getattr(settings, subject))
        for name, most in amounts.items():
            measure, _, unit = name.partition("_per_")
            if most:
                yield Limit(subject, measure, unit, most)
