"""What one SMTP session is remembered for: its counts, why it ended, and the log lines that say so."""

from __future__ import annotations

from mailserv import metrics
from mailserv.filter.checks import SessionChecks
from mailserv.logging import get_logger
from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply

_log = get_logger("smtp")


class Tally:
    """The session's thread. `reason` is what the log says of its end."""

    def __init__(self, asked: SessionChecks) -> None:
        self._asked = asked
        self.messages = 0
        self.errors = 0
        self.strays = 0  # recipients that are unknown here, or elsewhere and not for us to relay to
        self.failed_logins = 0
        self.reason = "lost"

    @property
    def all_errors(self) -> int:
        return self.errors + self.strays + self.failed_logins

    def refused(self, peer: Peer, command: str, answer: Reply, **more: str) -> None:
        """A command was, for a reason of ours or of a plugin's."""
        metrics.refused(peer.service, str(answer.code)).inc()
        why = self._asked.why()
        _log.info("refused", session=peer.session_id, ip=peer.ip, command=command, reply=str(answer), why=why, **more)

    def ended(self, peer: Peer, seconds: float) -> None:
        """The session is over."""
        _log.info(
            "session",
            session=peer.session_id,
            service=peer.service,
            ip=peer.ip,
            helo=peer.helo,
            tls=peer.tls.version if peer.tls else "",
            login=peer.login,
            messages=self.messages,
            errors=self.all_errors,
            seconds=seconds,
            reason=self.reason,
        )
