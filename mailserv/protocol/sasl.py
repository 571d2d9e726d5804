"""SASL mechanisms PLAIN (RFC 4616) and LOGIN, for SMTP AUTH (RFC 4954) and POP3 AUTH (RFC 5034)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field

from mailserv.mail import reply as replies
from mailserv.mail.reply import Reply

MECHANISMS = ("PLAIN", "LOGIN")

_MAX_FIELD = 1024  # octets of a name or password; RFC 4616 §2 has 255 for the names, more is no honest password


@dataclass(frozen=True, slots=True)
class Challenge:
    """Send `data` (not yet base64), then call `step` with the client's line."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client claims, to be verified. `authzid` is "" when it asks to act as itself."""

    authcid: str
    authzid: str
    password: str = field(repr=False)  # invariant 10


@dataclass(frozen=True, slots=True)
class SaslFailed:
    """The exchange is over before there was anything to verify."""

    reply: Reply


Step = Challenge | Credentials | SaslFailed


class SaslExchange:
    """One exchange: `start`, then `step` for each line until the answer is no Challenge. One thread."""

    __slots__ = ("_next", "_username")

    def __init__(self) -> None:
        self._next: Callable[[bytes], Step] | None = None
        self._username = b""

    def start(self, mechanism: str, initial: str | None) -> Step:
        """Begin. `initial` is the base64 initial response: None without one, "=" for an empty one (RFC 4954 §4)."""
        match mechanism.upper():
            case "PLAIN":
                self._next, first = self._plain, Challenge(b"")
            case "LOGIN":
                self._next, first = self._login_name, Challenge(b"Username:")
            case _:
                return SaslFailed(replies.UNKNOWN_MECHANISM)
        if initial is None:
            return first
        return self.step(b"" if initial == "=" else initial.encode("utf-8"))

    def step(self, line: bytes | None) -> Step:
        """The client's line, in base64. None: it cancelled the exchange."""
        go_on, self._next = self._next, None
        if go_on is None:
            raise RuntimeError("the exchange is over, or has not begun")
        if line is None:
            return SaslFailed(replies.AUTH_CANCELLED)
        try:
            return go_on(base64.b64decode(line, validate=True))
        except (binascii.Error, ValueError):  # ValueError: UnicodeDecodeError too
            return SaslFailed(replies.AUTH_BAD_RESPONSE)

    def _plain(self, message: bytes) -> Step:
        """RFC 4616 §2: [authzid] NUL authcid NUL passwd."""
        parts = message.split(b"\0")
        if len(parts) != 3:
            return SaslFailed(replies.AUTH_BAD_RESPONSE)
        return _credentials(authzid=parts[0], authcid=parts[1], password=parts[2])

    def _login_name(self, name: bytes) -> Step:
        self._username = name
        self._next = self._login_password
        return Challenge(b"Password:")

    def _login_password(self, password: bytes) -> Step:
        return _credentials(authzid=b"", authcid=self._username, password=password)


def _credentials(*, authzid: bytes, authcid: bytes, password: bytes) -> Step:
    """Raises UnicodeDecodeError."""
    if not authcid or not password or max(len(authzid), len(authcid), len(password)) > _MAX_FIELD:
        return SaslFailed(replies.AUTH_BAD_RESPONSE)
    name = authcid.decode("utf-8")
    acting_for = authzid.decode("utf-8")
    if not (name.isprintable() and acting_for.isprintable()):
        return SaslFailed(replies.AUTH_BAD_RESPONSE)
    return Credentials(name, acting_for, password.decode("utf-8"))
