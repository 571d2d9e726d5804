"""What a stranger says of itself and asks for, where only broken or abusive software says so (RFC 5321 §4.1.1.1, §4.5.5)."""

from __future__ import annotations

import ipaddress
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import parse_domain
from mailserv.mail.envelope import Envelope
from mailserv.mail.ip import is_within
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services
from mailserv.mail.values import Network
from mailserv.mail.verdict import Verdict, reject


class MannersSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    our_name: Annotated[bool, msgspec.Meta(description="refuse a client that says it has our hostname")] = True
    bare_address: Annotated[
        bool, msgspec.Meta(description="refuse an IP address without its brackets (RFC 5321 §4.1.3)")
    ] = True
    no_domain: Annotated[
        bool, msgspec.Meta(description="refuse what is neither a domain nor an address literal (RFC 5321 §4.1.1.1)")
    ] = True
    no_dot: Annotated[bool, msgspec.Meta(description='refuse a name of one label, as "localhost" or "PC"')] = False
    bounce_recipients: Annotated[
        int, msgspec.Meta(ge=0, description="recipients of one message with the null reverse-path; 0: any number")
    ] = 1
    networks: Annotated[tuple[Network, ...], msgspec.Meta(description="clients that may do as they like")] = ()


class Plugin:
    Settings = MannersSettings

    def __init__(self, settings: MannersSettings, services: Services) -> None:
        self._settings = settings
        self._hostname = services.hostname.lower().rstrip(".")
        self._log = services.log

    @hookimpl
    def smtp_helo(self, peer: Peer) -> Verdict | None:
        """Syntax only, and our own name: that a name is not the client's is no reason to refuse (RFC 5321 §4.1.4)."""
        if self._is_known(peer):
            return None
        found = self._fault(peer.helo)
        if found is not None:
            self._log.info("bad_manners", session=peer.session_id, ip=peer.ip, helo=peer.helo, why=found.reason)
        return found

    @hookimpl
    def smtp_data(self, peer: Peer, envelope: Envelope) -> Verdict | None:
        """A bounce answers one message and goes to the one who sent it (RFC 5321 §4.5.5, RFC 3464 §2)."""
        most = self._settings.bounce_recipients
        if not most or not envelope.reverse_path.is_null or len(envelope.recipients) <= most or self._is_known(peer):
            return None
        why = f"{len(envelope.recipients)} recipients of a message without a sender"
        self._log.info("bad_manners", session=peer.session_id, ip=peer.ip, helo=peer.helo, why=why)
        return reject("A message without a sender goes to one recipient", enhanced="5.5.3", reason=why)

    def _is_known(self, peer: Peer) -> bool:
        """A login, a client that may relay, one whom the operator knows: their software says odd things of itself."""
        return bool(peer.login) or peer.relay or peer.service != "smtp" or is_within(peer.ip, self._settings.networks)

    def _fault(self, helo: str) -> Verdict | None:
        settings = self._settings
        if settings.our_name and helo.lower().rstrip(".") == self._hostname:
            return reject("That is our name, not yours", reason="it says it has our name")
        if settings.bare_address and _is_address(helo):
            return reject("An address is written in brackets", code=501, enhanced="5.5.4", reason="a bare address")
        if settings.no_domain and not _is_domain(helo):
            return reject("That is no domain", code=501, enhanced="5.5.4", reason="no domain")
        if settings.no_dot and "." not in helo.rstrip(".") and not helo.startswith("["):
            return reject("That is no fully-qualified domain", reason="a name of one label")
        return None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.lower().removeprefix("ipv6:").removesuffix("."))
    except ValueError:
        return False
    return True


def _is_domain(text: str) -> bool:
    try:
        parse_domain(text.removesuffix("."))
    except ValueError:
        return False
    return True
