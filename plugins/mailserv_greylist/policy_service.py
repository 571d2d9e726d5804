"""Postfix asks (SMTPD_POLICY_README): attributes of one recipient, an empty line; an action, an empty line."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mailserv.mail.address import NULL_REVERSE_PATH, Address, parse_mailbox
from mailserv.mail.envelope import Envelope
from mailserv.mail.peer import Peer
from mailserv.mail.verdict import Verdict

LONGEST = 64 * 1024  # octets of one request; Postfix sends some two thousand
Ask = Callable[[Peer, Envelope, Address], Verdict | None]


class PolicyConversation:
    """One connection of a Postfix; it sends many requests over it, one after the other."""

    def __init__(self, asking: Peer, ask: Ask) -> None:
        self._asking = asking
        self._ask = ask
        self._buffer = b""
        self.is_over = False

    def opening(self) -> bytes:
        return b""

    def receive(self, data: bytes) -> bytes:
        *requests, self._buffer = (self._buffer + data).split(b"\n\n")
        self.is_over = len(self._buffer) > LONGEST
        return b"".join(f"action={self._action(request)}\n\n".encode() for request in requests)

    def _action(self, request: bytes) -> str:
        lines = request.decode("utf-8", "replace").split("\n")
        attributes = {name: value for name, _, value in (line.partition("=") for line in lines)}
        if attributes.get("protocol_state") != "RCPT" or attributes.get("sasl_username"):
            return "DUNNO"  # who has logged in is no stranger
        try:
            verdict = self._ask(*self._envelope(attributes))
        except ValueError:  # no address, as Postfix writes "unknown"
            return "DUNNO"
        return "DUNNO" if verdict is None else f"DEFER_IF_PERMIT {verdict.reply.enhanced} {verdict.reply.text}"

    def _envelope(self, attributes: Mapping[str, str]) -> tuple[Peer, Envelope, Address]:
        ip, sender = attributes.get("client_address", ""), attributes.get("sender", "")
        peer = Peer(ip, 0, "smtp", self._asking.session_id, helo=attributes.get("helo_name", ""))
        reverse_path = parse_mailbox(sender) if sender else NULL_REVERSE_PATH
        return peer, Envelope(reverse_path), parse_mailbox(attributes.get("recipient", ""))
