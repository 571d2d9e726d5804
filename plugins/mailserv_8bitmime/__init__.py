"""8BITMIME (RFC 6152): content may use all eight bits; BODY says whether it does."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv import hookimpl
from mailserv.mail import reply
from mailserv.mail.extension import Parameter, SessionView, SMTPExtension
from mailserv.mail.plugin import Services
from mailserv.mail.reply import Reply

GROWTH = 14  # octets: " BODY=8BITMIME"
VALUES = frozenset({"7BIT", "8BITMIME"})  # of BODY; BINARYMIME is another extension's


def check(view: SessionView, value: str | None) -> Reply | None:
    return None if value is not None and value.upper() in VALUES else reply.SYNTAX


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        body = Parameter("BODY", check, growth=GROWTH, values=VALUES)
        return [SMTPExtension("8BITMIME", "", mail_params=(body,))]
