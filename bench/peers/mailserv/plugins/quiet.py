"""Listens to everything that a session says and has no opinion. Copied under many names."""

# ruff: noqa: ARG002 - a hook is called with what its specification says, used or not
from __future__ import annotations

from mailserv import hookimpl
from mailserv.mail.address import Address
from mailserv.mail.envelope import Envelope
from mailserv.mail.message import Content
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        self._name = services.name

    @hookimpl
    def smtp_connect(self, peer: Peer) -> None:
        return None

    @hookimpl
    def smtp_helo(self, peer: Peer) -> None:
        return None

    @hookimpl
    def smtp_mail(self, peer: Peer, envelope: Envelope) -> None:
        return None

    @hookimpl
    def smtp_rcpt(self, peer: Peer, envelope: Envelope, forward_path: Address) -> None:
        return None

    @hookimpl
    def smtp_data(self, peer: Peer, envelope: Envelope) -> None:
        return None

    @hookimpl
    def message_check(self, peer: Peer, envelope: Envelope, content: Content) -> None:
        return None

    @hookimpl
    def message_accepted(self, queue_id: str, peer: Peer, envelope: Envelope) -> None:
        return None
