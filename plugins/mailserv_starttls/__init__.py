"""STARTTLS (RFC 3207)."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv import hookimpl
from mailserv.mail import reply
from mailserv.mail.extension import SessionView, SMTPExtension, StartTLS, Verb, VerbAnswer
from mailserv.mail.plugin import Services


def start_tls(view: SessionView, argument: str) -> VerbAnswer:
    """RFC 3207 §4: no parameters; not within TLS."""
    if argument:
        return reply.SYNTAX
    return StartTLS(reply.START_TLS) if view.can_start_tls else reply.BAD_SEQUENCE


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        verb = Verb("STARTTLS", start_tls, in_transaction=False, help="STARTTLS: continue under TLS (RFC 3207)")
        return [SMTPExtension("STARTTLS", lambda view: "" if view.can_start_tls else None, verbs=(verb,))]
