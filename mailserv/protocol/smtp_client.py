"""The client's side of SMTP before the first message: greeting, EHLO or HELO, STARTTLS, AUTH (RFC 5321 §3.1, §3.2).

A dialogue is a generator: it yields what to do (`Say`, `Handshake`), is sent the reply, and returns how it ended. It
knows no socket, so a test can be the server. The transactions that follow are in `smtp_transaction`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from mailserv.mail.reply import Reply, Severity
from mailserv.mail.smtp_reply import ServerReply

NO_TLS = Reply(451, "4.7.4", "TLS is required here, but the server does not offer it")
NO_TLS_FOR_LOGIN = Reply(451, "4.7.11", "Our login is given over TLS only, and there is none")
NO_MECHANISM = Reply(451, "4.7.4", "The server offers neither AUTH PLAIN nor AUTH LOGIN")


class Step(Enum):
    """What the client does or waits for; each has its timeout (RFC 5321 §4.5.3.2). The value is for people."""

    CONNECT = "the connection"
    GREETING = "the greeting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    HANDSHAKE = "the TLS handshake"
    AUTH = "AUTH"
    RSET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BLOCK = "the content"
    DOT = "the end of data"
    QUIT = "QUIT"

    __hash__ = object.__hash__  # by identity, as equality is: Enum's own costs a Python call on every look-up


class TLSWish(Enum):
    """Whether to use STARTTLS (RFC 3207). What a certificate must prove is the caller's matter."""

    NEVER = "never"
    IF_OFFERED = "if offered"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Login:
    """Credentials for a smarthost (RFC 4954). `needs_tls`: they are not given away in the clear."""

    user: str
    password: str = field(repr=False)
    needs_tls: bool = True


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What EHLO told: keyword in capitals → the rest of its line. Empty after HELO."""

    keywords: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def size_limit(self) -> int | None:
        """RFC 1870 §4: octets; None when there is no limit or none was told (also "SIZE 0")."""
        text = self.keywords.get("SIZE", "")
        return int(text) or None if text.isascii() and text.isdigit() and len(text) < 20 else None

    @property
    def recipient_limit(self) -> int | None:
        """RFC 9422 §4.2, RCPTMAX: recipients of one transaction; None when none was told."""
        return self._limit("RCPTMAX")

    @property
    def mail_limit(self) -> int | None:
        """RFC 9422 §4.1, MAILMAX: transactions of one session; None when none was told."""
        return self._limit("MAILMAX")

    def _limit(self, name: str) -> int | None:
        """RFC 9422 §3: at most six digits, no leading zero; a value that can't be read counts as not told."""
        told = self.keywords.get("LIMITS", "")
        found = re.search(rf"(?:^| ){name}=([1-9][0-9]{{0,5}})(?: |$)", told, re.IGNORECASE) if told else None
        return int(found.group(1)) if found else None

    @property
    def mechanisms(self) -> frozenset[str]:
        """SASL mechanisms on offer."""
        return frozenset(self.keywords.get("AUTH", "").upper().split())


def read_capabilities(reply: ServerReply) -> Capabilities:
    """RFC 5321 §4.1.1.1: one keyword on each line after the first; "AUTH=" is how some write it since before RFC 2554."""
    keywords: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, rest = line.replace("AUTH=", "AUTH ", 1).partition(" ")
        keywords[keyword.upper()] = f"{keywords.get(keyword.upper(), '')} {rest}".strip()
    return Capabilities(keywords)


@dataclass(frozen=True, slots=True)
class Say:
    """Send this (b"": nothing), then send the dialogue the reply that comes."""

    data: bytes
    step: Step


@dataclass(frozen=True, slots=True)
class Handshake:
    """Make the TLS handshake, then send None. Unread bytes from before it are an error (invariant 6)."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The session is ready for MAIL."""

    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class Refused:
    """The session is of no use: what the server said, or in our words what it lacks. 5xx: it will say so tomorrow too."""

    reply: Reply
    step: Step
    is_ours: bool = False  # the words are


Dialogue = Generator[Say | Handshake, ServerReply | None, Opened | Refused]
_Ask = Generator[Say | Handshake, ServerReply | None, ServerReply]
_Hello = Generator[Say | Handshake, ServerReply | None, Capabilities | Refused]


def open_session(hostname: str, tls: TLSWish, login: Login | None = None) -> Dialogue:
    """From the greeting to a session that is ready for MAIL."""
    greeting = yield from _ask(b"", Step.GREETING)
    if greeting.severity is not Severity.POSITIVE:
        return Refused(greeting.to_reply(), Step.GREETING)
    known = yield from _hello(hostname)
    if isinstance(known, Refused):
        return known
    secure = False
    if tls is not TLSWish.NEVER and "STARTTLS" in known:
        go = yield from _ask(b"STARTTLS\r\n", Step.STARTTLS)
        secure = go.severity is Severity.POSITIVE
        if secure:
            yield Handshake()
            # RFC 3207 §4.2: everything that was known before is dropped.
            known = yield from _hello(hostname)
            if isinstance(known, Refused):
                return known
        elif tls is TLSWish.ALWAYS or go.code == 421:
            return _for_now(go, Step.STARTTLS)
    if tls is TLSWish.ALWAYS and not secure:
        return Refused(NO_TLS, Step.STARTTLS, is_ours=True)
    refusal = (yield from _log_in(known, login, secure)) if login else None
    return refusal or Opened(known)


def _ask(data: bytes, step: Step) -> _Ask:
    reply = yield Say(data, step)
    assert reply is not None, "a Say is answered with a reply"
    return reply


def _hello(hostname: str) -> _Hello:
    """EHLO, and HELO where EHLO is not understood (RFC 5321 §3.2)."""
    name = hostname.encode("ascii", "replace")
    reply = yield from _ask(b"EHLO %s\r\n" % name, Step.EHLO)
    if reply.severity is Severity.POSITIVE:
        return read_capabilities(reply)
    if reply.severity is Severity.PERMANENT:
        reply = yield from _ask(b"HELO %s\r\n" % name, Step.EHLO)
        if reply.severity is Severity.POSITIVE:
            return Capabilities()
    return Refused(reply.to_reply(), Step.EHLO)


def _log_in(
    known: Capabilities, login: Login, secure: bool
) -> Generator[Say | Handshake, ServerReply | None, Refused | None]:
    """AUTH (RFC 4954). A refusal is temporary for the mail: the operator's password is wrong, not the message."""
    if login.needs_tls and not secure:
        return Refused(NO_TLS_FOR_LOGIN, Step.AUTH, is_ours=True)
    if "PLAIN" in known.mechanisms:
        token = f"\0{login.user}\0{login.password}".encode()
        reply = yield from _ask(b"AUTH PLAIN %s\r\n" % base64.b64encode(token), Step.AUTH)
    elif "LOGIN" in known.mechanisms:
        reply = yield from _ask(b"AUTH LOGIN\r\n", Step.AUTH)
        for answer in (login.user, login.password):
            if reply.code == 334:
                reply = yield from _ask(base64.b64encode(answer.encode()) + b"\r\n", Step.AUTH)
    else:
        return Refused(NO_MECHANISM, Step.AUTH, is_ours=True)
    return None if reply.severity is Severity.POSITIVE else _for_now(reply, Step.AUTH)


def _for_now(reply: ServerReply, step: Step) -> Refused:
    """A refusal of something that is not the message's fault: temporary, whatever it says of itself."""
    said = reply.to_reply()
    if said.severity is Severity.TRANSIENT:
        return Refused(said, step)
    return Refused(Reply(451, "4.7.0", f"The server answered: {said}"), step, is_ours=True)
