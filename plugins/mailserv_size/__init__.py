"""SIZE (RFC 1870): the client learns the limit, and may say how large its message will be."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv import hookimpl
from mailserv.mail import reply
from mailserv.mail.extension import Parameter, SessionView, SMTPExtension
from mailserv.mail.plugin import Services
from mailserv.mail.reply import Reply

GROWTH = 26  # octets that SIZE= adds to MAIL, RFC 1870 §3


def check(view: SessionView, value: str | None) -> Reply | None:
    """RFC 1870 §6.1: 552 when the declared size is over the limit. At most 20 digits (§5)."""
    if not value or not value.isascii() or not value.isdigit() or len(value) > 20:
        return reply.SYNTAX
    return reply.MESSAGE_TOO_BIG if int(value) > view.message_size else None


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        return [
            SMTPExtension(
                "SIZE",
                advertise=lambda view: str(view.message_size),
                mail_params=(Parameter("SIZE", check, growth=GROWTH),),
            )
        ]
