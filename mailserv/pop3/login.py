"""The AUTHORIZATION state (RFC 1939 §4): USER and PASS, or AUTH PLAIN (RFC 5034), to an open and locked maildrop."""

from __future__ import annotations

from dataclasses import dataclass

from mailserv.errors import StoreError
from mailserv.filter.logins import LoggedIn
from mailserv.logging import get_logger
from mailserv.mail.peer import Peer
from mailserv.pop3.context import Pop3Context
from mailserv.pop3.maildrop import Maildrop
from mailserv.protocol.sasl import Challenge, Credentials, SaslExchange, SaslFailed

_log = get_logger("pop3")

MECHANISM = "PLAIN"  # the one that RFC 5034 §4 asks for; USER and PASS are there for whom LOGIN would serve

# Response codes: RFC 2449 §8, RFC 3206.
NEEDS_TLS = "[AUTH] Log in over TLS only: say STLS first"
WRONG = "[AUTH] Wrong name or password"
LATER = "[SYS/TEMP] Cannot log in now; try again later"
THROTTLED = "[SYS/TEMP] Too many failed logins; try again later"
IN_USE = "[IN-USE] Another session has this maildrop open"
NO_MECHANISM = "Unrecognized authentication mechanism"
CANCELLED = "Authentication cancelled"
BAD_RESPONSE = "Malformed authentication response"


@dataclass(frozen=True, slots=True)
class Opened:
    """Logged in; the maildrop is this session's until it is released."""

    address: str
    maildrop: Maildrop


@dataclass(frozen=True, slots=True)
class Refused:
    """Not logged in. `counts`: a guess, of which a session has few. `close`: none may follow."""

    text: str
    counts: bool = False
    close: bool = False


class Login:
    """Logs one session in. The session's thread."""

    def __init__(self, context: Pop3Context) -> None:
        self._context = context
        self._exchange = SaslExchange()
        self.name = ""  # what USER said

    def with_password(self, peer: Peer, name: str, password: str) -> Opened | Refused:
        """Check, then open: a locked maildrop is told only to whom it belongs."""
        context = self._context
        result = context.logins.check(name, password, ip=peer.ip, service=peer.service, session_id=peer.session_id)
        if not isinstance(result, LoggedIn):
            if result.throttled:
                return Refused(THROTTLED, close=True)
            return Refused(LATER) if result.retry_later else Refused(WRONG, counts=True)
        address = result.address
        if not context.maildrops.acquire(address):
            return Refused(IN_USE)
        try:
            return Opened(address, Maildrop(context.store.maildrop(address)))
        except StoreError as error:
            context.maildrops.release(address)
            _log.error("maildrop_unavailable", session=peer.session_id, login=address, error=str(error))
            return Refused(LATER)

    def begin_exchange(self, peer: Peer, mechanism: str, initial: str | None) -> Opened | Refused | Challenge:
        """AUTH, with or without an initial response."""
        if mechanism != MECHANISM:
            return Refused(NO_MECHANISM)
        return self._after(peer, self._exchange.start(mechanism, initial))

    def step(self, peer: Peer, line: bytes | None) -> Opened | Refused | Challenge:
        """The client's next line; None when it gives up."""
        if line is None:
            return Refused(CANCELLED)
        return self._after(peer, self._exchange.step(line))

    def _after(self, peer: Peer, step: Challenge | Credentials | SaslFailed) -> Opened | Refused | Challenge:
        if isinstance(step, Challenge):
            return step
        if isinstance(step, SaslFailed):
            return Refused(BAD_RESPONSE)
        if step.authzid and step.authzid.casefold() != step.authcid.casefold():
            return Refused(WRONG, counts=True)  # nobody acts for somebody else
        return self.with_password(peer, step.authcid, step.password)
