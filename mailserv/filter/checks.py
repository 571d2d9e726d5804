"""The deciding hooks, each in its place: may this pass? Our own rules have been asked before."""

from __future__ import annotations

from mailserv.hooks.runner import Runner
from mailserv.mail.address import Address
from mailserv.mail.envelope import Envelope
from mailserv.mail.message import Content
from mailserv.mail.peer import Peer
from mailserv.mail.verdict import Verdict


class Checks:
    """A typed face for the runner: one method for each deciding hook. The session's thread."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def connect(self, peer: Peer) -> Verdict | None:
        return self._runner.decide("smtp_connect", peer=peer)

    def helo(self, peer: Peer) -> Verdict | None:
        return self._runner.decide("smtp_helo", peer=peer)

    def mail(self, peer: Peer, envelope: Envelope) -> Verdict | None:
        return self._runner.decide("smtp_mail", peer=peer, envelope=envelope)

    def rcpt(self, peer: Peer, envelope: Envelope, forward_path: Address) -> Verdict | None:
        return self._runner.decide("smtp_rcpt", peer=peer, envelope=envelope, forward_path=forward_path)

    def data(self, peer: Peer, envelope: Envelope) -> Verdict | None:
        return self._runner.decide("smtp_data", peer=peer, envelope=envelope)

    def message(self, peer: Peer, envelope: Envelope, content: Content) -> Verdict | None:
        return self._runner.decide("message_check", peer=peer, envelope=envelope, content=content)

    def accepted(self, queue_id: str, peer: Peer, envelope: Envelope) -> None:
        self._runner.notify("message_accepted", queue_id=queue_id, peer=peer, envelope=envelope)

    def session_closed(self, peer: Peer, messages: int, errors: int, seconds: float, reason: str) -> None:
        self._runner.notify(
            "session_closed", peer=peer, messages=messages, errors=errors, seconds=seconds, reason=reason
        )
