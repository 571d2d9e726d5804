"""AUTH (RFC 4954): logins on the submission services, and only where nobody can listen."""

from __future__ import annotations

from collections.abc import Iterable

from mailserv import hookimpl
from mailserv.mail import reply
from mailserv.mail.extension import Parameter, SessionView, SMTPExtension, StartAuth, Verb, VerbAnswer
from mailserv.mail.plugin import Services
from mailserv.mail.reply import Reply
from mailserv.mail.xtext import decode_xtext

GROWTH = 500  # octets that AUTH= adds to MAIL, RFC 4954 §3
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Unrecognized authentication mechanism")
SERVICES = frozenset({"submission", "submissions"})


def advertise(view: SessionView) -> str | None:
    return " ".join(view.mechanisms) if view.can_authenticate and view.mechanisms else None


def authenticate(view: SessionView, argument: str) -> VerbAnswer:
    """RFC 4954 §4: one login a session, none inside a transaction."""
    mechanism, _, initial = argument.partition(" ")
    if view.peer.login:
        return reply.BAD_SEQUENCE
    if not mechanism:
        return reply.SYNTAX
    if not view.can_authenticate:
        return reply.AUTH_NEEDS_TLS
    if mechanism.upper() not in view.mechanisms:
        return UNKNOWN_MECHANISM
    return StartAuth(mechanism.upper(), initial.strip() or None)


def check_mail_parameter(view: SessionView, value: str | None) -> Reply | None:
    """RFC 4954 §5: an xtext, of a mailbox or `<>`; its claim is noted and not believed."""
    try:
        decode_xtext(value or "")
    except ValueError:
        return reply.SYNTAX
    return None if value else reply.SYNTAX


class Plugin:
    def __init__(self, settings: None, services: Services) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        verb = Verb("AUTH", authenticate, needs_greeting=True, in_transaction=False, help="AUTH mechanism (RFC 4954)")
        parameter = Parameter("AUTH", check_mail_parameter, growth=GROWTH)
        return [
            SMTPExtension("AUTH", advertise, verbs=(verb,), services=SERVICES),
            SMTPExtension("", "", mail_params=(parameter,), services=SERVICES),  # also after the login, RFC 4954 §5
        ]
