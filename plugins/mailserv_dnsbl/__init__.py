"""DNS lists of clients (RFC 5782): each that has the client adds its weight, and enough of it refuses the recipient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address
from mailserv.mail.envelope import Envelope
from mailserv.mail.ip import is_within
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services
from mailserv.mail.values import Duration, Network
from mailserv.mail.verdict import Verdict, reject, tempfail
from mailserv_dnsbl.questions import Questions


class Zone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    zone: Annotated[str, msgspec.Meta(description='the list\'s domain, as "zen.spamhaus.org"')]
    name: Annotated[
        str,
        msgspec.Meta(description="what clients and the log are told in its place, where the domain has a key of yours"),
    ] = ""
    weight: Annotated[int, msgspec.Meta(ge=1, description="what a client that is listed gets")] = 1
    answers: Annotated[
        tuple[Network, ...],
        msgspec.Meta(
            description='addresses that count as listed, as "127.0.0.2" or "127.0.0.4/30"; none: all in 127/8'
        ),
    ] = ()


class DnsblSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    zones: Annotated[tuple[Zone, ...], msgspec.Meta(description="lists of clients that are not wanted")] = ()
    allow_zones: Annotated[
        tuple[Zone, ...], msgspec.Meta(description="lists of good clients: whoever is on one is let pass")
    ] = ()
    networks: Annotated[tuple[Network, ...], msgspec.Meta(description="clients about whom no list is asked")] = ()
    threshold: Annotated[int, msgspec.Meta(ge=1, description="sum of weights that refuses")] = 1
    action: Annotated[Literal["reject", "tempfail"], msgspec.Meta(description="550 5.7.1 or 451 4.7.1")] = "reject"
    time_limit: Annotated[
        Duration, msgspec.Meta(description="all lists together; one that has not answered then does not count")
    ] = Duration(5)
    pause: Annotated[
        Duration, msgspec.Meta(description="a list that failed or did not answer is not asked again for")
    ] = Duration(60)


class Plugin:
    Settings = DnsblSettings

    def __init__(self, settings: DnsblSettings, services: Services) -> None:
        self._settings = settings
        self._log = services.log
        every = (*settings.allow_zones, *settings.zones)
        self._zones = tuple(dict.fromkeys(zone.zone for zone in every))
        self._names = {zone.zone: zone.zone for zone in every} | {zone.zone: zone.name for zone in every if zone.name}
        self._questions = Questions(services, self._names, settings.time_limit, settings.pause)

    @hookimpl
    def check_config(self) -> Iterable[str]:
        for name in dict.fromkeys((*self._names, *self._names.values())):
            if not _is_domain(name):
                yield f"zones: {name!r} is no domain like zen.spamhaus.org"

    @hookimpl
    def smtp_rcpt(self, peer: Peer, envelope: Envelope, forward_path: Address) -> Verdict | None:
        if not peer.is_stranger or forward_path.local_part.lower() == "postmaster":
            return None  # who is on a list by mistake has to reach somebody (RFC 5321 §4.5.1)
        if not self._settings.zones or is_within(peer.ip, self._settings.networks):
            return None
        answers = self._questions.ask(peer.ip, self._zones)
        listed = _listing(self._settings.zones, answers)
        score = sum(zone.weight for zone in listed)
        if not listed or _listing(self._settings.allow_zones, answers):
            return None
        names = ", ".join(dict.fromkeys(self._names[zone.zone] for zone in listed))
        refused = score >= self._settings.threshold
        log = self._log.bind(session=peer.session_id, ip=peer.ip)
        log.info("dnsbl_listed", zones=names, score=score, refused=refused)
        if not refused:
            return None
        is_final = self._settings.action == "reject" and all(z.zone in answers for z in self._settings.allow_zones)
        make = reject if is_final else tempfail  # a list of good clients that gives no answer now may have this one
        reason = f"score {score} of {self._settings.threshold}: {names}"
        return make(f"Client [{peer.ip}] is listed by {names}", reason=reason)

    @hookimpl
    def shutdown(self) -> None:
        self._questions.close()


def _is_domain(name: str) -> bool:
    is_text = name.isascii() and name.isprintable() and " " not in name
    return is_text and all(0 < len(label) < 64 for label in name.rstrip(".").split("."))


def _listing(zones: Iterable[Zone], answers: dict[str, tuple[str, ...]]) -> list[Zone]:
    """The zones that have the client, by what they answered."""
    return [zone for zone in zones if any(_counts(zone, answer) for answer in answers.get(zone.zone, ()))]


def _counts(zone: Zone, answer: str) -> bool:
    return not zone.answers or is_within(answer, zone.answers)
