"""XCLIENT (https://www.postfix.org/XCLIENT_README.html): a trusted proxy says which client it speaks for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail import reply
from mailserv.mail.extension import Become, SessionView, SMTPExtension, Verb, VerbAnswer
from mailserv.mail.ip import is_within, merged, parse_ip
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services
from mailserv.mail.reply import Reply
from mailserv.mail.value import replace
from mailserv.mail.values import Network
from mailserv.mail.xtext import decode_xtext

ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
UNKNOWN = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
NO_ADDRESS = "0.0.0.0"  # nobody connects from it: a client that is not known has no rights of its proxy
BAD_VALUE = Reply(501, "5.5.4", "Bad XCLIENT attribute")
_HELO = re.compile(r"[\w.\-:\[\]!#$%&'*+/=?^`{|}~]{1,255}", re.ASCII)  # as EHLO takes it: it will stand in Received


class XclientSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    networks: Annotated[
        tuple[Network, ...], msgspec.Meta(description="proxies that are believed, also when they name a login")
    ] = ()


def read_attributes(argument: str) -> dict[str, str] | None:
    """NAME=value in capitals → decoded value, "" for what the proxy does not know; None for what is no such list."""
    found: dict[str, str] = {}
    for word in argument.split():
        name, equals, value = word.partition("=")
        name = name.upper()
        if not equals or name not in ATTRIBUTES or name in found:
            return None
        try:
            text = decode_xtext(value)
        except ValueError:
            return None
        found[name] = "" if text.upper() in UNKNOWN else text
    return found or None


def claimed(peer: Peer, found: dict[str, str]) -> Peer | None:
    """The client that is spoken for; None for a bad value. NAME, PROTO and where it connected to change nothing here."""
    ip = found.get("ADDR", peer.ip) or NO_ADDRESS
    port, helo = found.get("PORT") or "0", found.get("HELO", "")
    try:
        ip = str(parse_ip(re.sub(r"(?i)^ipv6:", "", ip)))  # without a zone, which may hold any character
    except ValueError:
        return None
    if not (port.isascii() and port.isdigit() and len(port) < 6) or (helo and not _HELO.fullmatch(helo)):
        return None
    login = found.get("LOGIN", "").casefold()
    if not login.isprintable():
        return None
    return replace(peer, ip=ip, port=int(port), helo=helo, login=login)


class Plugin:
    Settings = XclientSettings

    def __init__(self, settings: XclientSettings, services: Services) -> None:
        self._networks = settings.networks

    @hookimpl
    def check_config(self) -> Iterable[str]:
        for network in merged(self._networks):
            if not network.prefixlen:
                yield f"networks: {network} is everybody: that is an open relay"

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        verb = Verb("XCLIENT", self._believe, in_transaction=False, help="XCLIENT NAME=value…: for trusted proxies")
        attributes = " ".join(ATTRIBUTES)
        return [SMTPExtension("XCLIENT", lambda view: attributes if self._trusts(view.peer) else None, verbs=(verb,))]

    def _trusts(self, peer: Peer) -> bool:
        return is_within(peer.ip, self._networks)

    def _believe(self, view: SessionView, argument: str) -> VerbAnswer:
        if not self._trusts(view.peer):
            return reply.NOT_FOR_YOU
        found = read_attributes(argument)
        peer = claimed(view.peer, found) if found else None
        return Become(peer) if peer else BAD_VALUE
