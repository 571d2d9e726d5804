"""VRFY (RFC 5321 §3.5.3): 252, which tells nobody who lives here."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv import hookimpl
from mailserv.mail import reply
from mailserv.mail.extension import SessionView, SMTPExtension, Verb, VerbAnswer
from mailserv.mail.plugin import Services


def verify(view: SessionView, argument: str) -> VerbAnswer:
    return reply.CANNOT_VERIFY if argument else reply.SYNTAX


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        return [SMTPExtension("VRFY", lambda _: "", verbs=(Verb("VRFY", verify, help="VRFY address: always 252"),))]
