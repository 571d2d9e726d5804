"""EXPN (RFC 5321 §3.5): whom an alias or a list stands for; told to our own only."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail import reply
from mailserv.mail.address import Address
from mailserv.mail.asked_address import Asked, read_asked
from mailserv.mail.extension import LookUp, SessionView, SMTPExtension, Verb, VerbAnswer
from mailserv.mail.ip import is_within
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services
from mailserv.mail.reply import Reply
from mailserv.mail.resolution import Resolution
from mailserv.mail.values import Network


class ExpnSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    networks: Annotated[
        tuple[Network, ...], msgspec.Meta(description="clients that may ask, besides logins and `[relay] networks`")
    ] = ()


def tell(asked: Asked, address: Address, found: Resolution) -> Reply:
    """One mailbox a line (RFC 5321 §4.2.2)."""
    if found.refusal is not None:
        return found.refusal
    if not found.is_local:
        return Reply(550, "5.1.6", "That address is not ours to expand")
    members = [f"<{address}>" for _, address in found.mailboxes] + [f"<{address}>" for address, _ in found.remotes]
    return asked.tell(250, "2.1.5", members)


class Plugin:
    Settings = ExpnSettings

    def __init__(self, settings: ExpnSettings, services: Services) -> None:
        self._networks = settings.networks

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        verb = Verb("EXPN", self._expand, help="EXPN list: its members, for those who may know")
        return [SMTPExtension("EXPN", lambda view: "" if self._may_ask(view.peer) else None, verbs=(verb,))]

    def _may_ask(self, peer: Peer) -> bool:
        return bool(peer.login) or peer.relay or is_within(peer.ip, self._networks)

    def _expand(self, view: SessionView, argument: str) -> VerbAnswer:
        if not argument:
            return reply.SYNTAX
        if not self._may_ask(view.peer):
            return reply.NOT_FOR_YOU
        asked = read_asked(argument)
        return LookUp(asked.address, partial(tell, asked)) if asked else reply.BAD_FORWARD_PATH
