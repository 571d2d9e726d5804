"""The door for SMTP service extensions (RFC 5321 §2.2): what mailserv ships goes through it as anybody's does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mailserv.mail.address import Address
from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply
from mailserv.mail.resolution import Resolution
from mailserv.mail.value import Value, field

SMTP_SERVICES = frozenset({"smtp", "submission", "submissions", "lmtp"})


class SessionView(Value, frozen=True):
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
    verbs: Mapping[str, str]  # every verb that extensions bring to this session, with its `help`


class StartTLS(Value, frozen=True):
    """A verb's answer: send this reply, then make the handshake (RFC 3207)."""

    reply: Reply


class StartAuth(Value, frozen=True):
    """A verb's answer: run this SASL mechanism (RFC 4954). `initial` is the base64 initial response, None without one."""

    mechanism: str
    initial: str | None


class LookUp(Value, frozen=True):
    """A verb's answer: find out where mail for `address` goes, and say what `tell` makes of it (RFC 5321 §3.5).

    An address without a domain is one of the first local domain. `tell(address, resolution)`, with the domain, is called
    on the session's thread.
    """

    address: Address
    tell: Callable[[Address, Resolution], Reply]


class StartQueue(Value, frozen=True):
    """A verb's answer: try now what waits for `domain`, with `subdomains` also for those of it (RFC 1985), and say what
    `tell` makes of the number of messages. `tell` is called on the session's thread."""

    domain: str
    subdomains: bool
    tell: Callable[[int], Reply]


class Become(Value, frozen=True):
    """A verb's answer: go on as if this client had just connected (XCLIENT): hooks, greeting and all.

    Of `peer` its ip, port, helo and login count. Only for clients whose word is taken for it: a login is not checked.
    """

    peer: Peer


VerbAnswer = Reply | StartTLS | StartAuth | LookUp | StartQueue | Become


class Payload(Value, frozen=True):
    """What follows a command's line: so many octets, a chunk of the content (RFC 3030 §2). `is_last`: it ends with them."""

    octets: int
    is_last: bool


class Verb(Value, frozen=True):
    """A command. `handle(view, argument)` is called on the session's thread; `argument` is the text after the verb. What
    it has to remember of a session it keeps by `view.peer.session_id`, until the hook `session_closed`.

    `needs_greeting`: 503 before EHLO/HELO. `in_transaction`: whether it may come between MAIL and the end of data.
    `payload(argument)`: the verb brings content. The server takes it, also where it must refuse it, and calls this
    instead of `handle`; None for an argument that says no length ends the session, for nobody knows what follows.
    """

    name: str
    handle: Callable[[SessionView, str], VerbAnswer]
    needs_greeting: bool = False
    in_transaction: bool = True
    help: str = ""
    payload: Callable[[str], Payload | None] | None = None


class Parameter(Value, frozen=True):
    """A parameter of MAIL or RCPT. `check(view, value)` refuses with a Reply or returns None; `value` None without "=".

    `growth` is how many octets it may add to the command line (RFC 5321 §4.5.3.1.4 lets an extension say so).
    `values`, in capitals: only these are this extension's; others may bring more of them (BODY: RFC 6152, RFC 3030).
    It is kept with the envelope, for hooks and transports; what the transport "smtp" tells a next hop of is DSN's, besides
    SIZE, BODY and SMTPUTF8, and no other.
    """

    name: str
    check: Callable[[SessionView, str | None], Reply | None]
    growth: int = 0
    values: frozenset[str] | None = None

    @property
    def claims(self) -> tuple[str, ...]:
        """What no two extensions may bring: the name, or the name with each of its values."""
        name = self.name.upper()
        return (name,) if self.values is None else tuple(f"{name}={value}" for value in sorted(self.values))


class SMTPExtension(Value, frozen=True):
    """One EHLO keyword with what it brings. `advertise`: the text after the keyword, "" for none; or a function of the
    session that gives it, or None: not now.

    A keyword of "" advertises nothing: the extension brings verbs only (HELP is advertised, EXPN may be, …).
    A parameter is accepted only when its extension is offered, which is when its text is not None.
    """

    keyword: str
    advertise: str | Callable[[SessionView], str | None]
    verbs: tuple[Verb, ...] = ()
    mail_params: tuple[Parameter, ...] = ()
    rcpt_params: tuple[Parameter, ...] = ()
    services: frozenset[str] = field(default=SMTP_SERVICES)

    def text(self, view: SessionView) -> str | None:
        """What is advertised to this session now."""
        return self.advertise if isinstance(self.advertise, str) else self.advertise(view)
