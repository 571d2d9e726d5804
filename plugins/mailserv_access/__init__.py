"""Who may connect: rules by network and service, of which the first that fits counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from mailserv import hookimpl
from mailserv.mail.ip import is_within
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services
from mailserv.mail.values import Network
from mailserv.mail.verdict import Verdict, reject

REFUSED = 554  # RFC 5321 §3.1: in place of a greeting
LONGEST = 400  # characters of a reply; with the client's address a line has at most 512 (RFC 5321 §4.5.3.1.5)


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    action: Annotated[Literal["allow", "deny"], msgspec.Meta(description="allow: no later rule is looked at")]
    networks: Annotated[tuple[Network, ...], msgspec.Meta(description="clients that it fits; none: every client")] = ()
    services: Annotated[
        tuple[Literal["smtp", "submission", "submissions", "lmtp"], ...],
        msgspec.Meta(description="services that it fits; none: each"),
    ] = ()
    reply: Annotated[str, msgspec.Meta(description="what a denied client is told")] = "Access denied"
    reason: Annotated[
        str, msgspec.Meta(description="why, for the log; never told to the client; default: the rule's number")
    ] = ""

    def fits(self, peer: Peer) -> bool:
        """Whether this client, at this service, is meant."""
        if self.services and peer.service not in self.services:
            return False
        return not self.networks or is_within(peer.ip, self.networks)


class AccessSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    rules: Annotated[
        tuple[Rule, ...], msgspec.Meta(description="in order, the first that fits counts; none fits: allow")
    ] = ()


class Plugin:
    Settings = AccessSettings

    def __init__(self, settings: AccessSettings, services: Services) -> None:
        self._rules = settings.rules
        self._log = services.log

    @hookimpl
    def check_config(self) -> Iterable[str]:
        for number, rule in enumerate(self._rules, 1):
            said = rule.reply
            if not (said.isascii() and said.isprintable() and 0 < len(said) <= LONGEST):  # RFC 5321 §4.2: textstring
                yield f"rules.reply: rule {number}: has to be one line of at most {LONGEST} printable ASCII characters"

    @hookimpl
    def smtp_connect(self, peer: Peer) -> Verdict | None:
        for number, rule in enumerate(self._rules, 1):
            if rule.fits(peer):
                return self._deny(peer, rule, number) if rule.action == "deny" else None
        return None

    def _deny(self, peer: Peer, rule: Rule, number: int) -> Verdict:
        why = rule.reason or f"rule {number}"
        self._log.info("access_denied", session=peer.session_id, ip=peer.ip, service=peer.service, rule=number, why=why)
        return reject(f"{rule.reply} ([{peer.ip}])", code=REFUSED, reason=why)
