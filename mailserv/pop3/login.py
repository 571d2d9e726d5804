"""The AUTHORIZATION state (RFC 1939 §4): USER and PASS, or AUTH (RFC 5034), to an open and locked maildrop."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from mailserv.errors import PluginError, StoreError
from mailserv.filter.logins import LoggedIn, LoginRefused
from mailserv.filter.sasl_login import LoginStep, SaslLogin
from mailserv.logging import get_logger
from mailserv.mail import reply
from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply, Severity
from mailserv.mail.sasl import Credentials, Proof, SaslFailed
from mailserv.pop3.context import Pop3Context
from mailserv.pop3.opening import SessionMaildrop, open_maildrop
from mailserv.pop3.surrogates import WithSurrogates
from mailserv.protocol.sasl import Challenge

_log = get_logger("pop3")

# Response codes: RFC 2449 §8, RFC 3206.
NEEDS_TLS = "[AUTH] Log in over TLS only: say STLS first"
WRONG = "[AUTH] Wrong name or password"
LATER = "[SYS/TEMP] Cannot log in now; try again later"
THROTTLED = "[SYS/TEMP] Too many failed logins; try again later"
IN_USE = "[IN-USE] Another session has this maildrop open"
BAD_RESPONSE = "Malformed authentication response"


@dataclass(frozen=True, slots=True)
class Opened:
    """Logged in; the maildrop is this session's until it is closed and released."""

    address: str
    maildrop: SessionMaildrop


@dataclass(frozen=True, slots=True)
class Refused:
    """Not logged in. `counts`: a guess, of which a session has few. `close`: none may follow."""

    text: str
    counts: bool = False
    close: bool = False


class Login:
    """Logs one session in. The session's thread. `is_utf8`: UTF8 was said before (RFC 6856 §2)."""

    def __init__(self, context: Pop3Context, peer: Peer) -> None:
        self._context = context
        self._peer = peer
        self._exchange = SaslLogin(context.logins, peer, context.settings.hostname)
        self.name = ""  # what USER said
        self.is_utf8 = False

    def with_password(self, password: str) -> Opened | Refused:
        """USER and PASS."""
        peer = self._peer
        check = self._context.logins.check
        return self._open(check(self.name, password, ip=peer.ip, service=peer.service, session_id=peer.session_id))

    def begin_exchange(self, mechanism: str, initial: str | None) -> Opened | Refused | Challenge:
        """AUTH, with or without an initial response."""
        return self._after(self._exchange.start(mechanism, initial))

    def step(self, line: bytes | None) -> Opened | Refused | Challenge:
        """The client's next line; None when it gives up."""
        return self._after(self._exchange.step(line))

    def with_outcome(self, outcome: Credentials | Proof) -> Opened | Refused:
        """A command of an extension has found out who this is, or what to look at."""
        return self._open(self._exchange.judge(outcome))

    def _after(self, step: LoginStep) -> Opened | Refused | Challenge:
        match step:
            case Challenge():
                return step
            case SaslFailed(reply=failure):
                return Refused(_text(failure))
            case _:
                return self._open(step)

    def _open(self, result: LoggedIn | LoginRefused) -> Opened | Refused:
        """A locked maildrop is told only to whom it belongs."""
        context = self._context
        if not isinstance(result, LoggedIn):
            if result.throttled:
                return Refused(THROTTLED, close=True)
            return Refused(LATER) if result.retry_later else Refused(WRONG, counts=True)
        address = result.address
        if not context.maildrops.acquire(address):
            return Refused(IN_USE)
        with ExitStack() as undo:
            undo.callback(context.maildrops.release, address)  # whatever it is that keeps it from being opened
            try:
                opened = open_maildrop(context.store, context.runner, address, context.maildrops.listings)
                if not self.is_utf8 and opened.snapshot.has_utf8:
                    opened = WithSurrogates(opened)
            except (StoreError, PluginError) as error:
                _log.error("maildrop_unavailable", session=self._peer.session_id, login=address, error=str(error))
                return Refused(LATER)
            undo.pop_all()
            return Opened(address, opened)


def _text(failure: Reply) -> str:
    """SMTP's replies to AUTH in POP3's words."""
    if failure == reply.AUTH_BAD_RESPONSE:
        return BAD_RESPONSE
    return LATER if failure.severity is Severity.TRANSIENT else failure.text
