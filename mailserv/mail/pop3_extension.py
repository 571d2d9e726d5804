"""The door for POP3 extensions (RFC 2449): capabilities and commands, in the shape of `SMTPExtension`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from mailserv.mail.peer import Peer
from mailserv.mail.sasl import Credentials, Proof
from mailserv.mail.value import Value

POP3_SERVICES = frozenset({"pop3", "pop3s"})


class Pop3State(Enum):
    """RFC 1939 §3."""

    AUTHORIZATION = "authorization"
    TRANSACTION = "transaction"


BOTH_STATES = frozenset(Pop3State)


class Pop3View(Value, frozen=True):
    """What an extension may know of the session when it is asked: values only (invariant 8)."""

    peer: Peer
    hostname: str
    state: Pop3State
    timestamp: str  # of the greeting (RFC 1939 §7), "" when no extension wants one
    can_start_tls: bool  # a certificate is set and TLS is not yet on
    can_authenticate: bool  # a login may be given now: not yet done, and safe here
    mechanisms: tuple[str, ...]  # SASL mechanisms on offer
    is_utf8: bool  # UTF8 was said (RFC 6856 §2)
    messages: int  # of the maildrop, without what is marked as deleted; 0 before the login
    octets: int


class Pop3Answer(Value, frozen=True):
    """A command's answer: +OK or -ERR with one line of `text`, response codes ([SYS/TEMP], RFC 2449 §8) included.

    `lines`: what follows +OK where the answer has several; dots and the end are added.
    """

    is_positive: bool
    text: str
    lines: Sequence[str] | None = None


class UseUTF8(Value, frozen=True):
    """A command's answer: +OK with `text`, and header sections may be UTF-8 from here on (RFC 6856 §2)."""

    text: str


class LogIn(Value, frozen=True):
    """The answer of a command with `logs_in`: whom it has found; judged, throttled and logged like any login."""

    outcome: Credentials | Proof


VerbAnswer = Pop3Answer | UseUTF8 | LogIn


class Pop3Verb(Value, frozen=True):
    """A command. `handle(view, argument)` is called on the session's thread; `argument` is the text after the verb.

    `states`: elsewhere it is refused without asking. `logs_in`: it answers with LogIn, or refuses; it is not asked where a
    login may not come.
    """

    name: str
    handle: Callable[[Pop3View, str], VerbAnswer]
    states: frozenset[Pop3State] = BOTH_STATES
    logs_in: bool = False


class Pop3Extension(Value, frozen=True):
    """One capability with what it brings. `advertise`: the text after the keyword, "" for none; or a function of the
    session that gives it, or None: not now.

    A keyword of "" advertises nothing. `needs_timestamp`: the greeting ends in one, `Pop3View.timestamp` (RFC 1939 §7).
    """

    keyword: str
    advertise: str | Callable[[Pop3View], str | None]
    verbs: tuple[Pop3Verb, ...] = ()
    services: frozenset[str] = POP3_SERVICES
    needs_timestamp: bool = False

    def text(self, view: Pop3View) -> str | None:
        """What is advertised to this session now."""
        return self.advertise if isinstance(self.advertise, str) else self.advertise(view)
