"""Sends away whoever says our own name in EHLO: only a liar does."""

from __future__ import annotations

from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.envelope import Envelope
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services
from mailserv.mail.verdict import Verdict, reject


class HelloSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """[plugin.hello]"""

    names: Annotated[tuple[str, ...], msgspec.Meta(description="further names that are ours and nobody else's")] = ()


class Plugin:
    Settings = HelloSettings

    def __init__(self, settings: HelloSettings, services: Services) -> None:
        self._ours = {services.hostname.lower(), *(name.lower() for name in settings.names)}
        self._log = services.log

    @hookimpl
    def smtp_helo(self, peer: Peer) -> Verdict | None:
        if peer.relay or peer.helo.lower() not in self._ours:
            return None
        return reject("That is my name; please say yours", reason=f"{peer.ip} says that it is {peer.helo}")

    @hookimpl
    def message_accepted(self, queue_id: str, peer: Peer, envelope: Envelope) -> None:
        self._log.info("hello", queue_id=queue_id, helo=peer.helo, recipients=len(envelope.recipients))
