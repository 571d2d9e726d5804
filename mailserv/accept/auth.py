"""AUTH on an SMTP session (RFC 4954): the exchange of lines, then the login."""

from __future__ import annotations

from mailserv.filter.logins import LoggedIn, Logins
from mailserv.mail import reply
from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply
from mailserv.protocol.sasl import Challenge, Credentials, SaslExchange, SaslFailed


class AuthDialogue:
    """One AUTH command's exchange. The session's thread."""

    def __init__(self, logins: Logins, peer: Peer) -> None:
        self._logins = logins
        self._peer = peer
        self._exchange = SaslExchange()
        self.login = ""

    def start(self, mechanism: str, initial: str | None) -> Challenge | Reply:
        """The first challenge, or at once the end."""
        return self._next(self._exchange.start(mechanism, initial))

    def step(self, line: bytes | None) -> Challenge | Reply:
        """The client's next line; None when it cancelled with "*"."""
        if line is None:
            return Reply(501, "5.7.0", "Authentication cancelled")
        return self._next(self._exchange.step(line))

    def _next(self, step: Challenge | Credentials | SaslFailed) -> Challenge | Reply:
        match step:
            case Challenge():
                return step
            case SaslFailed(reply=failure):
                return failure
            case Credentials(authcid=name, authzid=other, password=password):
                return self._log_in(name, other, password)

    def _log_in(self, name: str, other: str, password: str) -> Reply:
        if other and other.casefold() != name.casefold():
            return reply.AUTH_FAILED  # nobody acts for somebody else
        peer = self._peer
        result = self._logins.check(name, password, ip=peer.ip, service=peer.service, session_id=peer.session_id)
        if isinstance(result, LoggedIn):
            self.login = result.address
            return reply.AUTHENTICATED
        if result.throttled:
            return reply.AUTH_THROTTLED
        return reply.AUTH_UNAVAILABLE if result.retry_later else reply.AUTH_FAILED
