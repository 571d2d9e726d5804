"""One AUTH command, from its mechanism to the login: what SMTP (RFC 4954) and POP3 (RFC 5034) share."""

from __future__ import annotations

from functools import partial

from mailserv.filter.logins import LoggedIn, LoginRefused, Logins
from mailserv.mail import reply
from mailserv.mail.peer import Peer
from mailserv.mail.sasl import Credentials, Proof, SaslFailed, SaslView
from mailserv.protocol.sasl import Challenge, SaslExchange, Step

LoginStep = Challenge | LoggedIn | LoginRefused | SaslFailed


class SaslLogin:
    """`start`, then `step` for each line of the client until the answer is no Challenge. The session's thread."""

    def __init__(self, logins: Logins, peer: Peer, hostname: str) -> None:
        self._logins = logins
        self._peer = peer
        self._hostname = hostname
        self._exchange = SaslExchange()

    def start(self, mechanism: str, initial: str | None) -> LoginStep:
        """`mechanism` in capitals; `initial` as in SaslExchange."""
        found = self._logins.mechanism(mechanism, self._peer.service)
        if found is None:
            return SaslFailed(reply.UNKNOWN_MECHANISM)
        view = SaslView(self._peer, self._hostname, partial(self._logins.look_up, mechanism))
        return self._after(self._exchange.start(found, view, initial))

    def step(self, line: bytes | None) -> LoginStep:
        """The client's next line, base64; None when it cancelled with "*"."""
        return self._after(self._exchange.step(line))

    def _after(self, step: Step) -> LoginStep:
        return step if isinstance(step, Challenge | SaslFailed) else self.judge(step)

    def judge(self, outcome: Credentials | Proof) -> LoggedIn | LoginRefused:
        """What an exchange has come to, or a command that is none (APOP)."""
        peer = self._peer
        match outcome:
            case Credentials(authcid=name, authzid=other) if other and other.casefold() != name.casefold():
                proof = Proof(name, is_good=False)  # nobody acts for somebody else
            case Credentials(authcid=name, password=password):
                return self._logins.check(name, password, ip=peer.ip, service=peer.service, session_id=peer.session_id)
            case Proof():
                proof = outcome
        return self._logins.accept(proof, ip=peer.ip, service=peer.service, session_id=peer.session_id)
