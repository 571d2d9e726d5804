"""Who is at the other end of a session."""

from __future__ import annotations

from mailserv.mail.value import Value


class TLSInfo(Value, frozen=True):
    """What a handshake agreed on, as `ssl.SSLSocket.version()` and `.cipher()` name it."""

    version: str
    cipher: str


LMTP = "lmtp"  # the service that neighbours reach (RFC 2033)


class Peer(Value, frozen=True):
    """The client as one command sees it; a new value is made when EHLO, TLS or AUTH change it.

    `service` is the `[[listen]]` service: smtp, submission, submissions, lmtp, pop3, pop3s.
    `helo` is what EHLO or HELO claimed, "" before; it is never trusted (RFC 5321 §4.1.4).
    `login` is the authenticated account's address, "" without AUTH.
    `relay` tells whether the address lies in `[relay] networks`.
    """

    ip: str
    port: int
    service: str
    session_id: str
    helo: str = ""
    esmtp: bool = False
    tls: TLSInfo | None = None
    login: str = ""
    relay: bool = False

    @property
    def protocol(self) -> str:
        """The "with" clause of Received (RFC 3848; UTF8 forms are made by the caller, RFC 6531 §4.3)."""
        if not self.esmtp:
            return "SMTP"
        return ("LMTP" if self.service == LMTP else "ESMTP") + ("S" if self.tls else "") + ("A" if self.login else "")

    @property
    def is_stranger(self) -> bool:
        """Whether nobody has vouched for it: no login, not in `[relay] networks`, no neighbour that speaks LMTP."""
        return not (self.login or self.relay or self.service == LMTP)
