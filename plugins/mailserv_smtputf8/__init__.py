"""SMTPUTF8 (RFC 6531): addresses and header fields in any script."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv import hookimpl
from mailserv.mail import reply
from mailserv.mail.extension import Parameter, SessionView, SMTPExtension
from mailserv.mail.plugin import Services
from mailserv.mail.reply import Reply

GROWTH = 10  # octets that SMTPUTF8 adds to MAIL, RFC 6531 §3.4


def check(view: SessionView, value: str | None) -> Reply | None:
    """The parameter has no value (RFC 6531 §3.4)."""
    return None if value is None else reply.SYNTAX


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        return [SMTPExtension("SMTPUTF8", "", mail_params=(Parameter("SMTPUTF8", check, growth=GROWTH),))]
