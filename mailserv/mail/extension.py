"""The door for SMTP service extensions (RFC 5321 §2.2): what mailserv ships goes through it as anybody's does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply

SMTP_SERVICES = frozenset({"smtp", "submission", "submissions"})


@dataclass(frozen=True, slots=True)
class SessionView:
    """What an extension may know of the session when it is asked: values only (invariant 8)."""

    peer: Peer
    hostname: str
    message_size: int  # octets, the limit
    recipients: int  # the limit of one transaction for this client
    can_start_tls: bool  # a certificate is set and TLS is not yet on
    can_authenticate: bool  # a login may be given now: not yet done, and safe here
    mechanisms: tuple[str, ...]  # SASL mechanisms on offer
    in_transaction: bool
    is_smtputf8: bool
    verbs: tuple[str, ...]  # every verb of this session, for HELP


@dataclass(frozen=True, slots=True)
class StartTLS:
    """A verb's answer: send this reply, then make the handshake (RFC 3207)."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class StartAuth:
    """A verb's answer: run this SASL mechanism (RFC 4954). `initial` is the base64 initial response, None without one."""

    mechanism: str
    initial: str | None


VerbAnswer = Reply | StartTLS | StartAuth


@dataclass(frozen=True, slots=True)
class Verb:
    """A command. `handle(view, argument)` is called on the session's thread; `argument` is the text after the verb.

    `needs_greeting`: 503 before EHLO/HELO. `in_transaction`: whether it may come between MAIL and the end of data.
    """

    name: str
    handle: Callable[[SessionView, str], VerbAnswer]
    needs_greeting: bool = False
    in_transaction: bool = True
    help: str = ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of MAIL or RCPT. `check(view, value)` refuses with a Reply or returns None; `value` None without "=".

    `growth` is how many octets it may add to the command line (RFC 5321 §4.5.3.1.4 lets an extension say so).
    """

    name: str
    check: Callable[[SessionView, str | None], Reply | None]
    growth: int = 0


@dataclass(frozen=True, slots=True)
class SMTPExtension:
    """One EHLO keyword with what it brings. `advertise(view)`: the text after the keyword, "" for none, None: not now.

    A keyword of "" advertises nothing: the extension brings verbs only (HELP is advertised, EXPN may be, …).
    `is_offered(view)` is `advertise(view) is not None`; a parameter is accepted only when its extension is offered.
    """

    keyword: str
    advertise: Callable[[SessionView], str | None]
    verbs: tuple[Verb, ...] = ()
    mail_params: tuple[Parameter, ...] = ()
    rcpt_params: tuple[Parameter, ...] = ()
    services: frozenset[str] = field(default=SMTP_SERVICES)
