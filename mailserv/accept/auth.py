"""AUTH on an SMTP session (RFC 4954): what a login comes to, as replies."""

from __future__ import annotations

from mailserv.filter.logins import LoggedIn, LoginRefused, Logins
from mailserv.filter.sasl_login import LoginStep, SaslLogin
from mailserv.mail import reply
from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply
from mailserv.mail.sasl import SaslFailed
from mailserv.protocol.sasl import Challenge


class AuthDialogue:
    """One AUTH command's exchange. The session's thread."""

    def __init__(self, logins: Logins, peer: Peer, hostname: str) -> None:
        self._exchange = SaslLogin(logins, peer, hostname)
        self.login = ""

    def start(self, mechanism: str, initial: str | None) -> Challenge | Reply:
        """The first challenge, or at once the end."""
        return self._answer(self._exchange.start(mechanism, initial))

    def step(self, line: bytes | None) -> Challenge | Reply:
        """The client's next line; None when it cancelled with "*"."""
        return self._answer(self._exchange.step(line))

    def _answer(self, step: LoginStep) -> Challenge | Reply:
        match step:
            case Challenge():
                return step
            case SaslFailed(reply=failure):
                return failure
            case LoggedIn(address=address):
                self.login = address
                return reply.AUTHENTICATED
            case LoginRefused(throttled=True):
                return reply.AUTH_THROTTLED
            case LoginRefused(retry_later=later):
                return reply.AUTH_UNAVAILABLE if later else reply.AUTH_FAILED
